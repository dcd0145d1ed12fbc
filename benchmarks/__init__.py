"""The same work done by streamcore and by peers, in one run, on one machine: ratios, not timed tests.

``make bench`` runs all; ``python -m benchmarks w1 --only streamcore`` runs one. The unit of cost is CPU
microseconds (user + system, of the whole process tree) per input message, from the first message that
is processed to the last result in the output topic: imports and start-up are not in it.
"""
