"""Typed settings: command line over environment over ``config/streamcore.yaml`` over defaults.

A setting is named ``section.key``: ``--broker`` sets ``broker.url``, so do the environment variable
``STREAMCORE_BROKER__URL`` and the lines ``broker:`` / ``url:`` of the file. The origin of each value
is kept. References (see :mod:`streamcore.secrets`) may stand in any value; they are resolved when the
settings are loaded, and shown as references.
"""

from streamcore.settings.loading import DEFAULT_FILE, Loaded, Shown, load
from streamcore.settings.model import (
    Broker,
    DeadLetters,
    Http,
    Kafka,
    Limits,
    Log,
    Notifications,
    Pipelines,
    Retry,
    Runtime,
    Settings,
    State,
)

__all__ = [
    "DEFAULT_FILE",
    "Broker",
    "DeadLetters",
    "Http",
    "Kafka",
    "Limits",
    "Loaded",
    "Log",
    "Notifications",
    "Pipelines",
    "Retry",
    "Runtime",
    "Settings",
    "Shown",
    "State",
    "load",
]
