"""The settings file of a new project: every setting with its description and default, commented out."""

from __future__ import annotations

import textwrap
from pathlib import Path

import yaml

from streamcore.settings.model import Section, Settings

_HEAD = """\
# Settings of streamcore. Every line shows a default; take the "# " away to change one.
# The environment wins over this file (STREAMCORE_HTTP__PORT=9000), the command line over both.
# Secrets by reference: ${env:NAME}, ${file:PATH}, ${NAME:default}.
"""


def commented_file() -> str:
    """The text of ``config/streamcore.yaml`` with all settings at their defaults."""
    lines = [_HEAD]
    defaults = Settings()
    for section in Settings.model_fields:
        values: Section = getattr(defaults, section)
        lines.append(f"# {type(values).__doc__}\n{section}:")
        for key, inner in type(values).model_fields.items():
            lines += textwrap.wrap(
                inner.description or "", 96, initial_indent="  # ", subsequent_indent="  # "
            )
            lines.append(f"  # {key}: {_scalar(getattr(values, key))}\n")
    return "\n".join(lines)


def _scalar(value: object) -> str:
    text = yaml.safe_dump(str(value) if isinstance(value, Path) else value, width=1000)
    return text.removesuffix("\n").removesuffix("\n...")
