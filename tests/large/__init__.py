"""Sources that are larger than memory should be: made fast, replayed in a process of their own."""
