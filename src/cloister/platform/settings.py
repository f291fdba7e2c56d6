"""Settings: ``CLOISTER_*`` environment variables over ``cloister.toml`` over defaults. Unknown keys are errors."""

import difflib
import os
import tomllib
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from cloister.core.errors import SettingsError
from cloister.core.principal import Role

PREFIX = "CLOISTER_"
PLACEHOLDERS = {"", "changeme", "change-me", "secret", "password", "placeholder", "example", "test", "cloister"}


class OidcProvider(BaseModel):
    """One place that people may sign in with OpenID Connect."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
    title: str
    issuer: str
    client_id: str
    client_secret: SecretStr | None = None
    scopes: str = "openid profile email"
    groups_claim: str = "groups"
    group_roles: dict[str, str] = Field(default_factory=dict)
    """Group to role: ``operator``, or ``SPACE:ROLE``."""
    trusted_email: bool = False
    """True when its verified addresses may join a new sign-in to the person who has that address already."""

    @field_validator("group_roles")
    @classmethod
    def _roles_exist(cls, given: dict[str, str]) -> dict[str, str]:
        for group, text in given.items():
            space, _, role = text.rpartition(":")
            if role not in set(Role) or (role == Role.OPERATOR) != (space == ""):
                message = f"group “{group}”: write “operator” or “SPACE:ROLE”, not “{text}”"
                raise ValueError(message)
        return given


class Settings(BaseSettings):
    """All that an operator can decide. ``cloister settings`` prints each value with where it came from."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", env_ignore_empty=True, validate_default=True)

    mode: Literal["production", "demo", "development"] = "production"
    state_directory: Path = Path("/var/lib/cloister")
    database_url: SecretStr | None = None
    """Default: SQLite in the state directory. PostgreSQL: ``postgresql://user:password@host/name``."""
    database_pool: Annotated[int, Field(ge=1, le=200)] = 16
    secret_key: SecretStr | None = None
    """At least 32 characters; every other key is derived from it. Made up (and kept) by itself only in demo mode."""

    object_store_url: str | None = None
    """Default: a folder in the state directory. ``s3://bucket/prefix`` for anything S3-compatible."""
    s3_endpoint: str | None = None
    s3_region: str = "us-east-1"
    s3_access_key_id: SecretStr | None = None
    s3_secret_access_key: SecretStr | None = None

    listen_host: str = "127.0.0.1"
    listen_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    public_url: str = "http://localhost:8080"
    brand_name: Annotated[str, Field(max_length=60)] = "Cloister"
    """What the web application calls the installation."""
    brand_color: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")] = "#1f5fa8"
    """Its main colour."""
    brand_welcome: Annotated[str, Field(max_length=600)] = ""
    """What the front page says under the name."""
    brand_links: dict[str, str] = Field(default_factory=dict)
    """Links at the foot of every page: text and address."""
    trusted_proxies: Annotated[list[str], NoDecode] = Field(default_factory=lambda: ["127.0.0.1"])

    gateway: Literal["off", "managed", "external"] = "off"
    """Whether Caddy is in front: started by this process, or by somebody with ``cloister gateway config``. Workspaces need it."""
    gateway_domain: str | None = None
    """Workspaces are at TEAM.SPACE.DOMAIN. Default: the host of ``public_url``."""
    gateway_tls: Literal["off", "internal", "files", "acme"] = "off"
    """``internal``: of Caddy's own authority; ``acme``: of a public one, or of yours; both for each name, when it is first
    visited. ``files``: a certificate of yours. Off is for loopback only."""
    gateway_certificate: Path | None = None
    gateway_certificate_key: Path | None = None
    gateway_acme_email: str | None = None
    gateway_acme_directory: Annotated[str, Field(pattern=r"^https://[^\s{}\"]+$")] | None = None
    """Address of the authority's ACME directory. Default: the public ones that Caddy knows."""
    gateway_acme_root: Path | None = None
    """Certificate of the authority itself, where it is one of yours that this machine does not trust."""
    gateway_acme_key_id: Annotated[str, Field(pattern=r"^[^\s{}\"]+$")] | None = None
    gateway_acme_key: SecretStr | None = None
    """External account binding, where an authority wants one (most that universities have do)."""
    gateway_ask_port: Annotated[int, Field(ge=1, le=65535)] = 2021
    """Of the loopback: where Caddy asks this platform whether a name is one of its workspaces', for a certificate."""
    gateway_caddy: Path | None = None
    """The program. Default: the one that is installed with Cloister."""
    gateway_memory_megabytes: Annotated[int, Field(ge=64)] = 512
    """What Caddy may grow to before it collects its garbage more often; it has some 40 when it is at rest."""
    gateway_requests_per_minute: Annotated[int, Field(ge=60)] = 12_000
    """Of one person to workspaces, and in a burst; opening JupyterLab takes about a hundred."""
    gateway_upload_bytes: Annotated[int, Field(ge=1)] = 5 * 1024**3
    """The largest body that Caddy lets in anywhere; spaces set lower limits."""

    log_format: Literal["json", "console"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    metrics_public: bool = False
    """Whether ``/metrics`` answers anybody; otherwise it wants an operator's token."""
    operators: Annotated[list[str], NoDecode] = Field(default_factory=list)
    """Verified e-mail addresses of people who operate this platform."""
    oidc_providers: list[OidcProvider] = Field(default_factory=list)
    session_idle_seconds: Annotated[int, Field(ge=60)] = 12 * 3600
    session_absolute_seconds: Annotated[int, Field(ge=60)] = 7 * 86400
    sign_ins_per_minute: Annotated[int, Field(ge=1)] = 300
    """From one address; a whole class may sit behind one."""
    registrations_per_minute: Annotated[int, Field(ge=1)] = 20
    """By one person."""
    sandbox_attempts_per_minute: Annotated[int, Field(ge=1)] = 600
    """Connections of one sandbox to the egress proxy, and separately to its control channel; the rest is dropped."""

    mail_url: SecretStr | None = None
    """``smtp://user:password@host:587`` or ``smtps://…``. Default: files in the state directory's ``mail``."""
    mail_from: str = "cloister@localhost"

    sandbox_backend: Literal["oci", "fake"] = "oci"
    oci_runtime: Literal["crun", "runc", "runsc"] = "crun"
    sandbox_uid_base: Annotated[int, Field(ge=100_000, le=2_000_000_000)] = 1_000_000
    """The first of the host user ids that belong to teams; each team has its own."""
    sandbox_python: Path | None = None
    """The interpreter that sandboxes use. Default: the one that runs Cloister."""
    sandbox_rootfs: Path = Path("/run/cloister/rootfs")
    """Mount points only, shared by all sandboxes; every folder above it must be searchable by all users."""
    environment_directory: Path | None = None
    """Where built environments are. Default: ``environments`` in the state directory."""
    environment_catalogue: Path | None = None
    """A YAML file with environments that every space may use by name, beside those that Cloister ships."""
    ui_directory: Path | None = None
    """Where the built web application is. Default: in the package."""
    share_guesses_per_minute: Annotated[int, Field(ge=1)] = 10
    """So many passphrases of one share may be tried from one address."""
    share_variants: Annotated[int, Field(ge=0)] = 8
    """So many running variants of a dashboard there are at once for visitors of shares who choose values of their own."""
    shipped_modules: bool = True
    """Whether the modules that come with Cloister are published when it starts."""
    warm_starts: bool = True
    """Whether workspaces may be forked from a process that has the platform's own Jupyter packages imported. They share
    the layout of its memory; see SECURITY.md."""
    blank_sandboxes: Annotated[int, Field(ge=0, le=1000)] = 8
    """So many sandboxes wait, started ahead, for programs of teams that lately started some. Each holds some 20 MB."""
    blank_seconds: Annotated[float, Field(gt=0)] = 600
    """For how long a start lets another one be expected."""
    build_seconds: Annotated[float, Field(gt=0)] = 600
    """How long a module's build, or a look at its repository, may take."""
    build_cpus: Annotated[float, Field(gt=0)] = 1
    build_memory_megabytes: Annotated[int, Field(ge=64)] = 2048
    build_disk_megabytes: Annotated[int, Field(ge=64)] = 2048
    builds_at_once: Annotated[int, Field(ge=1)] = 2
    build_hosts: Annotated[list[str], NoDecode] = Field(default_factory=list)
    """``HOST`` or ``HOST:PORT`` that builds may reach beside the registries that npm and Go are set to use here."""
    build_certificates: Path | None = None
    """A PEM file of the authorities that builds trust, where registries or repositories have one of their own."""
    git_hosts: Annotated[list[str], NoDecode] = Field(default_factory=list)
    """``HOST`` or ``HOST:PORT`` that modules' repositories may be fetched from, over https."""
    git_directories: Annotated[list[Path], NoDecode] = Field(default_factory=list)
    """Folders of this machine whose repositories may be fetched (``file:///…``)."""
    module_hooks_per_minute: Annotated[int, Field(ge=1)] = 30
    """Webhooks of one module."""
    sandbox_start_seconds: Annotated[float, Field(gt=0)] = 20
    workspace_answer_seconds: Annotated[float, Field(gt=0)] = 120
    """A workspace whose app does not answer so long after its sandbox runs has failed."""
    sandbox_output_bytes: Annotated[int, Field(ge=4096)] = 16 * 1024 * 1024
    """How much output is kept of one sandbox; the oldest goes first."""
    sandbox_outputs_kept: Annotated[int, Field(ge=1)] = 50
    """What a team's ended sandboxes printed is kept of so many of them."""
    sandbox_output_rate: Annotated[int, Field(ge=4096)] = 4 * 1024 * 1024
    """Bytes per second a sandbox may write to its control channel before it is slowed."""
    sandbox_allow_unenforced: Annotated[list[str], NoDecode] = Field(default_factory=list)
    """Walls (see ``cloister doctor``) that an operator accepts to do without on this machine."""
    volume_backend: Literal["auto", "loop", "fuse", "directory"] = "auto"

    egress_allow_networks: Annotated[list[IPv4Network | IPv6Network], NoDecode] = Field(default_factory=list)
    """Private networks that allow-listed names may resolve into, for example of an internal package mirror."""
    egress_connect_seconds: Annotated[float, Field(gt=0)] = 10

    query_seconds: Annotated[float, Field(gt=0)] = 60
    query_memory_megabytes: Annotated[int, Field(ge=64)] = 1024
    query_cpus: Annotated[float, Field(gt=0)] = 2
    query_worker_idle_seconds: Annotated[float, Field(gt=0)] = 600
    query_workers: Annotated[int, Field(ge=1)] = 64
    query_cache_bytes: Annotated[int, Field(ge=0)] = 512 * 1024 * 1024
    query_cache_entry_bytes: Annotated[int, Field(ge=0)] = 32 * 1024 * 1024
    request_bytes: Annotated[int, Field(ge=1024)] = 8 * 1024 * 1024
    """The largest body of a request that is no upload."""
    upload_bytes: Annotated[int, Field(ge=1)] = 5 * 1024**3
    body_grace_seconds: Annotated[float, Field(gt=0)] = 20
    """For how long a body that is being sent is waited for, beside what its pace earns."""
    body_bytes_per_second: Annotated[float, Field(gt=0)] = 1024
    """The slowest pace, on average, at which a body may come."""
    dataset_urls: list[str] = Field(default_factory=list)
    """Where stewards may load data from by address: ``s3://bucket/prefix``, read with the credentials of the object store."""

    export_bytes: Annotated[int, Field(ge=1024)] = 100 * 1024 * 1024
    """How much one request to the airlock may take out, all its files together."""
    export_days: Annotated[float, Field(gt=0)] = 30
    """How long approved files wait to be taken out before they are removed."""

    audit_checkpoint_seconds: Annotated[float, Field(gt=0)] = 300
    audit_checkpoint_directory: Path | None = None
    """Where signed checkpoints are copied, best on another machine's disk."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The file's values arrive by keyword, see `load`; so the environment comes first."""
        return env_settings, init_settings

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, values: dict[str, Any]) -> dict[str, Any]:
        for name in (
            "operators",
            "trusted_proxies",
            "sandbox_allow_unenforced",
            "egress_allow_networks",
            "build_hosts",
            "git_hosts",
            "git_directories",
        ):
            if isinstance(values.get(name), str):
                values[name] = [part.strip() for part in values[name].split(",") if part.strip()]
        return values

    @model_validator(mode="after")
    def _refuse_placeholders(self) -> Self:
        if self.secret_key is None:
            if self.mode != "demo":
                message = "secret_key is not set. Write one, for example of: openssl rand -base64 48"
                raise ValueError(message)
        else:
            key = self.secret_key.get_secret_value()
            if key.lower() in PLACEHOLDERS or len(key) < 32 or len(set(key)) < 8:
                message = "secret_key is a placeholder or shorter than 32 characters. Use: openssl rand -base64 48"
                raise ValueError(message)
        if self.gateway != "off":
            self._check_gateway()
        if self.mode == "production" and self.sandbox_backend == "fake":
            message = "sandbox_backend “fake” runs no code in isolation and is for tests only"
            raise ValueError(message)
        return self

    def _check_gateway(self) -> None:
        url = urlsplit(self.public_url)
        if (url.scheme == "https") != (self.gateway_tls != "off"):
            message = "gateway_tls and public_url disagree: https:// needs TLS, http:// needs gateway_tls = off"
            raise ValueError(message)
        loopback = url.hostname in {"localhost", "127.0.0.1", "::1"} or str(url.hostname).endswith(".localhost")
        if self.gateway_tls == "off" and not loopback:
            message = "gateway_tls = off is for loopback names only; passwords and data would travel in the clear"
            raise ValueError(message)
        if self.gateway_tls == "files" and not (self.gateway_certificate and self.gateway_certificate_key):
            message = "gateway_tls = files needs gateway_certificate and gateway_certificate_key"
            raise ValueError(message)
        if (self.gateway_acme_key_id is None) != (self.gateway_acme_key is None):
            message = "gateway_acme_key_id and gateway_acme_key belong together"
            raise ValueError(message)
        if self.gateway_acme_directory is None and (self.gateway_acme_key_id or self.gateway_acme_root):
            message = "gateway_acme_key and gateway_acme_root are of an authority: name its gateway_acme_directory"
            raise ValueError(message)

    @property
    def ui_files(self) -> Path:
        return self.ui_directory or Path(__file__).parent.parent / "web" / "ui"

    @property
    def database_dsn(self) -> str:
        """The URL that SQLAlchemy takes, with its async driver."""
        if self.database_url is None:
            return f"sqlite+aiosqlite:///{self.state_directory / 'cloister.sqlite'}"
        url = self.database_url.get_secret_value()
        for plain, driver in (
            ("postgresql://", "postgresql+asyncpg://"),
            ("postgres://", "postgresql+asyncpg://"),
            ("sqlite:///", "sqlite+aiosqlite:///"),
        ):
            if url.startswith(plain):
                return driver + url.removeprefix(plain)
        return url

    @property
    def run_directory(self) -> Path:
        """What belongs to running processes: sockets, bundles."""
        return self.state_directory / "run"

    @property
    def cookie_secure(self) -> bool:
        return self.public_url.startswith("https://")


def settings_file() -> Path:
    return Path(os.environ.get(PREFIX + "CONFIG", "cloister.toml"))


def _guess(name: str) -> str:
    near = difflib.get_close_matches(name, Settings.model_fields, n=1)
    return f" Did you mean {near[0]}?" if near else ""


def load(**overrides: object) -> Settings:
    """Read the settings.

    Raises:
        SettingsError: naming each setting that is unknown or wrong.
    """
    path = settings_file()
    try:
        from_file = tomllib.loads(path.read_text()) if path.exists() else {}
    except tomllib.TOMLDecodeError as error:
        message = f"{path}: {error}"
        raise SettingsError(message) from error
    unknown = [f"{path}: {key} is no setting.{_guess(key)}" for key in from_file if key not in Settings.model_fields]
    for variable in os.environ:
        name = variable.removeprefix(PREFIX).lower()
        if variable.startswith(PREFIX) and name not in Settings.model_fields and name not in _NOT_SETTINGS:
            unknown.append(f"{variable} is no setting.{_guess(name)}")
    if unknown:
        raise SettingsError("\n".join(unknown))
    try:
        return Settings(**{**from_file, **overrides})
    except ValidationError as error:
        faults = [
            (".".join(str(part) for part in e["loc"]), e["msg"].removeprefix("Value error, ")) for e in error.errors()
        ]
        raise SettingsError("\n".join(f"{name}: {said}" if name else said for name, said in faults)) from error


_NOT_SETTINGS = {"config", "url", "token", "bench_people", "test_postgres"}
"""Variables of ours that are not the server's: where the settings file is, and what clients and tests use."""


def explain(settings: Settings) -> list[tuple[str, str, str]]:
    """Each setting as (name, value with secrets masked, source)."""
    path = settings_file()
    from_file = tomllib.loads(path.read_text()) if path.exists() else {}
    rows = []
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if PREFIX + name.upper() in os.environ:
            source = f"environment {PREFIX}{name.upper()}"
        elif name in from_file:
            source = str(path)
        else:
            usual = Settings.model_fields[name].get_default(call_default_factory=True)
            source = "default" if value == usual else "the command that started it"
        rows.append((name, "(set)" if isinstance(value, SecretStr) else _plain(value), source))
    return rows


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_plain(item) for item in value) or "(none)"
    if isinstance(value, OidcProvider):
        return f"{value.name} ({value.issuer})"
    return "(not set)" if value is None else str(value)
