"""What a space is declared to be: the part of ``space.yaml`` that this domain owns, validated."""

import hashlib
import itertools
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, field_validator, model_validator

from cloister.core.principal import Role
from cloister.spaces.declared import Declared, Moment, parse_bytes
from cloister.spaces.form import FormField

Slug = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,38}[a-z0-9]$")]
"""A DNS label: it becomes part of host names."""
EnvironmentName = Annotated[
    str, Field(pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?(@[A-Za-z0-9]([A-Za-z0-9._-]{0,30}[A-Za-z0-9])?)?$")
]
"""``lab``, or with a version ``lab@2027.1``: versions stand side by side, and a fleet moves from one to another."""
RoleName: TypeAlias = Literal["owner", "steward", "reviewer", "viewer"]
"""The roles in a space that are given to addresses; members come by enrolment."""


class EnrolmentPolicy(Declared):
    """How people get in and how long they stay."""

    mode: Literal["open", "code", "allow-list", "approval"] = "open"
    code: str | None = None
    """For mode ``code``: the code as given out. Only its hash is kept."""
    code_sha256: str | None = None
    days: Annotated[int, Field(ge=1, le=3660)] | None = None
    """How long an enrolment lasts; until the space ends when absent."""
    opens: Moment | None = None
    closes: Moment | None = None

    @model_validator(mode="before")
    @classmethod
    def _hash_code(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("code"):
            values = dict(values)
            values["code_sha256"] = hashlib.sha256(str(values.pop("code")).encode()).hexdigest()
        return values

    @model_validator(mode="after")
    def _code_for_code(self) -> Self:
        if (self.mode == "code") != (self.code_sha256 is not None):
            message = "a code belongs to the mode “code”, and it needs one"
            raise ValueError(message)
        return self


class AgreementDeclaration(Declared):
    """Terms that people sign."""

    name: Slug
    title: Annotated[str, Field(min_length=1, max_length=200)]
    text: Annotated[str, Field(min_length=1, max_length=500_000)]
    """Markdown."""
    required: bool = True
    sign_again: bool = True
    """Whether those who signed an earlier version must sign this one before they go on."""
    questions: list[FormField] = Field(default_factory=list)
    """What whoever signs has to answer; the answers are part of the signature."""

    @property
    def version_hash(self) -> str:
        """Of all that is signed: the text, and the questions where there are any."""
        asked = "".join("\0" + question.model_dump_json() for question in self.questions)
        return hashlib.sha256((self.text + asked).encode()).hexdigest()


class TeamPolicy(Declared):
    """How large teams are. In a course every learner is a team of one."""

    max_members: Annotated[int, Field(ge=1, le=1000)] = 5


class Size(Declared):
    """The limits of a sandbox."""

    cpus: Annotated[float, Field(gt=0, le=1024)] = 0.5
    memory: str = "512M"
    disk: str = "1G"
    scratch: str = "64M"
    processes: Annotated[int, Field(ge=4, le=100_000)] = 128
    files: Annotated[int, Field(ge=64, le=1_048_576)] = 1024
    """Open files of one process."""
    seconds: Annotated[float, Field(gt=0)] = 3600
    """Wall-clock limit of a run; workspaces have none."""
    price: Annotated[float, Field(ge=0)] = 0
    """What a workspace of this size costs in an hour, in the unit that the space counts in."""

    @field_validator("memory", "disk", "scratch")
    @classmethod
    def _is_size(cls, value: str) -> str:
        parse_bytes(value)
        return value

    @property
    def memory_bytes(self) -> int:
        return parse_bytes(self.memory)

    @property
    def disk_bytes(self) -> int:
        return parse_bytes(self.disk)

    @property
    def scratch_bytes(self) -> int:
        return parse_bytes(self.scratch)


JUPYTERLAB = ["jupyterlab>=4.6,<5", "jupyter-collaboration>=5,<6", "ipykernel>=7,<8"]
"""The platform's own Jupyter server: the same for all, so that no space's packages can break it."""
KERNEL = ["ipykernel>=7,<8", "pip>=25", "uv>=0.8"]
"""What an environment needs beside its own packages for kernels to run on it."""


class AppDeclaration(Declared):
    """A web application that a workspace runs."""

    command: list[str] = Field(default_factory=list)
    """What is run. Absent: what the image runs by itself."""
    port: Annotated[int, Field(ge=1024, le=65535)] | None = None
    """The port of its sandbox's loopback that it listens on. Absent: it listens on ``/run/app/app.sock``."""
    health: Annotated[str, Field(pattern=r"^/[^\s]*$")] = "/"
    """The path that answers once it serves."""
    start: Annotated[str, Field(pattern=r"^/[^\s]*$")] = "/"
    """The path that a visitor is sent to first."""
    static: dict[
        Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$")],
        Annotated[str, Field(pattern=r"^([A-Za-z0-9_-][A-Za-z0-9_.-]*/)*(_?static|assets)(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$")],
    ] = Field(default_factory=dict)  # fmt: skip
    """Folders of its address that hold files which never change, and where its packages have them: ``assets:
    marimo/_static/assets``. They are served from disk, precompressed, without asking anybody."""


class EnvironmentDeclaration(Declared):
    """What is inside a sandbox. ``packages`` are requirements as pip writes them; a lock is made and kept.

    One with an ``app`` can be a workspace: ``jupyterlab``, or any web application.
    """

    name: EnvironmentName
    title: str = ""
    description: str = ""
    packages: list[str] = Field(default_factory=list)
    image: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,60}$")] | None = None
    """An OCI image that an operator has brought (``cloister image import``), in the place of packages."""
    app: Literal["jupyterlab"] | AppDeclaration | None = None
    icon: Annotated[str, Field(max_length=16)] = ""
    kernels: Annotated[list[Literal["python", "r"]], Field(min_length=1)] = ["python"]  # noqa: RUF012  (a model copies it)
    """What JupyterLab offers to start; the first is what a new notebook gets. R is the machine's own."""

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> Self:
        if self.image is not None and (self.packages or self.app == "jupyterlab"):
            message = "an image brings its own packages and its own app: write “app: {command, port}”"
            raise ValueError(message)
        if self.image is None and isinstance(self.app, AppDeclaration) and not self.app.command:
            message = "an app needs a “command”"
            raise ValueError(message)
        if self.image is not None and isinstance(self.app, AppDeclaration) and self.app.static:
            message = "an image serves its own files: “static” is for the folders of packages"
            raise ValueError(message)
        return self

    @property
    def requirements(self) -> list[str]:
        """All that is installed: the declared packages and those that the app needs."""
        return [*self.packages, *(KERNEL if self.app == "jupyterlab" else [])]


class EgressRule(Declared):
    """A host that sandboxes may reach. ``*.example.org`` is every name under it."""

    host: Annotated[
        str, Field(pattern=r"^(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    ]
    ports: list[Annotated[int, Field(ge=1, le=65535)]] = Field(default_factory=lambda: [443])


class Policies(Declared):
    """What holds in the whole space."""

    egress: list[EgressRule] = Field(default_factory=list)
    sandboxes_per_team: Annotated[int, Field(ge=0, le=1000)] = 4
    volumes_per_team: Annotated[int, Field(ge=1, le=1000)] = 8
    """So many volumes a team may have, that of its workspace not counted."""
    snapshots_by_hand: Annotated[int, Field(ge=0, le=365)] = 7
    """So many copies of a volume people may keep, beside those on schedule."""
    integrations_per_team: Annotated[int, Field(ge=0, le=1000)] = 20
    """So many integrations of dashboards run for a team at once."""
    integrations_kept_per_team: Annotated[int, Field(ge=0, le=1000)] = 2
    """So many of them, of those that ask for it, go on when nobody looks."""
    terminals: Literal["allowed", "recorded", "blocked"] = "recorded"
    """Terminals in workspaces. Recorded: what was typed, and by whom."""
    downloads: Literal["allowed", "metered", "blocked"] = "metered"
    """Files and output that leave a workspace for a browser."""
    download_per_person: str = "1G"
    """A day's budget where downloads are metered."""
    download_per_team: str = "4G"
    view: str = "16M"
    """The largest file that may be opened in the browser where downloads are not simply allowed."""
    upload: str = "512M"
    """The largest body that a workspace takes from a browser."""
    idle_minutes: Annotated[float, Field(gt=0, le=10_080)] = 60
    """A workspace in which nothing ran and nobody worked for so long is stopped."""
    keep_hours: Annotated[float, Field(ge=0, le=720)] = 24
    """For how long a member may ask to keep a workspace running although it is idle."""
    workspace_disk: str = "4G"
    """The disk that a team's workspace gets."""
    disk_price: Annotated[float, Field(ge=0)] = 0
    """What a gigabyte of disk beyond that costs in an hour."""
    team_budget: Annotated[float, Field(ge=0)] | None = None
    """What a team's workspace may cost in an hour without anybody's approval. Absent: whatever sizes are declared, and
    no more than the first disk."""
    grace_minutes: Annotated[float, Field(ge=0, le=10_080)] = 15
    """For how long a workspace that runs goes on as it is after a steward made it smaller."""
    snapshot_hours: Annotated[float, Field(gt=0, le=8760)] | None = 24
    """How often the volume of a workspace that was used is copied; absent by “null”: only by hand."""
    snapshots_kept: Annotated[int, Field(ge=1, le=365)] = 7
    """So many of those copies are kept."""
    isolation: Literal["shared-zygote", "dedicated", "gvisor"] = "shared-zygote"
    """Whether workspaces may be forked from a process shared by all, are each started anew, or whether all of the space's
    code runs on gVisor's kernel in the place of the host's; see SECURITY.md."""

    @field_validator("download_per_person", "download_per_team", "view", "upload", "workspace_disk")
    @classmethod
    def _is_size(cls, value: str) -> str:
        parse_bytes(value)
        return value


class Round(Declared):
    """A stretch of a competition. Where it names an environment, all workspaces run in that one meanwhile."""

    name: Slug
    title: str = ""
    starts: Moment
    ends: Moment
    environment: EnvironmentName | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.starts.tzinfo is None or self.ends.tzinfo is None:
            message = "starts and ends need a time zone, for example 2026-11-21T10:00:00Z"
            raise ValueError(message)
        if self.ends <= self.starts:
            message = "ends must be after starts"
            raise ValueError(message)
        return self


class SpaceDeclaration(Declared):
    """A space as its owner declares it."""

    slug: Slug
    kind: Literal["competition", "course", "study"]
    title: Annotated[str, Field(min_length=1, max_length=200)]
    description: str = ""
    sponsor: Annotated[str, Field(max_length=200)] = ""
    """Who stands behind it; shown on the public page."""
    rules: Annotated[str, Field(max_length=200_000)] = ""
    """Markdown, shown on the public page."""
    starts: Moment | None = None
    ends: Moment | None = None
    listed: bool = True
    """Whether the front page shows it to everybody."""
    enrolment: EnrolmentPolicy = EnrolmentPolicy()
    registration: list[FormField] = Field(default_factory=list)
    agreements: list[AgreementDeclaration] = Field(default_factory=list)
    teams: TeamPolicy = TeamPolicy()
    sizes: dict[Slug, Size] = Field(default_factory=lambda: {"small": Size()})
    environments: list[EnvironmentDeclaration] = Field(
        default_factory=lambda: [EnvironmentDeclaration(name="python-basic", title="Python")]
    )
    rounds: list[Round] = Field(default_factory=list)
    policies: Policies = Policies()
    roles: dict[RoleName, list[str]] = Field(default_factory=dict)
    """Role to e-mail addresses; it is given at the first sign-in with a verified one."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        questions = [question.name for agreement in self.agreements for question in agreement.questions]
        for what, names in (
            ("question", [*(field.name for field in self.registration), *questions]),
            ("agreement", [agreement.name for agreement in self.agreements]),
            ("environment", [environment.name for environment in self.environments]),
            ("round", [stretch.name for stretch in self.rounds]),
        ):
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                message = f"{what} “{min(twice)}” is declared twice"
                raise ValueError(message)
        if self.starts and self.ends and self.ends <= self.starts:
            message = "ends must be after starts"
            raise ValueError(message)
        self._check_rounds()
        if not self.sizes or not self.environments:
            message = "a space needs at least one size and one environment"
            raise ValueError(message)
        return self

    def _check_rounds(self) -> None:
        known = {environment.name for environment in self.environments if environment.app is not None}
        for stretch in self.rounds:
            if stretch.environment is not None and stretch.environment not in known:
                message = f"round “{stretch.name}” pins “{stretch.environment}”, which is no environment with an app"
                raise ValueError(message)
        ordered = sorted(self.rounds, key=lambda stretch: stretch.starts)
        for earlier, later in itertools.pairwise(ordered):
            if later.starts < earlier.ends:
                message = f"rounds “{earlier.name}” and “{later.name}” overlap"
                raise ValueError(message)

    @property
    def lasts(self) -> tuple[datetime | None, int | None]:
        """What says how long people stay: the end of all, and the days of each."""
        return self.ends, self.enrolment.days

    def end_for(self, admitted: datetime) -> datetime | None:
        """When the time of somebody ends who was admitted then; None when it does not."""
        last, days = self.lasts
        ends = [end for end in (admitted + timedelta(days=days) if days else None, last) if end is not None]
        return min(ends, default=None)

    def pinned(self, now: datetime) -> Round | None:
        """The round of this moment, if it says which environment all run in."""
        return next((r for r in self.rounds if r.environment is not None and r.starts <= now < r.ends), None)

    def expected_roles(self, canonical_address: str, canonical: Any) -> set[Role]:
        """The roles that an address is to have, both sides in canonical spelling."""
        return {
            Role(role)
            for role, addresses in self.roles.items()
            if canonical_address in {canonical(address) for address in addresses}
        }
