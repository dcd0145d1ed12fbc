"""The rules of a test run, as pytest plugins; ``tests/conftest.py`` loads them."""
