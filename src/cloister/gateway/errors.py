"""What the gateway says no to."""

from cloister.core.errors import Forbidden, Invalid, NotFound, TooLarge, TooManyRequests, Unavailable


class NoSuchWorkspace(NotFound):
    """There is nothing at this address. Look at the name of the team and of the space."""

    code = "gateway.no_such_workspace"


class CrookedPath(Invalid):
    """An address may not have “.”, “..” or empty parts in its path."""

    code = "gateway.crooked_path"


class WrongOrigin(Forbidden):
    """This request came from another site's page. A workspace takes changes and connections from its own pages only."""

    code = "gateway.wrong_origin"


class WorkspaceAsleep(Unavailable):
    """This workspace does not run. Open it in a browser, or start it with “cloister workspace start”."""

    code = "gateway.workspace_asleep"


class TerminalsBlocked(Forbidden):
    """Terminals are not available in this space."""

    code = "gateway.terminals_blocked"


class CommandRefused(Invalid):
    """What runs in terminals is recorded here, as it is typed: one cannot be opened with a command of its own."""

    code = "gateway.command_refused"


class DownloadsBlocked(Forbidden):
    """Files do not leave this space by download. Your work is saved here; ask a steward when something must leave."""

    code = "gateway.downloads_blocked"


class TooLargeToView(Forbidden):
    """This file is too large to be opened in a browser here. Read it from a notebook instead."""

    code = "gateway.too_large_to_view"


class BudgetSpent(TooManyRequests):
    """Today's budget of data that may leave is used up. It is new tomorrow; a steward can also give more."""

    code = "gateway.budget_spent"


class UploadTooLarge(TooLarge):
    """This is more than may be uploaded at once here."""

    code = "gateway.upload_too_large"


class UnreadableMessage(Invalid):
    """This message to a kernel is not in a form that can be recorded, so it does not reach the kernel."""

    code = "gateway.unreadable_message"


class CodeInvalid(Forbidden):
    """This way in was used already, or is too old. Open the workspace again."""

    code = "gateway.code_invalid"
