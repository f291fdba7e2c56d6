"""Spaces, agreements, enrolments and teams as the API shows them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cloister.core.ids import person_label, team_label
from cloister.identity import Person
from cloister.platform.markdown import to_html
from cloister.spaces.enrolment import ALLOW_LIST, APPROVAL
from cloister.spaces.form import FormField
from cloister.spaces.models import AgreementVersion, Enrolment, Space, Team
from cloister.spaces.store import declared


class RoundOut(BaseModel):
    """A stretch of a competition."""

    name: str
    title: str
    starts: datetime
    ends: datetime


class SpaceOut(BaseModel):
    """A space, as everybody may see it."""

    slug: str
    kind: str
    title: str
    description: str
    sponsor: str
    rules_html: str
    """The rules, to be shown; there is nothing in them that runs or loads."""
    starts: datetime | None
    ends: datetime | None
    state: str
    enrolment: str
    enrolment_days: int | None
    rounds: list[RoundOut]

    @classmethod
    def of(cls, space: Space) -> "SpaceOut":
        declaration = declared(space)
        return cls(
            slug=space.space,
            kind=space.kind,
            title=space.title,
            description=declaration.description,
            sponsor=declaration.sponsor,
            rules_html=to_html(declaration.rules) if declaration.rules else "",
            starts=space.starts_at,
            ends=space.ends_at,
            state=space.state,
            enrolment=declaration.enrolment.mode,
            enrolment_days=declaration.enrolment.days,
            rounds=[
                RoundOut(name=each.name, title=each.title or each.name, starts=each.starts, ends=each.ends)
                for each in sorted(declaration.rounds, key=lambda stretch: stretch.starts)
            ],
        )


class SpacePage(BaseModel):
    """Spaces by slug."""

    items: list[SpaceOut]
    next_cursor: str | None


class AgreementOut(BaseModel):
    """The current version of an agreement."""

    name: str
    title: str
    number: int
    hash: str
    required: bool
    text: str
    """What is signed, in Markdown; ``hash`` is of this and of the questions."""
    html: str
    """The same to be shown; there is nothing in it that runs or loads."""
    questions: list[FormField]
    """What is answered when signing."""
    published_at: datetime
    signed: int | None = None
    """The newest version that whoever asks has signed."""
    due: bool = False
    """Whether they have to sign this one."""

    @classmethod
    def of(cls, version: AgreementVersion, signed: int | None = None) -> "AgreementOut":
        return cls(
            signed=signed,
            due=version.required and (signed or 0) < version.floor,
            name=version.name,
            title=version.title,
            number=version.number,
            hash=version.hash,
            required=version.required,
            text=version.text,
            html=to_html(version.text),
            questions=[FormField.model_validate(question) for question in version.questions],
            published_at=version.published_at,
        )


class AgreementVersionOut(AgreementOut):
    """A version of an agreement, current or not."""

    current: bool
    signatures: int


class AgreementVersionList(BaseModel):
    """Every version of every agreement, newest first."""

    items: list[AgreementVersionOut]


class NamedPerson(BaseModel):
    """What somebody is called."""

    person: str
    name: str


class NameList(BaseModel):
    """People, by their numbers."""

    items: list[NamedPerson]


class SignerOut(BaseModel):
    """One person's signature."""

    person: str
    name: str
    number: int
    answers: dict[str, Any]
    signed_at: datetime


class SignerPage(BaseModel):
    """Who signed an agreement, newest first."""

    items: list[SignerOut]
    next_cursor: str | None


class RegistrationOut(BaseModel):
    """All that somebody needs to register: the form, and the agreements to read."""

    fields: list[FormField]
    agreements: list[AgreementOut]
    needs_code: bool
    chooses_team: bool
    notebook: bool
    """Whether whoever is admitted gets a workspace."""


class SettingsEffects(BaseModel):
    """What a change of a space means for those who are in."""

    leave: int
    """So many lose their access at once: their time would be over."""
    sign: int
    """So many can do nothing until they have signed."""
    back: int
    """So many whom a wrong date put out come back for what is left of their time."""


class AgreementDiff(BaseModel):
    """What changed since a version."""

    diff: str


class SignatureIn(BaseModel):
    """Acceptance of the version that was read."""

    model_config = ConfigDict(extra="forbid")

    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    answers: Annotated[dict[str, str | bool | None], Field(max_length=50)] = Field(default_factory=dict)
    """To the agreement's questions."""


class SignatureOut(BaseModel):
    """A signature."""

    agreement: str
    number: int
    hash: str
    signed_at: datetime


class ApplicationIn(BaseModel):
    """A registration, all in one."""

    model_config = ConfigDict(extra="forbid")

    answers: Annotated[dict[str, Any], Field(max_length=100)] = Field(default_factory=dict)
    signatures: Annotated[dict[str, str], Field(max_length=50)] = Field(default_factory=dict)
    """Agreement name to the hash of the version that was read."""
    agreement_answers: Annotated[dict[str, dict[str, Any]], Field(max_length=50)] = Field(default_factory=dict)
    """Agreement name to the answers to its questions."""
    code: Annotated[str, Field(max_length=200)] | None = None
    team: Annotated[str, Field(max_length=60)] | None = None
    """A new team's name."""
    invitation: Annotated[str, Field(max_length=200)] | None = None
    """Or the code that lets you join one."""


WAITS: dict[str, Literal["signature", "list", "approval"]] = {ALLOW_LIST: "list", APPROVAL: "approval"}


class EnrolmentOut(BaseModel):
    """A person's admission to a space."""

    person: str
    space: str
    state: str
    waiting_for: str | None
    """What an applicant still needs, as a sentence."""
    waits: Literal["signature", "list", "approval"] | None
    """The same as a word."""
    team: str | None
    reason: str | None
    applied_at: datetime
    admitted_at: datetime | None
    expires_at: datetime | None
    answers: dict[str, Any]
    name: str | None = None
    email: str | None = None
    """Of whom this is; told to those who judge whom to admit, and to nobody else."""

    @classmethod
    def of(cls, row: Enrolment, person: Person | None = None) -> "EnrolmentOut":
        return cls(
            name=None if person is None else person.name,
            email=None if person is None else person.email,
            person=person_label(row.person),
            space=row.space,
            state=row.state,
            waiting_for=row.waiting_for,
            waits=None if row.waiting_for is None else WAITS.get(row.waiting_for, "signature"),
            team=None if row.team is None else team_label(row.team),
            reason=row.reason,
            applied_at=row.applied_at,
            admitted_at=row.admitted_at,
            expires_at=row.expires_at,
            answers=row.answers,
        )


class MembershipOut(BaseModel):
    """What one is in a space."""

    space: SpaceOut
    roles: list[str]
    suspended: str | None
    """Why a role does not count for now: an agreement waits for a signature."""
    team_name: str | None
    enrolment: EnrolmentOut | None


class MembershipList(BaseModel):
    """All spaces that one has, had or asked for a place in."""

    items: list[MembershipOut]
    operator: bool


class EnrolmentPage(BaseModel):
    """Enrolments, oldest first."""

    items: list[EnrolmentOut]
    next_cursor: str | None


class Reason(BaseModel):
    """Why, as a sentence to the person."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(min_length=1, max_length=1000)]


class TeamIn(BaseModel):
    """A team to make."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(max_length=60)]


class TeamOut(BaseModel):
    """A team."""

    number: str
    name: str
    created_at: datetime
    members: list[str] | None = None
    """Who is in it now; in lists only."""

    @classmethod
    def of(cls, team: Team, members: list[int] | None = None) -> "TeamOut":
        return cls(
            number=team_label(team.team), name=team.name, created_at=team.created_at,
            members=None if members is None else [person_label(person) for person in members],
        )  # fmt: skip


class TeamPage(BaseModel):
    """Teams by number."""

    items: list[TeamOut]
    next_cursor: str | None


class MemberOut(BaseModel):
    """A member of a team."""

    person: str
    state: str


class MemberList(BaseModel):
    """A team's members."""

    items: list[MemberOut]


class InvitationOut(BaseModel):
    """A code for one person; it is shown this once."""

    code: str
    expires_at: datetime


class JoinIn(BaseModel):
    """The code of an invitation."""

    model_config = ConfigDict(extra="forbid")

    code: Annotated[str, Field(max_length=200)]


class AgreementText(BaseModel):
    """A text that may become an agreement's."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(max_length=60)]
    text: Annotated[str, Field(max_length=500_000)]


class AgreementPreview(BaseModel):
    """How a text will be read, and what it changes."""

    html: str
    diff: str
    """From the version that holds now, in unified form."""
