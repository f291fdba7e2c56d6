"""Commands as a client of a running server: with a token, or, on the server's own machine, as its operator."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

from cloister.cli.output import Failure
from cloister.core.errors import SettingsError


@contextmanager
def connect(timeout: float | None = 120.0) -> Iterator[httpx2.Client]:
    """A client of ``CLOISTER_URL`` with ``CLOISTER_TOKEN``, or of the server that runs on this machine."""
    url, token = os.environ.get("CLOISTER_URL"), os.environ.get("CLOISTER_TOKEN")
    transport = None
    if url is None or token is None:
        from cloister.platform.settings import load  # noqa: PLC0415 — not needed for a server elsewhere, and heavy

        try:
            settings = load()
        except SettingsError as error:
            raise Failure(
                f"Set CLOISTER_URL and CLOISTER_TOKEN, or run this where the server's settings are.\n{error}"
            ) from error
        if url is None and settings.gateway != "off":  # past Caddy, whose certificate this machine may not know
            url = "http://localhost"
            transport = httpx2.HTTPTransport(uds=str(settings.run_directory / "control.sock"))
        url = url or f"http://{settings.listen_host}:{settings.listen_port}"
        secret = settings.run_directory / "operator-token"
        if token is None and secret.exists():
            token = secret.read_text()
    if token is None:
        message = "No token: set CLOISTER_TOKEN (make one with POST /api/v1/me/tokens), or start the server first."
        raise Failure(message)
    with httpx2.Client(
        base_url=f"{url}/api/v1", headers={"Authorization": f"Bearer {token}"}, timeout=timeout, transport=transport
    ) as http:
        try:
            yield http
        except httpx2.HTTPError as error:
            raise Failure(f"The server at {url} does not answer: {error}") from error


def checked(response: httpx2.Response) -> Any:
    """The answer's JSON.

    Raises:
        Failure: with the server's own words when it is a problem.
    """
    if response.status_code >= 400:
        response.read()
        try:
            problem = response.json()
        except ValueError:
            problem = {"detail": response.text[:300], "code": str(response.status_code)}
        scope = f" ({problem['scope']})" if "scope" in problem else ""
        raise Failure(f"{problem.get('detail')}{scope} [{problem.get('code')}]")
    return response.json() if response.content else None
