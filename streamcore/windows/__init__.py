"""State over rows of a key: what is kept of them, and when it is told."""
