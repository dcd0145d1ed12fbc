"""docs/configuration.md and config/streamcore.yaml say what the settings models say.

``STREAMCORE_UPDATE_DOCS=1 python -m pytest tests/docs/test_configuration.py`` writes them anew.
"""

import os
import types
import typing

from pydantic_core import PydanticUndefined

from streamcore.settings import load
from streamcore.settings.loading import SECTIONS
from streamcore.settings.yaml_file import commented_file
from tests.docs.code_blocks import ROOT

PAGE = ROOT / "docs" / "configuration.md"
FILE = ROOT / "config" / "streamcore.yaml"
BEGIN, END = "<!-- settings: generated -->\n", "<!-- settings: end -->"


def kind(annotation):
    """A type as a reader would call it."""
    if typing.get_origin(annotation) is typing.Literal:
        return ", ".join(f"`{value}`" for value in typing.get_args(annotation))
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return " or ".join(kind(a) for a in typing.get_args(annotation) if a is not type(None))
    if typing.get_origin(annotation) is typing.Annotated:
        return kind(typing.get_args(annotation)[0])
    return {
        "str": "text",
        "int": "integer",
        "float": "number",
        "Path": "path",
        "bool": "boolean",
        "Secret": "secret",
    }[annotation.__name__]


def tables():
    """A heading and a table a section."""
    lines = []
    for section, model in SECTIONS.items():
        lines += [
            f"### {section}",
            "",
            model.__doc__,
            "",
            "| key | type | default | what |",
            "|---|---|---|---|",
        ]
        for key, field in model.model_fields.items():
            assert field.description, f"{section}.{key} has no description"
            assert field.default is not PydanticUndefined
            default = "" if field.default is None else f"`{field.default}`"
            lines.append(
                f"| `{section}.{key}` | {kind(field.annotation)} | {default} | {field.description} |"
            )
        lines.append("")
    return "\n".join(lines)


def with_tables(page):
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{tables()}\n{END}{rest.partition(END)[2]}"


def test_the_page_and_the_file_are_up_to_date():
    page = PAGE.read_text(encoding="utf-8")
    if os.environ.get("STREAMCORE_UPDATE_DOCS"):
        PAGE.write_text(with_tables(page), encoding="utf-8")
        FILE.write_text(commented_file(), encoding="utf-8")
        return
    assert page == with_tables(page)
    assert FILE.read_text(encoding="utf-8") == commented_file()


def test_the_commented_file_with_every_line_taken_in_gives_the_defaults(tmp_path):
    lines = []
    for line in commented_file().splitlines():
        key = line.strip().removeprefix("# ").split(":")[0]
        taken = line.startswith("  # ") and any(key in model.model_fields for model in SECTIONS.values())
        lines.append(line.replace("# ", "", 1) if taken and ": " in line else line)
    file = tmp_path / "all.yaml"
    file.write_text("\n".join(lines))
    loaded = load(file=file, environ={})
    assert loaded.settings == load(environ={}).settings
    assert len(loaded.given) == sum(len(model.model_fields) for model in SECTIONS.values())
