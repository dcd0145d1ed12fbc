"""Aggregates in SQL text: what is kept of rows, how it is merged, and what comes of it.

For one's own: an :class:`Aggregate`, a :data:`Maker` of it, and ``sc.Topology(…, aggregates={name: maker})``.
"""

from streamcore.aggregates.kinds import Aggregate, Exprs
from streamcore.aggregates.table import Maker, Two

__all__ = ["Aggregate", "Exprs", "Maker", "Two"]
