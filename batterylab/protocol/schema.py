"""The JSON Schema of protocol files, for editors that complete and check while one writes."""

from typing import Any

from batterylab.protocol.expand import EACH
from batterylab.protocol.language import SCHEMA, ProtocolFile

_REFERENCE = {"type": "string", "pattern": rf"^(\$[a-z][a-z0-9_]*|{'|'.join(EACH)})$"}
_NOT_REPLACED = ("schema", "name", "call", "figures", "does_not_cover", "procedures", "parameters")


def json_schema() -> dict[str, Any]:
    """Return the schema of a protocol file.

    Where a step has a number or one of a few words, a parameter such as ``$times`` may stand as
    well.
    """
    schema = ProtocolFile.model_json_schema(by_alias=True, mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "batterylab protocol"
    schema["properties"]["schema"] = {"const": SCHEMA, "type": "string"}
    schema["required"] = sorted({*schema.get("required", []), "schema"})
    for name, definition in schema.get("$defs", {}).items():
        if name not in ("Figure", "Procedure"):
            properties = definition.get("properties", {})
            for key, value in properties.items():
                if key not in _NOT_REPLACED:
                    properties[key] = _or_parameter(value)
    drive = schema["$defs"]["Drive"]["properties"]
    drive["current"] = {**drive["rate"], "title": "Current"}
    return schema


def _or_parameter(value: dict[str, Any]) -> dict[str, Any]:
    """Return a property that also takes a parameter, if it is no text anyway."""
    if "anyOf" in value:
        choices = value["anyOf"]
        if any(_is_strict(choice) for choice in choices):
            return {**value, "anyOf": [*choices, _REFERENCE]}
        return value
    if not _is_strict(value):
        return value
    words = ("default", "description", "title")
    kept: dict[str, Any] = {key: value[key] for key in words if key in value}
    inner = {key: item for key, item in value.items() if key not in kept}
    return {**kept, "anyOf": [inner, _REFERENCE]}


def _is_strict(value: dict[str, Any]) -> bool:
    """Return whether a property would refuse a text such as ``$rate``."""
    return value.get("type") in ("integer", "number") or "enum" in value or "pattern" in value
