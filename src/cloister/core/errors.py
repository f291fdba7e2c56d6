"""One family of errors: an HTTP status, a stable code, a sentence that helps.

CloisterError
├── Invalid 422            the input is wrong; it says where
├── Unauthenticated 401    nobody is signed in
├── Forbidden 403          somebody is, and may not
├── NotFound 404           or may not know whether it exists
├── Conflict 409           the state does not allow it
├── PreconditionFailed 412 somebody else changed it first
├── PreconditionRequired 428
├── TooLarge 413
├── TooManyRequests 429
├── Unavailable 503        try again later
├── TimedOut 504
└── Internal 500           our fault

A subclass gives its own ``code``; its docstring is the default sentence.
"""

import inspect
from collections.abc import Mapping
from typing import ClassVar

Facts = str | int | float | bool | list[str] | list[dict[str, str]] | Mapping[str, str] | None


class SettingsError(Exception):
    """The settings are wrong; the message says which and what to write. Nothing is served yet, so it has no status."""


class CloisterError(Exception):
    """Something went wrong."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"

    def __init__(self, detail: str | None = None, /, **facts: Facts) -> None:
        self.detail = detail or inspect.cleandoc(self.__doc__ or "")
        self.facts = facts
        super().__init__(self.detail)

    def problem(self) -> dict[str, object]:
        """The body of an ``application/problem+json`` answer (RFC 9457)."""
        title = inspect.cleandoc(self.__doc__ or "").splitlines()[0]
        return {
            "type": f"urn:cloister:error:{self.code}",
            "title": title,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            **{name: value for name, value in self.facts.items() if value is not None},
        }


class Invalid(CloisterError):
    """The request has something in it that cannot be accepted."""

    status = 422
    code = "invalid"


class Unauthenticated(CloisterError):
    """Sign in first."""

    status = 401
    code = "unauthenticated"


class Forbidden(CloisterError):
    """You may not do this."""

    status = 403
    code = "forbidden"


class NotFound(CloisterError):
    """There is nothing here under that name that you may see."""

    status = 404
    code = "not_found"


class Conflict(CloisterError):
    """This is not possible in the present state."""

    status = 409
    code = "conflict"


class PreconditionFailed(CloisterError):
    """Somebody changed this since you read it. Read it again and repeat your change."""

    status = 412
    code = "precondition_failed"


class PreconditionRequired(CloisterError):
    """Send If-Match with the ETag you read, so that nobody's change is overwritten unseen."""

    status = 428
    code = "precondition_required"


class TooLarge(CloisterError):
    """This is larger than is allowed."""

    status = 413
    code = "too_large"


class TooManyRequests(CloisterError):
    """Too many attempts. Wait a little and try again."""

    status = 429
    code = "too_many_requests"


class Unavailable(CloisterError):
    """This part of the platform cannot answer just now. Try again in a moment."""

    status = 503
    code = "unavailable"


class TimedOut(CloisterError):
    """This took longer than it may."""

    status = 504
    code = "timed_out"


class Internal(CloisterError):
    """Something went wrong on our side. The request id finds it in the operator's log."""

    code = "internal"
