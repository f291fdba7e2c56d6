"""``space.yaml``: a space declared in a file. Read, plan, apply, export."""

from cloister.blueprint.document import (
    Blueprint,
    BlueprintError,
    catalogue,
    dump,
    json_schema,
    read,
)
from cloister.blueprint.ending import Endings, Removed
from cloister.blueprint.service import Blueprints, Change

__all__ = [
    "Blueprint",
    "BlueprintError",
    "Blueprints",
    "Change",
    "Endings",
    "Removed",
    "catalogue",
    "dump",
    "json_schema",
    "read",
]
