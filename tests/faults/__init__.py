"""Fault tests: real workers on real servers, killed, stopped and cut off, judged by an oracle outside."""
