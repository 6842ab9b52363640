"""What the JSON Schemas of our documents are made of: of the plan, the result, the report, and what `show` and `doctor` print."""

from __future__ import annotations

from typing import Any


def closed_object(properties: dict[str, Any]) -> dict[str, Any]:
    """JSON Schema of an object that has exactly these properties, each by its own schema."""
    return {"type": "object", "additionalProperties": False, "required": list(properties), "properties": properties}
