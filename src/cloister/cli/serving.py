"""The HTTP server, as commands start it.

The application is named, not imported: ``cli`` and ``web`` are siblings, and this is the only place where they meet.
"""

from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp
from uvicorn.importer import import_from_string

from cloister.bootstrap import Platform


def http_server(platform: Platform, *, manage: bool) -> uvicorn.Server:
    """The server of a platform, ready to serve.

    Args:
        platform: the services.
        manage: whether the server's life starts and stops them.
    """
    create_app: Callable[..., ASGIApp] = import_from_string("cloister.web:create_app")
    settings = platform.settings
    return uvicorn.Server(
        uvicorn.Config(
            create_app(platform, manage=manage),
            host=settings.listen_host,
            port=settings.listen_port,
            log_config=None,
            access_log=False,
            http="httptools",
            loop="none",
            ws="none",
            timeout_graceful_shutdown=5,
            proxy_headers=True,
            forwarded_allow_ips=settings.trusted_proxies,
        )
    )
