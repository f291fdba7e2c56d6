"""What can be wrong with a module."""

from cloister.core.errors import Conflict, Forbidden, Invalid, NotFound


class BadModule(Invalid):
    """A file of the module is not what it must be."""

    code = "module.invalid"


class BadConfiguration(Invalid):
    """A value of the configuration is not what the module's model allows."""

    code = "module.bad_configuration"


class BadArchive(Invalid):
    """This ZIP file cannot be taken."""

    code = "module.bad_archive"


class BadPath(Invalid):
    """A file's path is relative, uses “/”, and has no “..”, no empty part and at most 200 characters."""

    code = "module.bad_path"


class ModuleTooLarge(Invalid):
    """A module has at most 500 files and 20 MB."""

    code = "module.too_large"


class WasPublished(Conflict):
    """A module that was published stays, for those whose dashboards name it. You can take away its releases."""

    code = "module.was_published"


class ModuleNotFound(NotFound):
    """There is no such module."""

    code = "module.not_found"


class ReleaseNotFound(NotFound):
    """There is no such release."""

    code = "module.release_not_found"


class AsksMore(Conflict):
    """This module asks for more than was accepted when it was added."""

    code = "module.asks_more"


class ModuleFileNotFound(NotFound):
    """There is no such file in this module."""

    code = "module.file_not_found"


class NameTaken(Conflict):
    """Another module has this name."""

    code = "module.name_taken"


class VersionRefused(Conflict):
    """This version cannot be published."""

    code = "module.version_refused"


class BadSource(Invalid):
    """This repository cannot be fetched."""

    code = "module.bad_source"


class SourceNotFound(NotFound):
    """This module is written here and comes from no repository."""

    code = "module.source_not_found"


class WrongSignature(Invalid):
    """The signature is not that of this module's webhook."""

    code = "module.wrong_signature"


class NotYours(Forbidden):
    """Only its author may change a module. Fork it to make your own."""

    code = "module.not_yours"
