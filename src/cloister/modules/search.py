"""Full-text search over modules: FTS5 on SQLite, tsvector on PostgreSQL.

The statements are the databases' own, so this is the one place of this package with text in SQL; values are bound.
"""

from dataclasses import dataclass

from sqlalchemy import bindparam, literal_column, text

from cloister.access import scoped_select
from cloister.core.pagination import BadCursor, Page, decode_cursor, page_of
from cloister.core.principal import EVERYTHING
from cloister.modules.models import Module
from cloister.platform import UnitOfWork

FURTHEST = 10_000
"""Nobody reads on for longer than so many modules."""


@dataclass(frozen=True)
class Wanted:
    """What is looked for."""

    words: str = ""
    kind: str | None = None
    runtime: str | None = None
    author: int | None = None
    without: frozenset[str] = frozenset()
    """Permissions that it must not need: ``hosts``, ``datasets``."""


def _is_sqlite(uow: UnitOfWork) -> bool:
    return uow.session.get_bind().dialect.name == "sqlite"


async def index(uow: UnitOfWork, module: Module, readme: str, author: str) -> None:
    """Make a module be found by what it is now."""
    values = {
        "number": module.number, "name": module.name.replace("-", " "), "title": module.title,
        "summary": module.summary, "keywords": " ".join(module.keywords), "readme": readme[:100_000],
        "author": author,
    }  # fmt: skip
    await forget(uow, module)
    if _is_sqlite(uow):
        statement = (
            "INSERT INTO module_search (rowid, name, title, summary, keywords, readme, author) "
            "VALUES (:number, :name, :title, :summary, :keywords, :readme, :author)"
        )
    else:
        statement = (
            "INSERT INTO module_search (module, document) VALUES (:number, "
            "setweight(to_tsvector('english', :name || ' ' || :title), 'A') || "
            "setweight(to_tsvector('english', :summary || ' ' || :keywords), 'B') || "
            "setweight(to_tsvector('english', :readme || ' ' || :author), 'D'))"
        )
    await uow.session.execute(text(statement), values)


async def forget(uow: UnitOfWork, module: Module) -> None:
    key = "rowid" if _is_sqlite(uow) else "module"
    await uow.session.execute(
        text(f"DELETE FROM module_search WHERE {key} = :number"),
        {"number": module.number},
    )


async def search(uow: UnitOfWork, wanted: Wanted, cursor: str | None, limit: int) -> Page[Module]:
    """Published modules, best first: by how well they fit, then by how often they are used.

    What fits best has no key that stays, so the cursor counts.

    Raises:
        BadCursor: when the cursor is not one of ours.
    """
    seen = decode_cursor(cursor, int) or 0
    if not 0 <= seen <= FURTHEST:
        raise BadCursor
    query = scoped_select(Module, EVERYTHING).where(Module.latest.is_not(None))
    if wanted.kind is not None:
        query = query.where(Module.kind == wanted.kind)
    if wanted.runtime is not None:
        query = query.where(Module.runtime == wanted.runtime)
    if wanted.author is not None:
        query = query.where(Module.author == wanted.author)
    if "hosts" in wanted.without:
        query = query.where(Module.permissions["hosts"].as_boolean().is_(False))
    if "datasets" in wanted.without:
        query = query.where(Module.permissions["datasets"].as_boolean().is_(False))
    words = "".join(c if c.isalnum() else " " for c in wanted.words[:200]).split()[:10]  # as what is indexed is split
    if words and _is_sqlite(uow):
        found = text(
            "SELECT rowid AS number, bm25(module_search, 8, 8, 4, 4, 1, 2) AS rank FROM module_search "
            "WHERE module_search MATCH :words"
        ).columns(literal_column("number"), literal_column("rank"))
        match = found.bindparams(bindparam("words", " ".join(f'"{word}"*' for word in words))).subquery()
        query = query.join(match, match.c.number == Module.number).order_by(match.c.rank)
    elif words:
        found = text(
            "SELECT module AS number, -ts_rank(document, to_tsquery('english', :words)) AS rank FROM module_search "
            "WHERE document @@ to_tsquery('english', :words)"
        ).columns(literal_column("number"), literal_column("rank"))
        match = found.bindparams(bindparam("words", " & ".join(f"{word}:*" for word in words))).subquery()
        query = query.join(match, match.c.number == Module.number).order_by(match.c.rank)
    query = query.order_by(Module.uses.desc(), Module.name).offset(seen).limit(limit + 1)
    return page_of((await uow.session.scalars(query)).all(), limit, lambda _last: seen + limit)
