"""The audit log: append-only records, chained by hash, checkpointed with a signature, verified, searched."""

from cloister.audit.chain import seal
from cloister.audit.checkpoints import CheckpointController, read_checkpoints
from cloister.audit.counting import by_hour
from cloister.audit.names import Name
from cloister.audit.record import Draft, Outcome, record
from cloister.audit.recorder import Recorder
from cloister.audit.search import Filter, between, head, search, stream
from cloister.audit.verify import Verdict, verify

__all__ = [
    "CheckpointController",
    "Draft",
    "Filter",
    "Name",
    "Outcome",
    "Recorder",
    "Verdict",
    "between",
    "by_hour",
    "head",
    "read_checkpoints",
    "record",
    "seal",
    "search",
    "stream",
    "verify",
]
