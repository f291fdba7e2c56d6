"""Why a statement was not answered: each with a stable code, its docstring the sentence for people."""


class QueryError(Exception):
    """The statement failed."""

    code = "query.failed"


class NotOneStatement(QueryError):
    """Send exactly one statement."""

    code = "query.not_one_statement"


class StatementNotAllowed(QueryError):
    """Only SELECT, DESCRIBE and SUMMARIZE are allowed: data are read here, and nothing else."""

    code = "query.statement_not_allowed"


class FunctionNotAllowed(QueryError):
    """That function is not available here."""

    code = "query.function_not_allowed"


class UnknownRelation(QueryError):
    """There is no such table that you may query."""

    code = "query.unknown_relation"


class SyntaxInvalid(QueryError):
    """This is not valid SQL."""

    code = "query.syntax"


class Cancelled(QueryError):
    """The query was cancelled."""

    code = "query.cancelled"


class OutOfTime(QueryError):
    """The query ran longer than it may."""

    code = "query.time_limit"


class OutOfMemory(QueryError):
    """The query needs more memory than it may have."""

    code = "query.memory_limit"


class ResultTooLarge(QueryError):
    """The result has more rows or bytes than your grant allows. Aggregate, or ask for fewer."""

    code = "query.result_too_large"


class GroupTooSmall(QueryError):
    """Your grant shows only aggregates: one SELECT over one table, of group keys and simple aggregates of columns."""

    code = "query.aggregates_only"
