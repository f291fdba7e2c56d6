"""What every domain stands on: settings, database, object store, secrets, bus, mail, logs, metrics."""

from cloister.platform.bus import Bus, Controller
from cloister.platform.call import Call
from cloister.platform.database import Base, Database, UnitOfWork, UtcDateTime
from cloister.platform.objects import ObjectStore
from cloister.platform.secrets import SecretBox
from cloister.platform.settings import OidcProvider, Settings

__all__ = [
    "Base",
    "Bus",
    "Call",
    "Controller",
    "Database",
    "ObjectStore",
    "OidcProvider",
    "SecretBox",
    "Settings",
    "UnitOfWork",
    "UtcDateTime",
]
