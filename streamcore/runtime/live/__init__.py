"""Unbounded sources at work: their rows into the streams' topics, exactly once.

::

    feed         rows -> the streams' topics on Kafka -> the group's workers -> sinks
    work_live    rows -> the embedded log -> the topology in this process -> sinks

Both run until they are told to stop, over the same :class:`~streamcore.runtime.live.pump.Pump`: only the
broker differs, as in ``contracts/unbounded.py``.
"""

from streamcore.runtime.live.feed import feed
from streamcore.runtime.live.worker import work_live

__all__ = ["feed", "work_live"]
