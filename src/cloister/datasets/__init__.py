"""Governed data: the catalogue, immutable versions, and grants."""

from cloister.datasets.declaration import (
    Column,
    DatasetDeclaration,
    GrantDeclaration,
    Metadata,
    Operation,
    Table,
    TablePolicy,
)
from cloister.datasets.errors import (
    BadGrant,
    BadSource,
    DatasetNotFound,
    DownloadNotGranted,
    VersionNotFound,
)
from cloister.datasets.grants import Grants
from cloister.datasets.loading import VersionController
from cloister.datasets.models import Dataset, DatasetVersion, Edition, Grant
from cloister.datasets.periods import GrantPeriodController
from cloister.datasets.ports import Converted, Converter, Progress, Reading
from cloister.datasets.service import Datasets, Source, digest_of, format_of

__all__ = [
    "BadGrant",
    "BadSource",
    "Column",
    "Converted",
    "Converter",
    "Dataset",
    "DatasetDeclaration",
    "DatasetNotFound",
    "DatasetVersion",
    "Datasets",
    "DownloadNotGranted",
    "Edition",
    "Grant",
    "GrantDeclaration",
    "GrantPeriodController",
    "Grants",
    "Metadata",
    "Operation",
    "Progress",
    "Reading",
    "Source",
    "Table",
    "TablePolicy",
    "VersionController",
    "VersionNotFound",
    "digest_of",
    "format_of",
]
