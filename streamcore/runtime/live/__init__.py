"""Unbounded sources at work: their rows into the streams' topics, exactly once.

::

    feed         rows -> the streams' topics on Kafka -> the group's workers -> sinks
    work_live    rows -> the embedded log -> the topology in this process -> sinks
    feed_new     as feed, and
    catch_up     as work_live: of tables that are read in runs, what is new, and then the end

The first two run until they are told to stop. All of them use the same
:class:`~streamcore.runtime.live.pump.Pump`: only the broker differs, as in ``contracts/unbounded.py``.
"""

from streamcore.runtime.live.catching_up import catch_up, changes_of, feed_new
from streamcore.runtime.live.feed import feed
from streamcore.runtime.live.worker import work_live

__all__ = ["catch_up", "changes_of", "feed", "feed_new", "work_live"]
