"""``config.json``: which settings a module has, and whether values fit them. Pure.

The format is that of a published dashboard service, so that its modules run unchanged: an array of
``{type, name, label, default}``, types in any case.
"""

import json
import re
from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cloister.modules.errors import BadConfiguration, BadModule

MAX_ENTRIES = 100
MAX_TEXT = 10_000
_COLOR = re.compile(r"^#(?:[0-9a-fA-F]{3,4}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})$")
Scalar = str | int | float | bool | None


class Option(BaseModel):
    """A choice of a ``select``."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    label: Annotated[str, Field(max_length=200)]
    value: str | int | float | bool


class Entry(BaseModel):
    """One setting."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    type: Literal["text", "password", "color", "switch", "slider", "date", "select"]
    name: Annotated[str, Field(min_length=1, max_length=100)]
    label: Annotated[str, Field(max_length=300)] = ""
    default: Scalar = None
    min: float | None = None
    max: float | None = None
    step: Annotated[float, Field(gt=0)] | None = None
    options: list[Option] | None = None

    @model_validator(mode="before")
    @classmethod
    def _any_case(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("type"), str):
            return {**values, "type": values["type"].lower()}
        return values

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.type == "slider" and (self.min is None or self.max is None or self.min >= self.max):
            message = "a slider needs “min” and “max”, and “min” below “max”"
            raise ValueError(message)
        if self.type == "select" and not self.options:
            message = "a select needs “options”, each with “label” and “value”"
            raise ValueError(message)
        if self.default is not None:
            self.check(self.default)
        return self

    @property
    def secret(self) -> bool:
        return self.type == "password"

    def check(self, value: Any) -> Scalar:
        """Return a value that fits.

        Raises:
            ValueError: saying what would.
        """
        if self.type == "switch":
            if not isinstance(value, bool):
                message = "is true or false"
                raise ValueError(message)
            return value
        if self.type == "slider":
            if isinstance(value, bool) or not isinstance(value, int | float):
                message = "is a number"
                raise ValueError(message)
            if not (self.min or 0) <= value <= (self.max or 0):
                message = f"lies from {self.min:g} to {self.max:g}"
                raise ValueError(message)
            return value
        if self.type == "select":
            allowed = [option.value for option in self.options or []]
            if not any(value == one and type(value) is type(one) for one in allowed):
                message = f"is one of: {', '.join(map(str, allowed))}"
                raise ValueError(message)
            return value  # type: ignore[no-any-return]
        return self._check_text(value)

    def _check_text(self, value: Any) -> str:
        if not isinstance(value, str) or len(value) > MAX_TEXT:
            message = f"is a text of at most {MAX_TEXT} characters"
            raise ValueError(message)
        if self.type == "color" and value and not _COLOR.match(value):
            message = "is a colour such as #1d2733"
            raise ValueError(message)
        if self.type == "date" and value:
            try:
                _read_date(value[:10])
            except ValueError as error:
                message = "is a date such as 2026-11-21"
                raise ValueError(message) from error
        return value


def _read_date(text: str) -> date:
    """Read a date, also as modules of the published service write it: 21-11-2026."""
    if re.fullmatch(r"\d\d-\d\d-\d{4}", text):
        day, month, year = text.split("-")
        return date(int(year), int(month), int(day))
    return date.fromisoformat(text)


def read_model(text: str | bytes) -> list[Entry]:
    """Read ``config.json``.

    Raises:
        BadModule: naming the entry and the fault.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadModule(f"config.json: this is no JSON: {error}.") from error
    if not isinstance(data, list) or len(data) > MAX_ENTRIES:
        raise BadModule(f"config.json: this should be a list of at most {MAX_ENTRIES} settings.")
    found: list[Entry] = []
    for index, item in enumerate(data):
        name = item.get("name") if isinstance(item, dict) else None
        where = f"config.json: entry {index + 1}" + (f" (“{name}”)" if isinstance(name, str) else "")
        try:
            entry = Entry.model_validate(item)
        except ValidationError as error:
            raise BadModule(f"{where}: {_fault(error)}.") from error
        if any(entry.name == earlier.name for earlier in found):
            raise BadModule(f"{where}: there is another entry of this name.")
        found.append(entry)
    return found


def _fault(error: ValidationError) -> str:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    said = str(first["msg"]).removeprefix("Value error, ")
    return f"“{field}”: {said[:1].lower()}{said[1:]}" if field else said


def check_values(model: list[Entry], values: dict[str, Any]) -> dict[str, Scalar]:
    """Return a whole configuration: given values where they fit, defaults for the rest.

    Raises:
        BadConfiguration: naming the setting.
    """
    known = {entry.name: entry for entry in model}
    for name in values:
        if name not in known:
            raise BadConfiguration(f"“{name[:100]}” is no setting of this module.", setting=name[:100])
    whole: dict[str, Scalar] = {}
    for entry in model:
        value = values.get(entry.name)
        if value is None:
            whole[entry.name] = entry.default
            continue
        try:
            whole[entry.name] = entry.check(value)
        except ValueError as error:
            raise BadConfiguration(f"“{entry.label or entry.name}” {error}.", setting=entry.name) from error
    return whole


def json_schema() -> dict[str, Any]:
    """The schema of ``config.json``. (That names differ, and that a default fits its setting, no schema can say.)"""
    entry = Entry.model_json_schema()
    types = entry["properties"]["type"]["enum"]
    any_case = [f"^{''.join(f'[{c}{c.upper()}]' for c in name)}$" for name in types]
    entry["properties"]["type"] = {"type": "string", "anyOf": [{"pattern": pattern} for pattern in any_case]}
    needs = {"slider": ["min", "max"], "select": ["options"]}
    entry["allOf"] = [
        {
            "if": {"properties": {"type": {"pattern": any_case[types.index(name)]}}},
            "then": {"required": fields, "properties": {field: {"not": {"type": "null"}} for field in fields}},
        }
        for name, fields in needs.items()
    ]  # fmt: skip
    entry["properties"]["options"]["anyOf"][0]["minItems"] = 1
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "config.json", "type": "array",
        "maxItems": MAX_ENTRIES, "items": entry, "$defs": entry.pop("$defs"),
    }  # fmt: skip
