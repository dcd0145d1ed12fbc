"""Aggregates in SQL text: what is kept of rows, how it is merged, and what comes of it."""
