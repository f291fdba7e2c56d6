"""What can be wrong with a dashboard, a live session or a share."""

from cloister.core.errors import Conflict, Forbidden, NotFound, TooManyRequests, Unauthenticated


class DashboardNotFound(NotFound):
    """There is no such dashboard."""

    code = "dashboard.not_found"


class ShareNotFound(NotFound):
    """This link shows nothing: it was revoked, has expired, or never was."""

    code = "share.not_found"


class AdderGone(Forbidden):
    """Whoever last said what this does is no longer in this space. Save it again, and it runs for you."""

    code = "dashboard.adder_gone"


class ShareUnavailable(Conflict):
    """This dashboard cannot be shown just now. Whoever shared it can find out why."""

    code = "share.unavailable"


class SharePaused(Conflict):
    """This link is paused by whoever shared it."""

    code = "share.paused"


class PassphraseNeeded(Unauthenticated):
    """This link needs its passphrase."""

    code = "share.passphrase_needed"


class DataNotShareable(Forbidden):
    """An integration of this dashboard asks governed data that its grants do not let out of the space."""

    code = "share.data_not_shareable"


class TicketInvalid(Forbidden):
    """This ticket was used, or is too old. Ask for another."""

    code = "live.bad_ticket"


class OutputNotFound(NotFound):
    """There is no such output, or you do not look at it any more."""

    code = "live.output_not_found"


class TooManySessions(TooManyRequests):
    """Too many integrations run for this team. Close a dashboard first."""

    code = "live.too_many"


class TooManyVariants(TooManyRequests):
    """Too many people look at this with settings of their own just now. Try again in a minute, or without yours."""

    code = "share.too_many_variants"


class ModuleTooDemanding(Forbidden):
    """This module asks for more than the largest size of this space."""

    code = "live.module_too_demanding"
