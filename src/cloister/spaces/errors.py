"""What can go wrong on the way into a space, in words for the person it happens to."""

from cloister.core.errors import Conflict, Forbidden, Invalid, NotFound


class SpaceNotFound(NotFound):
    """There is no such space."""

    code = "space.not_found"


class SpaceEnded(Conflict):
    """This space has ended."""

    code = "space.ended"


class NotEnrolled(Forbidden):
    """You are not enrolled in this space. Register for it first."""

    code = "enrolment.required"


class EnrolmentWaiting(Forbidden):
    """Your registration is not complete yet."""

    code = "enrolment.waiting"


class SignatureMissing(Forbidden):
    """An agreement waits for your signature."""

    code = "agreement.unsigned"


class EnrolmentOver(Forbidden):
    """Your enrolment has ended."""

    code = "enrolment.ended"


class EnrolmentClosed(Conflict):
    """Registration for this space is not open now."""

    code = "enrolment.closed"


class WrongCode(Forbidden):
    """That registration code is not right."""

    code = "enrolment.wrong_code"


class EnrolmentNotFound(NotFound):
    """There is no such enrolment."""

    code = "enrolment.not_found"


class WrongState(Conflict):
    """That is not possible in the enrolment's present state."""

    code = "enrolment.wrong_state"


class AgreementNotFound(NotFound):
    """There is no such agreement."""

    code = "agreement.not_found"


class AgreementOutdated(Conflict):
    """The agreement has changed since you read it. Read the present version and sign that."""

    code = "agreement.outdated"


class TeamNotFound(NotFound):
    """There is no such team that you may see."""

    code = "team.not_found"


class TeamNameTaken(Conflict):
    """A team of that name exists already. Choose another name."""

    code = "team.name_taken"


class BadTeamName(Invalid):
    """A team's name is made of small letters, digits and hyphens, begins with a letter and has at most 40."""

    code = "team.bad_name"


class TeamFull(Conflict):
    """That team has as many members as a team may have here."""

    code = "team.full"


class InTeamAlready(Conflict):
    """You are in a team already. Leave it first."""

    code = "team.in_team_already"


class InvitationInvalid(Forbidden):
    """That invitation is not valid: used, expired, or for another space."""

    code = "team.invitation_invalid"
