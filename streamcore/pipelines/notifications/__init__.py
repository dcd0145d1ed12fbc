"""Notifications: people and programs are told what happened to a run.

``events`` decides what is told, in the commit that makes what it tells of. ``channels`` are the ways: e-mail,
webhook, Slack. ``messages`` makes a message of notices, ``sending`` hands it over, ``notifier`` does that in
the background, with retries.
"""
