"""The Python and YAML blocks of the users' guide, run as they stand, but for their import lines.

``guide.md`` is that guide, word for word. What a block leaves open, such as addresses and data, is listed in
:data:`OPEN`; who runs it puts that in, text for text, and every text must be in the block.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.docs.code_blocks import Block, blocks

PAGE = Path(__file__).parent / "guide.md"
_HEADING = re.compile(r"^#+ (?:\d+\. )?(.+)$", re.M)
_IMPORT = re.compile(r"^from src\.data_pipeline\.[\w.]+ import ", re.M)


@dataclass(frozen=True)
class Open:
    """What a block leaves to its reader: names that it does not import, and what else."""

    imports: str = ""
    fixture: str = "nothing"


OPEN: Mapping[str, Open] = {
    "Basic Pipeline Example": Open(fixture="data/input.csv"),
    "Batch Data Ingestion": Open(fixture="the address of a PostgreSQL with a table"),
    "Stream Processing": Open("import asyncio"),
    "Pipeline Configuration": Open(fixture="the address of a PostgreSQL with a table; a file of YAML"),
    "Data Source Configuration": Open(
        fixture="addresses and credentials of PostgreSQL, an API and S3, and their data; data/*.csv"
    ),
    "Data Validation Rules": Open(fixture="rows"),
    "Data Transformations": Open(fixture="rows"),
    "Monitoring and Metrics": Open(fixture="runs of the pipeline; it awaits outside of a function"),
    "Prometheus Integration": Open("from streamcore import MetricsConfig", "the port"),
    "Retry Mechanisms": Open("from streamcore import TaskConfig", "what the task does; the delay"),
    "Error Notifications": Open(
        "from streamcore import PipelineConfig",
        "what the pipeline does; a mail server; the webhook's address",
    ),
    "Parallel Processing": Open("from streamcore import BatchProcessingConfig, StreamProcessingConfig"),
    "Memory Management": Open("from streamcore import BatchIngestionConfig"),
    "Example Test": Open("from streamcore import PipelineStatus", "test_config"),
}
"""By the heading over the block."""


def guide_blocks() -> Mapping[str, Block]:
    """The blocks in Python and YAML, by their headings."""
    text = PAGE.read_text(encoding="utf-8")
    found: dict[str, Block] = {}
    for block in blocks(PAGE):
        if block.language in ("python", "yaml"):
            above = "\n".join(text.splitlines()[: block.line - 1])
            heading = _HEADING.findall(re.sub(r"^```.*?^```", "", above, flags=re.M | re.S))[-1]
            assert heading not in found, "each has a heading of its own"
            found[heading] = block
    return found


def block_of(heading: str, put: Mapping[str, str] | None = None) -> str:
    """The block below *heading*, with changed imports and with what it leaves open."""
    text = _IMPORT.sub("from streamcore import ", guide_blocks()[heading].text)
    for old, new in (put or {}).items():
        assert old in text, f"{old!r} is not in the block"
        text = text.replace(old, new)
    return f"{OPEN[heading].imports}\n{text}"


def run_block(heading: str, put: Mapping[str, str] | None = None, **names: Any) -> dict[str, Any]:
    """The names after the block has run, beside *names* that are there before."""
    found = {"__name__": "guide", **names}
    exec(compile(block_of(heading, put), heading, "exec"), found)
    return found


async def await_block(heading: str, put: Mapping[str, str] | None = None, **names: Any) -> dict[str, Any]:
    """The same of a block that awaits outside of a function."""
    found = {"__name__": "guide", **names}
    code = compile(block_of(heading, put), heading, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    made = eval(code, found)
    if inspect.iscoroutine(made):
        await made
    return found
