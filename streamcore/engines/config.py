"""What the configurations of engines have in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from streamcore.addresses.uris import bad_option


class EngineConfig(BaseModel):
    """Frozen; what it is made of wrongly is a BadConfig."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def __init__(self, **given: Any) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise bad_option(error, type(self).__name__, given, type(self)) from None
