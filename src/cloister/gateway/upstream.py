"""Speaking to the app in a sandbox: over a name of ours for its socket, with the token that only the gateway knows."""

import os
from collections.abc import Awaitable
from pathlib import Path

import aiohttp

from cloister.core.ids import person_label, team_label
from cloister.gateway.decision import Allowed
from cloister.gateway.errors import WorkspaceAsleep
from cloister.platform import Settings
from cloister.sandboxes import SandboxController, link_app


class Upstreams:
    """Names and clients, one for each sandbox that is visited."""

    def __init__(self, settings: Settings, sandboxes: SandboxController) -> None:
        self._sandboxes = sandboxes
        self._run = settings.run_directory
        self._absolute = settings.gateway == "external"
        self._clients: dict[str, aiohttp.ClientSession] = {}

    def dial(self, allowed: Allowed) -> str:
        """The address that Caddy dials for a running workspace, right now.

        Raises:
            WorkspaceAsleep: when it does not run, or does not listen.
        """
        id_ = allowed.sandbox
        if id_ is None or allowed.state != "running" or not self._link(id_):
            raise WorkspaceAsleep(allowed.reason)
        link = self._sandboxes.place(id_).app_link
        return f"unix/{link if self._absolute else link.relative_to(self._run)}"

    def dials(self, allowed: Allowed) -> bool:
        """Whether it runs, and listens."""
        return allowed.sandbox is not None and allowed.state == "running" and self._link(allowed.sandbox)

    def paths(self, allowed: Allowed) -> tuple[str, str]:
        """Where the app listens, as it says, and our name for it."""
        place = self._sandboxes.place(str(allowed.sandbox))
        return str(place.app / "app.sock"), str(place.app_link)

    def _link(self, id_: str) -> bool:
        return id_ in self._sandboxes.live and link_app(self._sandboxes.place(id_))

    def headers(self, allowed: Allowed) -> dict[str, str]:
        """What the app is told: that the gateway speaks, and for whom, by number."""
        return {
            "Authorization": f"token {self._sandboxes.app_token(str(allowed.sandbox))}",
            "Cloister-Person": person_label(allowed.person),
            "Cloister-Team": team_label(allowed.team),
        }

    def client(self, allowed: Allowed) -> aiohttp.ClientSession:
        """A client whose every connection goes to a workspace's app.

        Raises:
            WorkspaceAsleep: when it does not run, or does not listen.
        """
        self.dial(allowed)
        id_ = str(allowed.sandbox)
        found = self._clients.get(id_)
        if found is None:
            connector = _ShortConnector(self._sandboxes.place(id_).app_link)
            found = self._clients[id_] = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10), trust_env=False,
            )  # fmt: skip
        return found

    async def forget_ended(self) -> None:
        """Drop the clients of sandboxes that are gone."""
        for id_ in [id_ for id_ in self._clients if id_ not in self._sandboxes.live]:
            await self._clients.pop(id_).close()

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()
        self._clients.clear()


class _ShortConnector(aiohttp.UnixConnector):
    """Connects to a socket whose path may be longer than an address can hold."""

    def __init__(self, path: Path) -> None:
        self._folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        super().__init__(f"/proc/self/fd/{self._folder}/{path.name}", limit=0)

    def _close(self, *, abort_ssl: bool = False) -> "list[Awaitable[object]]":
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1
        return super()._close(abort_ssl=abort_ssl)
