"""The names that workspaces are reached by: ``TEAM.SPACE.DOMAIN``. Pure."""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from cloister.platform import Settings

STATIC = "/_cloister/static"
"""Under it, on every workspace's origin, Caddy serves files of environments from disk."""
SERVED = "served"
"""A file in an environment that says so."""
_LABEL = re.compile(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")


def plain(path: str) -> bool:
    """Whether a path means the same to everybody who reads it: no ``.``, ``..`` or empty segment, encoded or not.

    Caddy, the gateway and the app each tidy such paths in their own way, so that one could be judged and another served.
    """
    segments = unquote(path.partition("?")[0]).replace("\\", "/").split("/")[1:]
    return not ({".", ".."} & set(segments) or "" in segments[:-1])


def cookie_name(settings: Settings) -> str:
    """The cookie of a workspace's origin. ``__Host-`` binds it to that origin alone; browsers demand HTTPS for it."""
    return "__Host-cloister-workspace" if settings.cookie_secure else "cloister-workspace"


@dataclass(frozen=True)
class Address:
    """Which workspace a host name means."""

    team: str
    space: str


@dataclass(frozen=True)
class Hosts:
    """Reads and writes host names under one domain."""

    scheme: str
    domain: str
    port: int | None
    public: str = "localhost"
    """The name that the platform itself is at."""

    @classmethod
    def of(cls, public_url: str, domain: str | None = None) -> "Hosts":
        """The workspaces' names beside a public address; under its host unless another domain is given."""
        url = urlsplit(public_url)
        public = url.hostname or "localhost"
        return cls(url.scheme, domain or public, url.port, public)

    def parse(self, host: str) -> Address | None:
        """Return what a Host header means; None when it is no workspace's."""
        name, _, port = host.lower().partition(":")
        if not name.endswith("." + self.domain) or (port and (not port.isdigit() or int(port) != self.port)):
            return None
        labels = name.removesuffix("." + self.domain).split(".")
        if len(labels) != 2 or not all(_LABEL.match(label) for label in labels):
            return None
        return Address(labels[0], labels[1])

    def is_ours(self, name: str) -> bool:
        """Whether a host name is the platform's own: its front page's, that of widgets or of shares."""
        return name in {self.public, f"widgets.{self.domain}", f"shares.{self.domain}"}

    @property
    def widgets(self) -> str:
        """The origin of the pages of widgets."""
        return self._beside("widgets")

    @property
    def shares(self) -> str:
        """The origin of the pages that show shares: no cookie of the platform is there."""
        return self._beside("shares")

    def _beside(self, name: str) -> str:
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}://{name}.{self.domain}{port}"

    def host(self, team: str, space: str) -> str:
        port = "" if self.port is None else f":{self.port}"
        return f"{team}.{space}.{self.domain}{port}"

    def origin(self, team: str, space: str) -> str:
        return f"{self.scheme}://{self.host(team, space)}"
