"""The HTTP application: factory, edge, error handlers. It mounts each domain's routes."""

from cloister.web.app import create_app

__all__ = ["create_app"]
