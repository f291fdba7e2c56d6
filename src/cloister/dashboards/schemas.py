"""Dashboards, live sessions and shares in the API."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from cloister.core.ids import person_label, team_label
from cloister.dashboards.document import Document, shown
from cloister.dashboards.models import Dashboard, DashboardVersion, Share
from cloister.dashboards.variables import Setting, Variable
from cloister.modules import Option, Scalar


class DashboardIn(BaseModel):
    """A new dashboard of a team."""

    model_config = ConfigDict(extra="forbid")

    team: Annotated[str, Field(max_length=20)]
    document: Document


class DashboardOut(BaseModel):
    """A dashboard. Of secrets it says only whether they are set."""

    id: str
    space: str
    team: str
    name: str
    version: int
    document: dict[str, Any]
    updated_at: datetime

    @classmethod
    def of(cls, row: Dashboard) -> "DashboardOut":
        return cls(
            id=row.id, space=row.space, team=team_label(row.team), name=row.name, version=row.version,
            document=shown(Document.model_validate(row.document)), updated_at=row.updated_at,
        )  # fmt: skip

    @classmethod
    def listed(cls, row: Dashboard) -> "DashboardOut":
        """The same without its picture, which has an address of its own."""
        found = cls.of(row)
        found.document.pop("thumbnail", None)
        return found


class PartOut(BaseModel):
    """The release that a part of a dashboard is, and what can be set in it."""

    id: str
    module: str
    version: str | None
    title: str
    configuration: list[dict[str, Any]]
    frame: str | None
    """Where a widget's page is; None of an integration, and where no release can run."""
    latest: str | None = None
    """Of an integration: its module's newest release, where that is another one."""
    newer: str | None = None
    """A newer release that would run, were what it asks for accepted."""
    asks_more: list[str] = Field(default_factory=list)
    """What that is."""


class PartList(BaseModel):
    """All parts of a dashboard."""

    items: list[PartOut]


class DashboardPage(BaseModel):
    """Some dashboards."""

    items: list[DashboardOut]
    next_cursor: str | None


class VersionOut(BaseModel):
    """A dashboard as it was."""

    version: int
    person: str | None
    at: datetime
    document: dict[str, Any]

    @classmethod
    def of(cls, row: DashboardVersion) -> "VersionOut":
        return cls(
            version=row.version, person=person_label(row.person) if row.person else None, at=row.at,
            document={k: v for k, v in shown(Document.model_validate(row.document)).items() if k != "thumbnail"},
        )  # fmt: skip


class VersionList(BaseModel):
    """What a dashboard was, newest first."""

    items: list[VersionOut]


class RevertIn(BaseModel):
    """To which version to go back."""

    model_config = ConfigDict(extra="forbid")

    version: Annotated[int, Field(ge=1, le=2**31)]


class TicketOut(BaseModel):
    """The way into a live session: a WebSocket, once, within half a minute."""

    protocol: int
    path: str
    """With the ticket in it; beneath the API's address."""


class TrialIn(BaseModel):
    """How to try a draft."""

    model_config = ConfigDict(extra="forbid")

    team: Annotated[str, Field(max_length=20)]
    values: Annotated[dict[str, Any], Field(max_length=100)] = Field(default_factory=dict)


class TrialOut(BaseModel):
    """A draft on trial: an integration's live session, or a widget's page."""

    live: TicketOut | None
    frame: str | None
    page: str
    """Where its author sees it drawn with sample data, and again after each save."""


class ShareIn(BaseModel):
    """How to share a dashboard."""

    model_config = ConfigDict(extra="forbid")

    passphrase: Annotated[str | None, Field(min_length=4, max_length=200)] = None
    origins: Annotated[
        list[Annotated[str, Field(pattern=r"^https?://[a-zA-Z0-9.-]{1,250}(:\d{1,5})?$")]], Field(max_length=20)
    ] = Field(default_factory=list)
    """Pages of these origins may embed it."""
    expires_at: datetime | None = None
    variables: Annotated[list[Variable], Field(max_length=20)] = Field(default_factory=list)
    """Settings that visitors may choose for themselves. Never secrets, nor what says which host is reached."""

    @field_validator("expires_at")
    @classmethod
    def _aware(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.tzinfo is None:
            message = "needs a time zone, for example 2026-11-21T10:00:00Z"
            raise ValueError(message)
        return value


class SharePauseIn(BaseModel):
    """Whether a share rests."""

    model_config = ConfigDict(extra="forbid")

    paused: bool


class ShareOut(BaseModel):
    """A share. Its link is shown once, when it is made."""

    id: str
    dashboard: str
    link: str | None
    passphrase: bool
    origins: list[str]
    variables: list[Variable]
    paused: bool
    expires_at: datetime | None
    views: int
    created_by: str
    created_at: datetime

    @classmethod
    def of(cls, row: Share, link: str | None = None) -> "ShareOut":
        return cls(
            id=row.id, dashboard=row.dashboard, link=link, passphrase=row.passphrase_hash is not None,
            origins=row.origins, variables=[Variable.model_validate(v) for v in row.variables], paused=row.paused, expires_at=row.expires_at, views=row.views,
            created_by=person_label(row.created_by), created_at=row.created_at,
        )  # fmt: skip


class ShareList(BaseModel):
    """The shares of a dashboard."""

    items: list[ShareOut]


class VisitIn(BaseModel):
    """What a share's visitor knows."""

    model_config = ConfigDict(extra="forbid")

    token: Annotated[str, Field(min_length=1, max_length=100)]
    share: Annotated[str | None, Field(max_length=64)] = None
    """The share at whose address the page is. Another's token opens nothing there: its own rules who may embed it hold."""
    again: bool = False
    """Whether the page shows it already and only lost its connection. That is on the record, but no view more."""
    passphrase: Annotated[str | None, Field(max_length=200)] = None
    values: Annotated[dict[str, Scalar], Field(max_length=20)] = Field(default_factory=dict)
    """What the visitor chooses, by the ids of the answer's ``variables``."""


class VariableView(BaseModel):
    """Something that a visitor may choose."""

    id: str
    label: str
    type: str
    value: Scalar
    min: float | None
    max: float | None
    step: float | None
    options: list[Option] | None

    @classmethod
    def of(cls, setting: Setting, chosen: Any) -> "VariableView":
        entry = setting.entry
        return cls(
            id=setting.id, label=entry.label or entry.name, type=entry.type, value=chosen, min=entry.min, max=entry.max,
            step=entry.step, options=entry.options,
        )  # fmt: skip


class WidgetView(BaseModel):
    """A widget, as it is to be drawn."""

    id: str
    title: str
    x: int
    y: int
    width: int
    height: int
    frame: str | None
    """The address of its page; None when its release was removed."""
    live: bool
    values: dict[str, Any]


class View(BaseModel):
    """What is to be drawn: no integration, no source, no configuration of anything but widgets."""

    name: str
    background: str
    version: int
    """Counts up with each change: a live session says when there is a newer one."""
    widgets: list[WidgetView]
    variables: list[VariableView]
    live: TicketOut
