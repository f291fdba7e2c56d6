"""What a dashboard is: integrations, widgets, and which node of which model each widget draws. Pure."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Id = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,40}$")]
Part = str | int
SECRET = "$secret"  # noqa: S105  (the key under which a sealed value stands)
GIVER = "by"
"""Who gave a secret, by number: it goes to no other host than those it was given for."""
COLUMNS = 24
PICTURE = r"^(data:image/(png|jpeg|webp);base64,([A-Za-z0-9+/]{4}){1,10000}([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)?$"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Use(_Strict):
    """A module with its configuration."""

    id: Id
    module: Annotated[str, Field(max_length=60)]
    version: Annotated[str, Field(max_length=100)] = "latest"
    """``latest``, a range such as ``^1.2``, or an exact version."""
    values: Annotated[dict[str, Any], Field(max_length=100)] = Field(default_factory=dict)


class Integration(Use):
    """What fetches data."""

    keep_running: bool = False
    """Whether it goes on when nobody looks."""
    accepts: Annotated[str, Field(max_length=60)] | None = None
    """The release whose permissions were seen and accepted: one that asks for more does not run. Absent: the one that is
    found when this is saved."""
    added_by: int | None = None
    """The number of the person for whom it runs: who last said what it is to do. Set by the platform."""


class Source(_Strict):
    """Any node of an integration's model."""

    integration: Id
    path: Annotated[list[Part], Field(max_length=30)] = Field(default_factory=list)


class Widget(Use):
    """What draws it."""

    title: Annotated[str, Field(max_length=120)] = ""
    x: Annotated[int, Field(ge=0, lt=COLUMNS)] = 0
    y: Annotated[int, Field(ge=0, le=1000)] = 0
    width: Annotated[int, Field(ge=1, le=COLUMNS)] = 8
    height: Annotated[int, Field(ge=1, le=100)] = 6
    locked: bool = False
    source: Source | None = None


class Document(_Strict):
    """A whole dashboard, as it is kept, exported and imported."""

    format: Literal[1] = 1
    name: Annotated[str, Field(min_length=1, max_length=120)]
    background: Annotated[str, Field(max_length=20, pattern=r"^(#[0-9a-fA-F]{3,8})?$")] = ""
    thumbnail: Annotated[str, Field(max_length=40_000, pattern=PICTURE)] = ""
    """A picture of its own for lists, at most 30 kB, as a data URL; empty: one is drawn of where its widgets are."""
    integrations: Annotated[list[Integration], Field(max_length=50)] = Field(default_factory=list)
    widgets: Annotated[list[Widget], Field(max_length=200)] = Field(default_factory=list)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for what, ids in (("integration", [i.id for i in self.integrations]), ("widget", [w.id for w in self.widgets])):
            if len(ids) != len(set(ids)):
                message = f"two {what}s have the same id"
                raise ValueError(message)
        known = {integration.id for integration in self.integrations}
        for widget in self.widgets:
            if widget.source is not None and widget.source.integration not in known:
                message = f"widget “{widget.id}” draws from “{widget.source.integration}”, which is not here"
                raise ValueError(message)
            if widget.x + widget.width > COLUMNS:
                message = f"widget “{widget.id}” is wider than the grid of {COLUMNS} columns"
                raise ValueError(message)
        return self


def is_sealed(value: Any) -> bool:
    return isinstance(value, dict) and SECRET in value and set(value) <= {SECRET, GIVER}


def given(values: dict[str, Any]) -> dict[str, Any]:
    """What was given, as people see it: of a secret that it is set."""
    return {name: {"set": True} if is_sealed(value) else value for name, value in values.items()}


def shown(document: Document) -> dict[str, Any]:
    """A document for people: of a secret only whether it is set."""
    data = document.model_dump(mode="json")
    for use in [*data["integrations"], *data["widgets"]]:
        use["values"] = given(use["values"])
        use.pop("added_by", None)
    return data


def without_secrets(document: Document) -> Document:
    """A document to take elsewhere."""
    copy = document.model_copy(deep=True)
    for use in [*copy.integrations, *copy.widgets]:
        use.values = {name: value for name, value in use.values.items() if not is_sealed(value)}
    for integration in copy.integrations:
        integration.added_by = None
    return copy
