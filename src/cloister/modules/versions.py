"""Semantic versions, and ranges as npm writes them. Pure."""

from collections.abc import Iterable

from semantic_version import NpmSpec, Version

from cloister.modules.errors import VersionRefused


def parse(text: str) -> Version:
    """Read a version.

    Raises:
        VersionRefused: when it is none.
    """
    try:
        return Version(text[:60])
    except ValueError as error:
        raise VersionRefused(f"“{text[:60]}” is no version; write for example 1.2.0.") from error


def check_next(wanted: str, published: Iterable[str]) -> None:
    """Check that a version may follow those that there are (also yanked, removed or failed ones).

    Raises:
        VersionRefused: when it exists, or is lower than one that does.
    """
    version = parse(wanted)
    existing = [Version(text) for text in published]
    if any(version == other for other in existing):
        raise VersionRefused(
            f"{wanted} is taken: releases never change, also those that failed. Choose a higher version."
        )
    highest = max(existing, default=None)
    if highest is not None and version < highest:
        raise VersionRefused(f"{highest} is published; {wanted} is lower.")


def choose(wanted: str, available: Iterable[str], pinned: Iterable[str] = ()) -> str | None:
    """The best release for a wish: ``latest``, a range, or an exact version (also one that was yanked).

    Raises:
        VersionRefused: when the wish is neither.
    """
    if wanted in {*pinned}:
        return wanted
    versions = [Version(text) for text in available]
    if wanted in {"", "latest", "*"}:
        stable = [version for version in versions if not version.prerelease]
        best = max(stable or versions, default=None)
        return None if best is None else str(best)
    try:
        best = NpmSpec(wanted[:100]).select(versions)
    except ValueError as error:
        raise VersionRefused(f"“{wanted[:100]}” is no version or range; examples: 1.2.0, ^1.2, 1.x, latest.") from error
    return None if best is None else str(best)
