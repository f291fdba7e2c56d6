"""The airlock: the reviewed way out for files. What leaves a cell was asked for, looked at, and let through by name."""

from cloister.airlock.controller import AirlockController
from cloister.airlock.inner import register as register_inner
from cloister.airlock.models import Export
from cloister.airlock.service import Airlock

__all__ = ["Airlock", "AirlockController", "Export", "register_inner"]
