"""Stateless steps: functions of frames that keep the cut law."""
