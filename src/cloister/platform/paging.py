"""Pages of a query, in the order of a column that names each row."""

from typing import TypeVar

from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute

from cloister.core.pagination import Page, decode_cursor, page_of
from cloister.platform.database import UnitOfWork

T = TypeVar("T")
K = TypeVar("K", str, int)


async def page_by(
    uow: UnitOfWork,
    query: Select[T],
    column: InstrumentedAttribute[K],
    cursor: str | None,
    limit: int,
    *,
    newest_first: bool = False,
) -> Page[T]:
    """The next rows of a query after a cursor, which holds the column's value of the last one seen.

    Raises:
        BadCursor: when the cursor is not one of ours.
    """
    seen = decode_cursor(cursor, column.type.python_type)
    if seen is not None:
        query = query.where(column < seen if newest_first else column > seen)
    order = column.desc() if newest_first else column.asc()
    rows = (await uow.session.scalars(query.order_by(order).limit(limit + 1))).all()
    return page_of(rows, limit, lambda row: getattr(row, column.key))
