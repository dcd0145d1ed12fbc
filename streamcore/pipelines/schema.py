"""The JSON schema of pipeline files, made from the models and the kinds' options, for editors."""

from __future__ import annotations

from typing import Any

from streamcore.pipelines.kinds.catalogue import KINDS
from streamcore.pipelines.models import PipelineConfig


def json_schema() -> dict[str, Any]:
    """What an editor needs to complete and check a file of ``config/pipelines``.

    A value may be a reference (``${VAR:default}``) wherever a number or a flag is asked for.
    """
    schema = PipelineConfig.model_json_schema()
    definitions = schema.setdefault("$defs", {})
    task = definitions["TaskConfig"]
    task["required"] = ["task_id", "task_type"]
    schema["required"] = ["pipeline_id", "tasks"]
    task["allOf"] = []
    for task_type, kind in KINDS.items():
        options = kind.options.model_json_schema()
        definitions.update(options.pop("$defs", {}))
        definitions[f"{task_type}_parameters"] = options
        parameters = {"parameters": {"$ref": f"#/$defs/{task_type}_parameters"}}
        then: dict[str, Any] = {"properties": parameters}
        if options.get("required"):
            then["required"] = ["parameters"]
        known = {"properties": {"task_type": {"const": task_type.value}}, "required": ["task_type"]}
        task["allOf"].append({"if": known, "then": then})
    _let_references_in(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _let_references_in(schema: Any) -> None:
    """Numbers and flags may be texts that hold a reference."""
    if isinstance(schema, list):
        for inner in schema:
            _let_references_in(inner)
    if not isinstance(schema, dict):
        return
    for inner in list(schema.values()):
        _let_references_in(inner)
    if schema.get("type") in ("integer", "number", "boolean"):
        plain = {
            key: schema.pop(key) for key in list(schema) if key not in ("title", "description", "default")
        }
        schema["anyOf"] = [plain, {"type": "string", "pattern": r"\$\{"}]
