"""Rules about rows, and the step that applies them."""

from streamcore.validation import rules
from streamcore.validation.rules import Rule
from streamcore.validation.steps import Validate

__all__ = ["Rule", "Validate", "rules"]
