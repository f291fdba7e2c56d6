"""What can be wrong with a workspace."""

from cloister.core.errors import Conflict, Invalid, NotFound, Unavailable


class WorkspaceNotFound(NotFound):
    """There is no such workspace. A team's workspace is made when one of its members first opens it."""

    code = "workspace.not_found"


class NoApp(Invalid):
    """This environment has no app to open in a browser. Choose one that has."""

    code = "workspace.no_app"


class KernelMissing(Unavailable):
    """This machine lacks a language that the environment offers."""

    code = "workspace.kernel_missing"


class KeepTooLong(Invalid):
    """A workspace cannot be kept running that long here."""

    code = "workspace.keep_too_long"


class NeedsApproval(Conflict):
    """That is more than a team may take by itself here. Ask for it with a reason; a steward decides."""

    code = "workspace.needs_approval"


class EnvironmentPinned(Conflict):
    """All workspaces of this space run in one environment during this round."""

    code = "workspace.environment_pinned"


class RequestNotFound(NotFound):
    """There is no such request."""

    code = "capacity.not_found"


class RequestDecided(Conflict):
    """This request was decided already."""

    code = "capacity.decided"
