"""Replaying bounded sources into Kafka, exactly once: for the running workers, or on topics of its own.

::

    feed             rows -> the streams' topics -> the group's workers -> sinks
    feed_isolated    rows -> topics of the replay -> the topology in this process -> sinks; topics deleted

Each stream's run is known in the control topic (:mod:`.marks`) and its rows carry their places
(:mod:`.records`), so that a run that was cut off at any point goes on without a row lost or doubled.
Two processes must not feed the same run at the same time.
"""

from streamcore.runtime.feeding.feed import feed
from streamcore.runtime.feeding.isolation import feed_isolated

__all__ = ["feed", "feed_isolated"]
