"""The same under the name that modules of an earlier dashboard service use: ``visualbox.MODEL``, ``visualbox.output``."""

import cloister
from cloister import output

__all__ = ["MODEL", "output"]


def __getattr__(name):
    if name == "MODEL":
        return cloister.MODEL
    raise AttributeError(f"module 'visualbox' has no attribute {name!r}")
