"""The guide's engines: topologies made of dictionaries, replayed over a dataset or brought over a frame."""
