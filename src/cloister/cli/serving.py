"""The HTTP server, as commands start it.

The application is named, not imported: ``cli`` and ``web`` are siblings, and this is the only place where they meet.
"""

import asyncio
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp
from uvicorn.importer import import_from_string

from cloister.bootstrap import Platform
from cloister.platform.sockets import short_path


class _BehindCaddy(uvicorn.Server):
    """Listens on a socket that only Caddy and we can open. (uvicorn's own would be open to everybody here.)"""

    def __init__(self, config: uvicorn.Config, platform: Platform) -> None:
        super().__init__(config)
        self._path = platform.settings.run_directory / "control.sock"

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        await asyncio.to_thread(self._path.unlink, missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            with short_path(self._path) as name:
                listener.bind(name)
            self._path.chmod(0o600)
            await super().serve([*(sockets or []), listener])


def http_server(platform: Platform, *, manage: bool) -> uvicorn.Server:
    """The server of a platform, ready to serve: where people reach it, or behind the gateway.

    Args:
        platform: the services.
        manage: whether the server's life starts and stops them.
    """
    create_app: Callable[..., ASGIApp] = import_from_string("cloister.web:create_app")
    settings = platform.settings
    behind = settings.gateway != "off"
    config = uvicorn.Config(
        create_app(platform, manage=manage),
        host=settings.listen_host,
        port=settings.listen_port,
        log_config=None,
        access_log=False,
        http="httptools",
        loop="none",
        ws="cloister.web.wire:WireProtocol",
        ws_per_message_deflate=False,  # each of a thousand viewers would be compressed for by itself
        timeout_graceful_shutdown=5,
        proxy_headers=True,
        forwarded_allow_ips="*" if behind else settings.trusted_proxies,
    )
    return _BehindCaddy(config, platform) if behind else uvicorn.Server(config)
