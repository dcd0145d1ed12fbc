"""The shipped test kit: conformance suites and drivers, for our components and for yours."""

from streamcore.testing.driver import Tombstone, TopologyDriver

__all__ = ["Tombstone", "TopologyDriver"]
