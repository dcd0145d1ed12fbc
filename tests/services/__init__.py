"""Real servers for the tests, one small module each.

How a server is had, first that works: an address in the environment (``TEST_KAFKA``, ``TEST_POSTGRES`` …),
a container where a Docker engine answers, a native process that the tests install and start themselves.
The fixtures are in ``tests/conftest.py``; ``python -m tests.services up`` starts the servers for people.
"""
