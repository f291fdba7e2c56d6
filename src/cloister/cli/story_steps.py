"""What the steps of the demo's story are checked with."""

from typing import Any

import httpx2


def check(condition: bool, why: str) -> None:
    """Raise `AssertionError`, also when Python optimises assertions away."""
    if not condition:
        raise AssertionError(why)


def expect(response: httpx2.Response, status: int) -> Any:
    """Return the JSON of an answer that has the status that it should have."""
    check(response.status_code == status, f"{response.request.url.path}: {response.status_code} {response.text[:300]}")
    return response.json()
