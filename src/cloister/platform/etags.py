"""Changes that must not overwrite what somebody else has changed meanwhile."""

from cloister.core.errors import PreconditionFailed, PreconditionRequired


def check_etag(current: str, if_match: str | None) -> None:
    """Check that whoever changes something has seen it as it is, or says that it does not matter (``*``).

    Raises:
        PreconditionRequired: when they do not say what they have seen.
        PreconditionFailed: when it is not that any more.
    """
    if if_match is None:
        raise PreconditionRequired
    if if_match not in {current, "*"}:
        raise PreconditionFailed
