"""The difference between two models as a JSON Patch (RFC 6902). Pure."""

from collections.abc import Sequence
from typing import Any

MAX_OPERATIONS = 500
"""More than so many are no smaller than the whole."""
MAX_COMPARED = 200_000
"""Nodes looked at, about a tenth of a second: what a program puts out is its own choice. A model of more is sent whole."""


class _TooMuchError(Exception):
    pass


def diff(before: Any, after: Any) -> list[dict[str, Any]] | None:
    """The operations that make one of the other, or None when there would be too many, or finding them takes too long."""
    search = _Search()
    try:
        search.diff(before, after, "")
    except (_TooMuchError, RecursionError):
        return None
    return search.found


def same(one: Any, other: Any) -> bool:
    """Whether two models are equal as JSON; False, too, where finding out takes too long."""
    try:
        return one is other or _Search().same(one, other)
    except (_TooMuchError, RecursionError):
        return False


class _Search:
    """One comparison, and how much it may still look at."""

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []
        self._left = MAX_COMPARED

    def _add(self, operation: dict[str, Any]) -> None:
        if len(self.found) >= MAX_OPERATIONS:
            raise _TooMuchError
        self.found.append(operation)

    def same(self, one: Any, other: Any) -> bool:
        """Equal as JSON: Python takes ``True`` for ``1``, at any depth."""
        self._left -= 1
        if self._left < 0:
            raise _TooMuchError
        if isinstance(one, dict) and isinstance(other, dict):
            return one.keys() == other.keys() and all(self.same(one[key], other[key]) for key in one)
        if isinstance(one, list) and isinstance(other, list):
            return len(one) == len(other) and all(map(self.same, one, other))
        return type(one) is type(other) and bool(one == other)

    def diff(self, before: Any, after: Any, path: str) -> None:
        self._left -= 1
        if self._left < 0:
            raise _TooMuchError
        if isinstance(before, dict) and isinstance(after, dict):
            for key in before.keys() - after.keys():
                self._add({"op": "remove", "path": f"{path}/{_escape(key)}"})
            for key, value in after.items():
                if key not in before:
                    self._add({"op": "add", "path": f"{path}/{_escape(key)}", "value": value})
                else:
                    self.diff(before[key], value, f"{path}/{_escape(key)}")
        elif isinstance(before, list) and isinstance(after, list):
            self._diff_lists(before, after, path)
        elif type(before) is not type(after) or before != after:
            self._add({"op": "replace", "path": path, "value": after})

    def _diff_lists(self, before: list[Any], after: list[Any], path: str) -> None:
        """Lists grow at their end and, as windows over time do, lose their beginning."""
        shift = self._shift(before, after)
        for _ in range(shift):
            self._add({"op": "remove", "path": f"{path}/0"})
        rest = before[shift:]
        for index in range(min(len(rest), len(after))):
            self.diff(rest[index], after[index], f"{path}/{index}")
        for index in range(len(rest) - 1, len(after) - 1, -1):
            self._add({"op": "remove", "path": f"{path}/{index}"})
        for value in after[len(rest) :]:
            self._add({"op": "add", "path": f"{path}/-", "value": value})

    def _shift(self, before: list[Any], after: list[Any]) -> int:
        """How many of the first entries fell out, when what is left begins the new list."""
        if not before or not after or self.same(before[0], after[0]):
            return 0
        for shift in range(1, min(len(before), 50)):
            last = after[min(len(before) - shift, len(after)) - 1]
            if self.same(before[shift], after[0]) and self.same(before[-1], last):
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
