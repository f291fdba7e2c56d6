"""What can go wrong with datasets."""

from cloister.core.errors import Conflict, Invalid, NotFound


class DatasetNotFound(NotFound):
    """There is no such dataset that you may see."""

    code = "dataset.not_found"


class VersionNotFound(NotFound):
    """There is no such version of this dataset."""

    code = "dataset.version_not_found"


class UploadNotFound(NotFound):
    """There is no such upload. Upload the file first."""

    code = "dataset.upload_not_found"


class VersionNotReady(Conflict):
    """This version is not ready."""

    code = "dataset.version_not_ready"


class GrantNotFound(NotFound):
    """There is no such grant."""

    code = "grant.not_found"


class BadGrant(Invalid):
    """This grant names something that does not exist."""

    code = "grant.bad"


class BadSource(Invalid):
    """This file cannot be loaded."""

    code = "dataset.bad_source"


class DownloadNotGranted(NotFound):
    """No grant lets you download this dataset."""

    code = "dataset.download_not_granted"


class DatasetTaken(Conflict):
    """There is a dataset of that name already. Read it, and change it with its ETag."""

    code = "dataset.taken"
