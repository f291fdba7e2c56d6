"""What a statement is, before anything of it runs: parsed by the engine itself, on a connection without any data.

The walls are the sandbox and the engine's own configuration; this gate gives the clear errors, and closes what the
engine's configuration leaves open (scripts, changes to the catalogue, statements that write inside a SELECT).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
from aggregates import check_aggregates_only
from faults import (
    FunctionNotAllowed,
    GroupTooSmall,
    NotOneStatement,
    StatementNotAllowed,
    SyntaxInvalid,
    UnknownRelation,
)

CONFIG: dict[str, str] = {
    "allow_unsigned_extensions": "false",
    "allow_community_extensions": "false",
    "allow_extension_repositories": "forbidden",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_persistent_secrets": "false",
    "python_enable_replacements": "false",
    "python_scan_all_frames": "false",
    "temp_directory": "",
    "max_temp_directory_size": "0MB",
}
NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest", "repeat_row"})
DENIED_SCALARS = frozenset(
    {
        "sleep_ms", "pg_sleep", "nextval", "currval", "current_setting", "getenv", "getvariable", "write_log",
        "setseed", "json_execute_serialized_sql", "txid_current", "current_query", "pg_get_viewdef",
    }
)  # fmt: skip
VOLATILE = frozenset(
    {
        "random", "uuid", "gen_random_uuid", "uuidv4", "uuidv7", "now", "get_current_timestamp", "current_timestamp",
        "current_date", "today", "current_time", "get_current_time", "localtime", "current_localtime",
        "localtimestamp", "current_localtimestamp", "transaction_timestamp", "epoch_now", "age",
    }
)  # fmt: skip
VOLATILE_NAMES = frozenset({"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"})
"""Those that are written without parentheses, like columns."""
CATALOG = {("information_schema", "tables"), ("information_schema", "columns"), ("information_schema", "schemata")}


@dataclass(frozen=True)
class Relation:
    """A table that may be queried, as ``schema.table``, and by its bare name when ``bare``."""

    schema: str
    table: str
    path: str
    bare: bool
    min_group: int | None = None

    @property
    def name(self) -> str:
        return f"{self.schema}.{self.table}"


@dataclass(frozen=True)
class Classified:
    """One statement that may run."""

    sql: str
    tables: tuple[str, ...]
    volatile: bool


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def open_locked(relations: list[Relation], memory_mb: int, threads: int) -> duckdb.DuckDBPyConnection:
    """An in-memory database with a view for each granted file and nothing else, its configuration locked."""
    con = duckdb.connect(":memory:", config={**CONFIG, "memory_limit": f"{memory_mb}MB", "threads": str(threads)})
    for relation in relations:
        con.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(relation.schema)}")
        target = f"{identifier(relation.schema)}.{identifier(relation.table)}"
        con.execute(f"CREATE VIEW {target} AS FROM read_parquet({literal(relation.path)})")
        if relation.bare:
            con.execute(f"CREATE VIEW {identifier(relation.table)} AS FROM {target}")
    con.execute(f"SET allowed_paths = [{', '.join(literal(r.path) for r in relations)}]")
    con.execute("SET enable_external_access = false")
    con.execute("SET lock_configuration = true")
    return con


class Gate:
    """Says what may run over some relations."""

    def __init__(self, relations: list[Relation]) -> None:
        self._by_name = {relation.name: relation for relation in relations}
        self._by_name |= {relation.table: relation for relation in relations if relation.bare}
        self._parser = open_locked([], 64, 1)

    def classify(self, sql: str) -> Classified:
        """Parse only: exactly one statement that reads, over relations that are granted.

        Raises:
            QueryError: saying what is not allowed.
        """
        parser = self._parser.cursor()
        self._check_kind(parser, sql)
        tree = self._tree(parser, sql)
        root = tree["statements"][0]["node"]
        scan = _Scan()
        relations = []
        for name, shadowed in sorted(set(scan.tables(root, frozenset()))):
            if name in self._by_name:  # also when a CTE has its name: whether that hides it is the engine's to know
                relations.append(self._by_name[name])
            elif not shadowed and tuple(name.split(".", 1)) not in CATALOG:
                raise UnknownRelation
        group = max((relation.min_group or 0 for relation in relations), default=0)
        if group and not _describes(root):
            sql = self._grouped(parser, tree, group)
        return Classified(sql, tuple(sorted({relation.name for relation in relations})), scan.volatile)

    @staticmethod
    def _check_kind(parser: duckdb.DuckDBPyConnection, sql: str) -> None:
        try:
            statements = parser.extract_statements(sql)
        except duckdb.ParserException as error:
            raise SyntaxInvalid(clean(str(error))) from None
        except duckdb.Error:
            raise StatementNotAllowed from None
        if len(statements) != 1:
            raise NotOneStatement
        try:
            kind = statements[0].type
        except ValueError:  # a kind that the client does not know (UPDATE EXTENSIONS in 2.0.0)
            raise StatementNotAllowed from None
        if kind != duckdb.StatementType.SELECT:
            raise StatementNotAllowed(f"{kind.name} is not allowed. {StatementNotAllowed.__doc__}")

    @staticmethod
    def _tree(parser: duckdb.DuckDBPyConnection, sql: str) -> dict[str, Any]:
        row = parser.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
        tree: dict[str, Any] = json.loads(row[0]) if row else {"error": True}
        if tree.get("error") or len(tree["statements"]) != 1:
            raise StatementNotAllowed
        return tree

    def _grouped(self, parser: duckdb.DuckDBPyConnection, tree: dict[str, Any], least: int) -> str:
        """Accept only plain aggregates, and add the condition on the size of groups."""
        node = tree["statements"][0]["node"]
        check_aggregates_only(node)
        having = self._tree(parser, f"select 1 from t having count(*) >= {least:d}")["statements"][0]["node"]["having"]
        node["having"] = having
        if node.get("where_clause"):  # an error that depends on a row would tell of it: what fails is not true
            tried = self._tree(parser, "select 1 from t where try(a)")["statements"][0]["node"]["where_clause"]
            tried["children"] = [node["where_clause"]]
            node["where_clause"] = tried
        row = parser.execute("SELECT json_deserialize_sql(?)", [json.dumps(tree)]).fetchone()
        if row is None:
            raise GroupTooSmall
        return str(row[0])


class _Scan:
    """One walk through a statement's tree."""

    def __init__(self) -> None:
        self.volatile = False

    def tables(self, node: Any, ctes: frozenset[str]) -> Iterator[tuple[str, bool]]:
        """Yield the tables that are read, each with whether a common table expression has its name."""
        if isinstance(node, list):
            for item in node:
                yield from self.tables(item, ctes)
            return
        if not isinstance(node, dict):
            return
        self._check(node)
        yield from self._named(node, ctes)
        if node.get("type") == "RECURSIVE_CTE_NODE":
            ctes = ctes | {str(node.get("cte_name", node.get("ctename", ""))).lower()}
        inner = ctes
        cte_map = node.get("cte_map")
        if isinstance(cte_map, dict):
            for entry in cte_map.get("map", []):
                inner = inner | {str(entry["key"]).lower()}
                yield from self.tables(entry["value"], inner)
        for key, value in node.items():
            if key != "cte_map":
                yield from self.tables(value, inner)

    def _check(self, node: Mapping[str, Any]) -> None:
        kind = node.get("type")
        if isinstance(kind, str) and kind.endswith("_NODE") and kind not in NODES:
            raise StatementNotAllowed  # a data-modifying CTE parses as SELECT
        if kind == "TABLE_FUNCTION":
            name = str(node["function"].get("function_name", "")).lower()
            if name not in TABLE_FUNCTIONS:
                raise FunctionNotAllowed(f"The table function {name} is not available here.")
        elif kind == "FUNCTION":
            name = str(node.get("function_name", "")).lower()
            if name in DENIED_SCALARS or name.startswith(("duckdb_", "pragma_")):
                raise FunctionNotAllowed(f"The function {name} is not available here.")
            self.volatile = self.volatile or name in VOLATILE
        elif kind == "COLUMN_REF":  # current_date and the like are parsed as columns
            self.volatile = self.volatile or str(node["column_names"][-1]).lower() in VOLATILE_NAMES
        if node.get("sample"):
            self.volatile = True

    def _named(self, node: Mapping[str, Any], ctes: frozenset[str]) -> Iterator[tuple[str, bool]]:
        kind = node.get("type")
        if not isinstance(kind, str) or kind not in {"BASE_TABLE", "SHOW_REF"}:
            return
        name = str(node.get("table_name") or "").lower()
        if kind == "SHOW_REF" and name.startswith('"'):
            raise StatementNotAllowed("Ask information_schema.tables for the list of tables.")
        schema, catalog = str(node.get("schema_name") or "").lower(), str(node.get("catalog_name") or "").lower()
        if catalog not in {"", "memory"}:
            raise UnknownRelation
        if name:
            yield f"{schema}.{name}" if schema not in {"", "main"} else name, not schema and name in ctes


def _describes(root: Mapping[str, Any]) -> bool:
    """Whether a statement shows names and types of columns and nothing of their content (SUMMARIZE shows content)."""
    shown = root.get("from_table") or {}
    return (
        shown.get("type") == "SHOW_REF"
        and shown.get("show_type") == "DESCRIBE"
        and [item.get("type") for item in root.get("select_list") or []] == ["STAR"]
        and not root.get("where_clause")
    )


def clean(text: str) -> str:
    """An engine's message without its pointers into the text and its suggestions."""
    return text.split("\n\nLINE ", 1)[0].split("\nDid you mean", 1)[0].split("\nCandidate", 1)[0][:1000]
