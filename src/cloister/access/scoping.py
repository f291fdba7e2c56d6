"""The one helper through which rows of spaces are read and changed.

A statement made here reaches the rows of a `Scope` and no others. ``scripts/check_fences.py`` (part of
``make check``) forbids domains above to make statements about their tables in any other way.
"""

from functools import lru_cache
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Delete,
    Select,
    Update,
    bindparam,
    delete,
    false,
    inspect,
    select,
    update,
)

from cloister.core.principal import Scope
from cloister.platform import Base, UnitOfWork

M = TypeVar("M", bound=Base)


def _reach(model: type[Base], scope: Scope) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    columns: Any = model
    if scope.space is not None:
        conditions.append(columns.space == scope.space)
    if scope.teams is not None and hasattr(model, "team"):
        conditions.append(columns.team.in_(sorted(scope.teams)) if scope.teams else false())
    return conditions


def scoped_select(model: type[M], scope: Scope) -> Select[M]:
    """Select the rows of a model that a scope reaches."""
    return select(model).where(*_reach(model, scope))


def scoped_update(model: type[M], scope: Scope) -> Update:
    return update(model).where(*_reach(model, scope))


def scoped_delete(model: type[M], scope: Scope) -> Delete:
    return delete(model).where(*_reach(model, scope))


async def scoped_get(uow: UnitOfWork, model: type[M], scope: Scope, **key: object) -> M | None:
    """The one row with a key, if the scope reaches it. One that this unit of work has read already is not asked for again."""
    if scope.space is not None:
        key["space"] = scope.space
    identity = _identity(model)
    if identity <= key.keys():
        row = await uow.session.get(model, {name: key[name] for name in identity})
        if row is None or any(getattr(row, name) != value for name, value in key.items()):
            return None
        reached = scope.teams is None or not hasattr(row, "team") or row.team in scope.teams
        return row if reached else None
    if scope.teams is not None:
        return (await uow.session.scalars(scoped_select(model, scope).filter_by(**key))).one_or_none()
    return (await uow.session.scalars(_by_key(model, tuple(sorted(key))), key)).one_or_none()


@lru_cache(maxsize=512)
def _identity(model: type[Base]) -> frozenset[str]:
    """The attributes of a model's primary key."""
    mapper = inspect(model)
    return frozenset(mapper.get_property_by_column(column).key for column in mapper.primary_key)


@lru_cache(maxsize=512)
def _by_key(model: type[M], names: tuple[str, ...]) -> Select[M]:
    """A statement made once: making it costs more than running it."""
    return select(model).where(*(getattr(model, name) == bindparam(name) for name in names))
