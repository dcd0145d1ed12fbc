"""The shipped test kit: conformance suites and drivers, for our components and for yours."""
