"""Pipelines on Kafka: state changes are published, commands are read, runs are shared by a consumer group.

::

    rows of the store -- outbox --> NAME.events    (keyed by run) --> each run's events wake the worker
                                                                      whose partition it is, and anybody else
    anybody ----------------------> NAME.commands  --> runs in the store

The rows stay the truth: a record that comes twice, late or never changes nothing but when something begins.
"""
