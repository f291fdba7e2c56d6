"""What a module says of itself: ``module.yaml``, or what its files show where it has none. Pure."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cloister.modules.configuration import Entry, read_model
from cloister.modules.errors import BadModule
from cloister.spaces import EgressRule, Size, parse_bytes

Runtime = Literal["python", "node", "go", "image"]
MAINS: dict[str, Runtime] = {"main.py": "python", "index.js": "node", "main.go": "go"}
PAGE = "index.html"
DatasetName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
PORTS = {"http": 80, "https": 443, "mqtt": 1883, "mqtts": 8883, "postgresql": 5432, "postgres": 5432}


class Permissions(BaseModel):
    """What a module needs. What is not declared is not granted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hosts: list[EgressRule] = Field(default_factory=list)
    """Hosts that it fetches from."""
    hosts_from: Annotated[list[str], Field(max_length=10)] = Field(default_factory=list)
    """Settings that hold an address: the host of each may be reached, too. Whoever fills them in says which."""
    datasets: bool | Annotated[list[DatasetName], Field(min_length=1, max_length=50)] = False
    """Which governed data it asks, as the person who added it may: none, some by name, or with ``true`` any."""
    size: Size = Size(cpus=0.5, memory="256M", scratch="64M", processes=64)
    seconds: Annotated[float, Field(gt=0, le=86_400)] = 3600
    """How long one run may last; after that it is started again."""

    @property
    def asks(self) -> bool:
        """Whether it asks any governed data."""
        return bool(self.datasets)

    @property
    def asks_only(self) -> frozenset[str] | None:
        """The datasets that it may ask and no other; None when it may ask any."""
        return None if self.datasets is True else frozenset(self.datasets or ())

    def beyond(self, earlier: "Permissions") -> list[str]:
        """What this asks for more than an earlier release did, in words."""
        more = []
        hosts, named = self._hosts_beyond(earlier)
        if hosts:
            more.append("reach " + ", ".join(hosts))
        if named:
            more.append("reach the hosts in " + ", ".join(f"“{name}”" for name in named))
        mine, theirs = self.asks_only, earlier.asks_only
        if mine is None and theirs is not None:
            more.append("ask any governed data")
        elif mine is not None and theirs is not None and (new := sorted(mine - theirs)):
            more.append("ask " + ", ".join(new))
        for word, now, then in (
            ("processors", self.size.cpus, earlier.size.cpus),
            ("memory", self.size.memory_bytes, earlier.size.memory_bytes),
            ("processes", self.size.processes, earlier.size.processes),
            ("disk", parse_bytes(self.size.disk), parse_bytes(earlier.size.disk)),
            ("scratch space", parse_bytes(self.size.scratch), parse_bytes(earlier.size.scratch)),
            ("open files", self.size.files, earlier.size.files),
            ("time", self.seconds, earlier.seconds),
        ):
            if now > then:
                more.append(f"more {word}")
        return more

    def reaches_beyond(self, earlier: "Permissions") -> bool:
        """Whether this asks to reach hosts that an earlier release did not."""
        return any(self._hosts_beyond(earlier))

    def _hosts_beyond(self, earlier: "Permissions") -> tuple[list[str], list[str]]:
        """The hosts, and the settings that name some, that an earlier release did not ask for."""
        had = {(rule.host, port) for rule in earlier.hosts for port in rule.ports}
        hosts = [f"{rule.host}:{port}" for rule in self.hosts for port in rule.ports if (rule.host, port) not in had]
        return hosts, [name for name in self.hosts_from if name not in earlier.hosts_from]

    def reached(self, values: Mapping[str, Any]) -> tuple[EgressRule, ...]:
        """All hosts that it may reach with a configuration."""
        found = list(self.hosts)
        for name in self.hosts_from:
            try:
                address = urlsplit(str(values.get(name) or ""))
                port = address.port or PORTS.get(address.scheme)
                found.append(EgressRule(host=address.hostname or "", ports=[port or 0]))
            except ValueError:
                continue  # not filled in, or no address: then there is nothing to reach
        return tuple(found)


class Manifest(BaseModel):
    """``module.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: Annotated[str, Field(max_length=120)] = ""
    summary: Annotated[str, Field(max_length=500)] = ""
    keywords: Annotated[list[Annotated[str, Field(max_length=40)]], Field(max_length=20)] = Field(default_factory=list)
    kind: Literal["integration", "widget"]
    runtime: Runtime | None = None
    image: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,60}$")] | None = None
    """For the runtime ``image``: an OCI image that this platform's operator has brought."""
    command: Annotated[list[Annotated[str, Field(max_length=1000)]], Field(max_length=50)] = Field(default_factory=list)
    """What is run on it; absent: what the image runs by itself."""
    licence: Annotated[str, Field(max_length=60)] = ""
    author: Annotated[str, Field(max_length=120)] = ""
    """By which name its author wants to be known. Who published it is said by number in any case."""
    permissions: Permissions = Permissions()
    accepts: Annotated[list[Literal["any", "number", "text", "list", "table", "object"]], Field(min_length=1)] = ["any"]
    """For widgets: the kinds of node that they draw (or one), best first, so that fitting ones can be suggested."""

    @field_validator("accepts", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class Described(BaseModel):
    """A manifest and the configuration model beside it, as a release keeps them."""

    manifest: Manifest
    model: list[Entry]


def describe(files: dict[str, bytes]) -> Described:
    """Read what a module's files say of it.

    Raises:
        BadModule: naming the file and the fault.
    """
    data = _said(files)
    mains = [runtime for file, runtime in MAINS.items() if file in files]
    if "kind" not in data:
        data = {**data, "kind": "widget" if PAGE in files and not mains else "integration"}
    if data["kind"] == "integration" and "image" in data:
        data = {"runtime": "image", **data}
    if data["kind"] == "integration" and "runtime" not in data and mains:
        data = {**data, "runtime": mains[0]}
    try:
        manifest = Manifest.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        said = str(first["msg"]).removeprefix("Value error, ")
        raise BadModule(f"module.yaml: “{where}”: {said}.") from error
    _check_main(manifest, files)
    model = read_model(files["config.json"]) if "config.json" in files else []
    texts = {entry.name for entry in model if entry.type == "text"}
    for name in manifest.permissions.hosts_from:
        if name not in texts:
            raise BadModule(f"module.yaml: “permissions.hosts_from”: config.json has no text entry “{name}”.")
    return Described(manifest=manifest, model=model)


def _said(files: dict[str, bytes]) -> dict[str, Any]:
    """What is in ``module.yaml``."""
    if "module.yaml" not in files:
        return {}
    try:
        data = yaml.safe_load(files["module.yaml"].decode()) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # such as a date with a thirteenth month
        raise BadModule(f"module.yaml: this is no YAML: {str(error)[:300]}") from error
    if not isinstance(data, dict):
        raise BadModule("module.yaml: this should be a mapping.")
    return data


def _check_main(manifest: Manifest, files: dict[str, bytes]) -> None:
    if manifest.kind == "widget" and PAGE not in files:
        raise BadModule(f"A widget needs {PAGE}.")
    if manifest.kind == "integration":
        needed = {runtime: file for file, runtime in MAINS.items()}
        if manifest.runtime == "image":
            if manifest.image is None:
                raise BadModule("module.yaml: the runtime “image” needs an “image”.")
            return
        if manifest.image is not None or manifest.command:
            raise BadModule("module.yaml: “image” and “command” go with “runtime: image”.")
        if manifest.runtime is None:
            raise BadModule(f"An integration needs one of {', '.join(MAINS)}.")
        if needed[manifest.runtime] not in files:
            raise BadModule(f"An integration in {manifest.runtime} needs {needed[manifest.runtime]}.")
