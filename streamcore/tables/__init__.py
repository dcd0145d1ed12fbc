"""Tables that streams keep up to date: groups, the best rows of each, and joins of two streams."""
