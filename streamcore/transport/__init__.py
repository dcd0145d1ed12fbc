"""Faust transports whose messages are whole chunks of records, and the logs below them."""
