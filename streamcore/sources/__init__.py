"""Unbounded sources, one file a system or a kind: what is read for ever (``contracts/unbounded.py``).

The table of all is :mod:`.catalogue`.
"""
