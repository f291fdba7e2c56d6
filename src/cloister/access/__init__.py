"""Who may do what: roles and rules as data, one decision, one scoping helper."""

from cloister.access.bindings import Bindings
from cloister.access.decision import Decider, Explain, standing
from cloister.access.models import RoleBinding
from cloister.access.rules import RULES, Rule, Who, table
from cloister.access.scoping import (
    scoped_delete,
    scoped_get,
    scoped_select,
    scoped_update,
)

__all__ = [
    "RULES",
    "Bindings",
    "Decider",
    "Explain",
    "RoleBinding",
    "Rule",
    "Who",
    "scoped_delete",
    "scoped_get",
    "scoped_select",
    "scoped_update",
    "standing",
    "table",
]
