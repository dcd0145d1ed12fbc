"""Stateful operators: their contract, their logs, and the columns that they keep."""
