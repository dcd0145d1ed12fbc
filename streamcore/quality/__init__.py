"""Quality of datasets: rules counted, metrics, profiles and drift, as states that merge.

Pure: frames in, states out. The cut law binds every state: however rows are cut into frames, and in whatever
order the states of the pieces are merged, what comes of them is the same.
"""
