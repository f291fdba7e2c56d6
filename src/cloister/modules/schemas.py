"""Modules in the API."""

import base64
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cloister.modules.changes import FileChange
from cloister.modules.manifest import Described, Manifest
from cloister.modules.models import Module, ModuleSource, Release, author_label
from cloister.platform.etags import etag_of
from cloister.platform.markdown import to_html

ModuleName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,58}[a-z0-9]$")]


class ModuleIn(BaseModel):
    """A new module: text files by path, or none for the template of its runtime."""

    model_config = ConfigDict(extra="forbid")

    name: ModuleName
    files: Annotated[dict[str, str], Field(max_length=500)] = Field(default_factory=dict)
    template: Literal["python", "node", "go", "widget"] = "python"


class ForkIn(BaseModel):
    """A module of one's own, from another's release."""

    model_config = ConfigDict(extra="forbid")

    name: ModuleName
    version: Annotated[str, Field(max_length=100)] = "latest"


class PublishIn(BaseModel):
    """A release to make of the draft."""

    model_config = ConfigDict(extra="forbid")

    version: Annotated[str, Field(max_length=60)]


class YankIn(BaseModel):
    """Whether a release is hidden."""

    model_config = ConfigDict(extra="forbid")

    yanked: bool


class FileIn(BaseModel):
    """A file's content, as text or as base64."""

    model_config = ConfigDict(extra="forbid")

    text: Annotated[str | None, Field(max_length=5_000_000)] = None
    base64: Annotated[str | None, Field(max_length=7_000_000, pattern=r"^[A-Za-z0-9+/]*={0,2}$")] = None


class FileOut(BaseModel):
    """A file; ``text`` is absent for what is none."""

    path: str
    size: int
    text: str | None
    base64: str | None
    etag: str
    """To send as ``If-Match`` with a change, so that it does not overwrite one that was made elsewhere meanwhile."""

    @classmethod
    def of(cls, path: str, content: bytes) -> "FileOut":
        etag = etag_of(content)
        try:
            return cls(path=path, size=len(content), text=content.decode(), base64=None, etag=etag)
        except UnicodeDecodeError:
            encoded = base64.b64encode(content).decode()
            return cls(path=path, size=len(content), text=None, base64=encoded, etag=etag)


class FileList(BaseModel):
    """The files of a draft."""

    items: list[FileOut]


class ReleaseOut(BaseModel):
    """A release."""

    version: str
    state: str
    reason: str | None
    yanked: bool
    digest: str
    size_bytes: int
    published_at: datetime
    manifest: Manifest
    configuration: list[dict[str, Any]]
    readme_html: str
    requirements: list[str]
    asks_more: list[str]
    """What it needs that the release before it did not."""

    @classmethod
    def of(cls, row: Release, asks_more: list[str]) -> "ReleaseOut":
        described = Described.model_validate(row.described)
        return cls(
            version=row.version, state=row.state, reason=row.reason, yanked=row.yanked, digest=row.digest,
            size_bytes=row.size_bytes, published_at=row.published_at, manifest=described.manifest,
            configuration=[entry.model_dump(mode="json") for entry in described.model], readme_html=to_html(row.readme),
            requirements=row.requirements, asks_more=asks_more,
        )  # fmt: skip


class BuildLogOut(BaseModel):
    """What a build has said."""

    state: str
    """Of the release: building, ready or failed."""
    text: str
    next: int
    """From which character the rest will begin."""


class ModuleOut(BaseModel):
    """A module as a list shows it."""

    name: str
    author: str
    kind: str
    runtime: str | None
    title: str
    summary: str
    keywords: list[str]
    permissions: dict[str, bool]
    accepts: list[str]
    """Of a widget: the kinds of node that it draws, best first."""
    latest: str | None
    forked_from: str | None
    uses: int
    updated_at: datetime

    @classmethod
    def of(cls, row: Module) -> "ModuleOut":
        return cls(
            name=row.name, author=author_label(row), kind=row.kind, runtime=row.runtime, title=row.title,
            summary=row.summary, keywords=row.keywords, permissions=row.permissions, accepts=row.accepts, latest=row.latest,
            forked_from=row.forked_from, uses=row.uses, updated_at=row.updated_at,
        )  # fmt: skip


class ModuleDetail(ModuleOut):
    """A module with its releases."""

    releases: list[ReleaseOut]
    deletable: bool
    """Whether it can be deleted: no release of it ever came to be."""


class ModuleList(BaseModel):
    """Modules, best first."""

    items: list[ModuleOut]
    next_cursor: str | None


class ChangeOut(BaseModel):
    """How a file differs."""

    path: str
    change: str
    diff: str

    @classmethod
    def of(cls, change: FileChange) -> "ChangeOut":
        return cls(path=change.path, change=change.change, diff=change.diff)


class ChangeList(BaseModel):
    """What changed between two releases."""

    items: list[ChangeOut]


class SourceIn(BaseModel):
    """The repository that a module is kept in."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[str, Field(max_length=500)]
    branch: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,99}$")] = "main"
    folder: Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z0-9 ._/-]*$")] = ""
    """Where in the repository the module is; empty when it is all of it."""


class SourceOut(BaseModel):
    """The repository that a module is kept in, and how fetching it went."""

    url: str
    branch: str
    folder: str
    state: str
    """``waiting``, ``done`` or ``failed``."""
    reason: str | None
    commit: str | None
    synced_at: datetime | None
    hook: str
    """Where its webhook goes, signed with HMAC-SHA256 in ``X-Hub-Signature-256``."""
    secret: str | None = None
    """Of the webhook; told once."""

    @classmethod
    def of(cls, row: ModuleSource, hook: str, secret: str | None = None) -> "SourceOut":
        return cls(
            url=row.url, branch=row.branch, folder=row.folder, state=row.state, reason=row.reason, commit=row.commit,
            synced_at=row.synced_at, hook=hook, secret=secret,
        )  # fmt: skip
