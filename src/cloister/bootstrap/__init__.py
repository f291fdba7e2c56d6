"""The composition root: the only place that knows which implementation is which."""

from cloister.bootstrap.migrations import check_schema, upgrade_schema
from cloister.bootstrap.platform import Platform, StateInUse

__all__ = ["Platform", "StateInUse", "check_schema", "upgrade_schema"]
