"""What the broker answers when it does not answer with data."""

from cloister.core.errors import (
    CloisterError,
    Forbidden,
    Internal,
    Invalid,
    TimedOut,
    TooLarge,
    Unavailable,
)


class EditionNotReady(Unavailable):
    """The data that are granted to you are being prepared. Try again in a few seconds."""

    code = "query.edition_not_ready"


class QueryFailed(Invalid):
    """The statement failed."""

    code = "query.failed"


class Syntax(Invalid):
    """This is not valid SQL."""

    code = "query.syntax"


class NotOneStatement(Invalid):
    """Send exactly one statement."""

    code = "query.not_one_statement"


class StatementNotAllowed(Forbidden):
    """Only statements that read are allowed."""

    code = "query.statement_not_allowed"


class FunctionNotAllowed(Forbidden):
    """That function is not available here."""

    code = "query.function_not_allowed"


class UnknownRelation(Forbidden):
    """There is no such table that you may query."""

    code = "query.unknown_relation"


class AggregatesOnly(Forbidden):
    """Your grant shows only aggregates over groups that are large enough."""

    code = "query.aggregates_only"


class QueryCancelled(Forbidden):
    """The query was cancelled."""

    code = "query.cancelled"


class TimeLimit(TimedOut):
    """The query ran longer than it may."""

    code = "query.time_limit"


class MemoryLimit(TooLarge):
    """The query needs more memory than it may have."""

    code = "query.memory_limit"


class ResultTooLarge(TooLarge):
    """The result is larger than your grant allows."""

    code = "query.result_too_large"


class WorkerUnavailable(Unavailable):
    """The query worker did not answer. Ask again; a new one starts."""

    code = "query.worker_unavailable"


BY_CODE: dict[str, type[CloisterError]] = {
    kind.code: kind
    for kind in (
        QueryFailed,
        Syntax,
        NotOneStatement,
        StatementNotAllowed,
        FunctionNotAllowed,
        UnknownRelation,
        AggregatesOnly,
        QueryCancelled,
        TimeLimit,
        MemoryLimit,
        ResultTooLarge,
    )
}


def from_worker(problem: dict[str, object]) -> CloisterError:
    """The error that a worker reports. Its text is the worker's; what it may be is ours."""
    kind = BY_CODE.get(str(problem.get("code")), Internal)
    return kind(str(problem.get("detail") or "")[:2000] or None)
