"""Bounded sources: what is replayed as a stream that ends. :mod:`batch_adapters.catalogue` opens them."""
