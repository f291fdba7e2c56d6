"""What can be wrong at the airlock."""

from cloister.core.errors import Conflict, Forbidden, NotFound, TooLarge


class ExportNotFound(NotFound):
    """There is no such export, or no such file in it."""

    code = "export.not_found"


class ExportDecided(Conflict):
    """This export is decided already."""

    code = "export.decided"


class ExportNotApproved(Forbidden):
    """These files may leave only when a steward or reviewer has approved them."""

    code = "export.not_approved"


class ExportOwn(Forbidden):
    """Nobody lets their own team's files out: another steward or reviewer has to decide."""

    code = "export.own"


class ExportOthers(Forbidden):
    """Only the team that asked, and those who decide, get these files."""

    code = "export.others"


class ExportGone(Conflict):
    """The copies of these files are removed by now. Ask for them again."""

    code = "export.gone"


class ExportTooLarge(TooLarge):
    """These files are more than may leave at once. Ask for fewer, or for results instead of data."""

    code = "export.too_large"


class TooManyWaiting(Conflict):
    """Your team has many exports that wait already. Withdraw one, or wait for answers."""

    code = "export.too_many"
