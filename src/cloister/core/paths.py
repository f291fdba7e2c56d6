"""Addresses that somebody else gave us to send a browser to. Pure."""


def own_path(path: str) -> str:
    r"""A path of the same origin; ``/`` for anything that a browser could take for another site.

    Browsers read ``\`` as ``/`` and drop tabs and line ends, so that ``/\t/evil.example`` would be another site.
    """
    good = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if good else "/"
