"""Example pipelines on the data in data/."""
