"""Governed SQL: check, record, run in a sandboxed worker, stream Arrow."""

from cloister.query.broker import Broker, Question
from cloister.query.convert import SandboxConverter
from cloister.query.data_access import GrantedData
from cloister.query.inner import register as register_inner
from cloister.query.preparing import EditionController
from cloister.query.program import WORKER_PACKAGES
from cloister.query.relations import Relations
from cloister.query.workers import Workers

__all__ = [
    "WORKER_PACKAGES",
    "Broker",
    "EditionController",
    "GrantedData",
    "Question",
    "Relations",
    "SandboxConverter",
    "Workers",
    "register_inner",
]
