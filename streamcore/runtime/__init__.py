"""Topologies at work: Faust apps, sinks that confirm, commits that never run ahead, replays, workers."""
