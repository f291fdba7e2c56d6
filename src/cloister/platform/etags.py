"""Changes that must not overwrite what somebody else has changed meanwhile."""

import hashlib

from cloister.core.errors import PreconditionFailed, PreconditionRequired


def check_etag(current: str, if_match: str | None) -> None:
    """Check that whoever changes something has seen it as it is, or says that it does not matter (``*``).

    Raises:
        PreconditionRequired: when they do not say what they have seen.
        PreconditionFailed: when it is not that any more.
    """
    if if_match is None:
        raise PreconditionRequired
    check_seen(current, if_match)


def check_seen(current: str | None, if_match: str | None) -> None:
    """The same for what is mostly one person's own: whoever does not say what they have seen need not have.

    Args:
        current: the present ETag; None for what is not there.
        if_match: what the caller has seen.

    Raises:
        PreconditionFailed: when they say, and it is not that any more.
    """
    if if_match is not None and (current is None or if_match.strip() not in {current, "*"}):
        raise PreconditionFailed


def etag_of(*parts: object) -> str:
    """An ETag of something without a version of its own, from all that can be changed of it."""
    return f'"{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"'
