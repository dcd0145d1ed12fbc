"""Bounded sources: files that are replayed as streams that end. :mod:`.catalogue` opens them."""
