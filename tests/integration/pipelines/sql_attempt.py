"""An attempt at an SQL task as a process of its own, for a test that kills it: ``python -m … URI SQL``."""

from __future__ import annotations

import asyncio
import sys

from streamcore.pipelines.kinds.contract import TaskContext
from streamcore.pipelines.kinds.sql import SqlOptions, run

if __name__ == "__main__":
    given = SqlOptions.model_validate({"connection_string": sys.argv[1], "sql": sys.argv[2]})
    asyncio.run(run(given, TaskContext("p", "run", "t", 1)))
