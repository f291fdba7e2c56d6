"""The command line: thin commands over the same services."""

from cloister.cli.main import main

__all__ = ["main"]
