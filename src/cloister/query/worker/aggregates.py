"""The shape of statements that a minimum group size allows, checked on the engine's own syntax tree."""

import json
from collections.abc import Mapping
from typing import Any

from faults import GroupTooSmall

AGGREGATES = frozenset({"count", "count_star", "sum", "avg", "mean", "stddev", "stddev_samp", "var_samp", "variance"})
"""Under a minimum group size. Not min, max or median: they show single values."""
SIMPLE_SCALARS = frozenset(
    {
        "year",
        "month",
        "date_trunc",
        "floor",
        "ceil",
        "round",
        "lower",
        "upper",
        "extract",
        "date_part",
    }
)


def check_aggregates_only(node: Mapping[str, Any]) -> None:
    """Accept one SELECT over one table whose items are group keys and simple aggregates of plain columns.

    Raises:
        GroupTooSmall: for everything else. (This is no differential privacy: see the page on governed SQL.)
    """
    groups = node.get("group_expressions") or []
    plain = (
        node.get("type") == "SELECT_NODE"
        and not (node.get("cte_map") or {}).get("map")
        and (node.get("from_table") or {}).get("type") == "BASE_TABLE"
        and not (node.get("from_table") or {}).get("sample")
        and not node.get("sample")
        and not node.get("qualify")
        and not node.get("having")
        and node.get("aggregate_handling") == "STANDARD_HANDLING"
        and (node.get("group_sets") or [[]]) in ([[]], [list(range(len(groups)))])
        and all(m.get("type") in {"ORDER_MODIFIER", "LIMIT_MODIFIER"} for m in node.get("modifiers") or [])
    )
    if not plain or not all(_simple(item) for item in groups):
        raise GroupTooSmall
    shown = [_bare(item) for item in node.get("select_list") or []]
    for modifier in node.get("modifiers") or []:
        for order in modifier.get("orders") or []:
            plain_order = order["expression"].get("type") in {"COLUMN_REF", "VALUE_CONSTANT"}
            if not plain_order and _bare(order["expression"]) not in shown:
                raise GroupTooSmall  # an order by something unseen shows it
    if not _no_nesting([node.get("where_clause"), node.get("modifiers")]):
        raise GroupTooSmall
    keys = [_bare(item) for item in groups]
    aggregates = 0
    for item in node.get("select_list") or []:
        if _bare(item) in keys:
            continue
        if not _aggregate(item):
            raise GroupTooSmall
        aggregates += 1
    if aggregates == 0:
        raise GroupTooSmall


def _bare(item: Mapping[str, Any]) -> str:
    """An expression without its alias and place in the text."""
    return json.dumps(_strip(item), sort_keys=True)


def _strip(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _strip(v) for k, v in value.items() if k not in {"alias", "query_location"}}
    return [_strip(item) for item in value] if isinstance(value, list) else value


def _arguments(item: Mapping[str, Any]) -> list[Any]:
    return [argument.get("expression", argument) for argument in item.get("arguments") or item.get("children") or []]


def _simple(item: Mapping[str, Any]) -> bool:
    kind = item.get("type")
    if kind == "COLUMN_REF":
        return True
    if kind == "FUNCTION" and str(item.get("function_name")).lower() in SIMPLE_SCALARS:
        arguments = _arguments(item)
        return any(a.get("type") == "COLUMN_REF" for a in arguments) and all(
            a.get("class") == "CONSTANT" or _simple(a) for a in arguments
        )
    return False


def _aggregate(item: Mapping[str, Any]) -> bool:
    return (
        item.get("type") == "FUNCTION"
        and str(item.get("function_name")).lower() in AGGREGATES
        and not item.get("distinct")
        and not item.get("filter")
        and not (item.get("order_bys") or {}).get("orders")
        and all(argument.get("type") == "COLUMN_REF" for argument in _arguments(item))
    )


def _no_nesting(value: Any) -> bool:
    text = json.dumps(value)
    return '"SUBQUERY"' not in text and '"WINDOW"' not in text and '"CASE"' not in text
