"""The difference between two models as a JSON Patch (RFC 6902). Pure."""

from collections.abc import Sequence
from typing import Any

MAX_OPERATIONS = 500
"""More than so many are no smaller than the whole."""


class _TooMuchError(Exception):
    pass


def diff(before: Any, after: Any) -> list[dict[str, Any]] | None:
    """The operations that make one of the other, or None when there would be too many."""
    found: list[dict[str, Any]] = []
    try:
        _diff(before, after, "", found)
    except (_TooMuchError, RecursionError):
        return None
    return found


def _add(found: list[dict[str, Any]], operation: dict[str, Any]) -> None:
    if len(found) >= MAX_OPERATIONS:
        raise _TooMuchError
    found.append(operation)


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: Python takes ``True`` for ``1``, at any depth."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and bool(one == other)


def _diff(before: Any, after: Any, path: str, found: list[dict[str, Any]]) -> None:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in before.keys() - after.keys():
            _add(found, {"op": "remove", "path": f"{path}/{_escape(key)}"})
        for key, value in after.items():
            if key not in before:
                _add(found, {"op": "add", "path": f"{path}/{_escape(key)}", "value": value})
            else:
                _diff(before[key], value, f"{path}/{_escape(key)}", found)
    elif isinstance(before, list) and isinstance(after, list):
        _diff_lists(before, after, path, found)
    elif not _same(before, after):
        _add(found, {"op": "replace", "path": path, "value": after})


def _diff_lists(before: list[Any], after: list[Any], path: str, found: list[dict[str, Any]]) -> None:
    """Lists grow at their end and, as windows over time do, lose their beginning."""
    shift = _shift(before, after)
    for _ in range(shift):
        _add(found, {"op": "remove", "path": f"{path}/0"})
    rest = before[shift:]
    for index in range(min(len(rest), len(after))):
        _diff(rest[index], after[index], f"{path}/{index}", found)
    for index in range(len(rest) - 1, len(after) - 1, -1):
        _add(found, {"op": "remove", "path": f"{path}/{index}"})
    for value in after[len(rest) :]:
        _add(found, {"op": "add", "path": f"{path}/-", "value": value})


def _shift(before: list[Any], after: list[Any]) -> int:
    """How many of the first entries fell out, when what is left begins the new list."""
    if not before or not after or _same(before[0], after[0]):
        return 0
    for shift in range(1, min(len(before), 50)):
        if _same(before[shift], after[0]) and _same(before[-1], after[min(len(before) - shift, len(after)) - 1]):
            return shift
    return 0


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def node(model: Any, path: Sequence[str | int]) -> Any:
    """A node of a model; None where there is none."""
    for part in path:
        if isinstance(model, dict):
            model = model.get(str(part))
        elif isinstance(model, list) and isinstance(part, int) and -len(model) <= part < len(model):
            model = model[part]
        else:
            return None
    return model
