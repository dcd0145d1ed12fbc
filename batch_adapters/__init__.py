"""Bounded sources."""
