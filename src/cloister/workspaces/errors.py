"""What can be wrong with a workspace."""

from cloister.core.errors import Conflict, Invalid, NotFound


class WorkspaceNotFound(NotFound):
    """There is no such workspace. A team's workspace is made when one of its members first opens it."""

    code = "workspace.not_found"


class NoApp(Invalid):
    """This environment has no app to open in a browser. Choose one that has."""

    code = "workspace.no_app"


class KeepTooLong(Invalid):
    """A workspace cannot be kept running that long here."""

    code = "workspace.keep_too_long"


class WorkspaceDiskTooLarge(Conflict):
    """That is more disk than a team gets here. Ask a steward of this space."""

    code = "workspace.disk_too_large"
