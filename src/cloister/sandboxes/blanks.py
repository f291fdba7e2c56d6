"""Sandboxes that were started ahead: an agent, and an interpreter that waits to be told what to run.

A blank belongs to nobody's work yet, but it was made for one team, with that team's user id, environment and limits: it
has every wall of the sandbox that it becomes, and nothing of a program's files, configuration, hosts or tokens for
data is in it before. So starting a program is handing these over. There are as many as were asked for lately, up to a
limit, and none after a while in which nobody asks. They are in no row: whatever a crash leaves of them is swept.
"""

import asyncio
import json
import os
import secrets
import shutil
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from cloister.core.errors import CloisterError
from cloister.core.ids import new_id
from cloister.identity import secret_hash
from cloister.platform import Controller, Settings
from cloister.platform.finishing import to_the_end
from cloister.platform.logs import logger
from cloister.platform.objects import remove_tree
from cloister.sandboxes.inner import Connected, InnerApi
from cloister.sandboxes.output import OutputLog
from cloister.sandboxes.ports import Backend
from cloister.sandboxes.spec import AGENT_MOUNT, MODULE_MOUNT, Companion, Mount, Place, SandboxSpec
from cloister.sandboxes.starting import make_place

log = logger(__name__)
CLAIM_SECONDS = 30.0
"""A blank that was promised to a row which was never written is removed after so long."""
QUIET_SECONDS = 1.0
"""Others are started only when nobody has asked for so long: what is starting comes first."""
END_SECONDS = 5.0
"""How long a killed process may take to be gone."""
WAITERS = {"python3": f"{AGENT_MOUNT}/waiting.py", "node": f"{AGENT_MOUNT}/waiting.js"}


@dataclass(frozen=True)
class Kind:
    """What must be equal for a blank to become a sandbox."""

    uid: int
    environment: str | None
    size: str
    interpreter: str
    environ: tuple[tuple[str, str], ...]
    expects: tuple[str, ...]

    @classmethod
    def of(cls, spec: SandboxSpec, uid: int) -> "Kind | None":
        """None of what no blank can become: there are mounts that cannot be made later."""
        apart = spec.volume or spec.image or spec.datasets or spec.serves or spec.warm or spec.port
        if not spec.blank or apart or any(mount.target != MODULE_MOUNT for mount in spec.mounts):
            return None
        if Path(spec.command[0]).name not in WAITERS:
            return None
        size = json.dumps(spec.size, sort_keys=True)
        return cls(uid, spec.environment, size, spec.command[0], tuple(sorted(spec.environ.items())), spec.expects)

    def spec(self, place: Place) -> SandboxSpec:
        return SandboxSpec(
            command=(self.interpreter, WAITERS[Path(self.interpreter).name], *self.expects), environment=self.environment,
            size=json.loads(self.size), mounts=(Mount(str(place.module), MODULE_MOUNT),), environ=dict(self.environ),
        )  # fmt: skip


@dataclass
class Blank:
    """One that waits."""

    kind: Kind
    connected: Connected
    pid: int
    gone: "asyncio.Future[None]"
    promised: float | None = None
    """Since when it is a row's, in seconds of the monotonic clock."""


class Blanks(Controller):
    """Keeps blanks ready, hands them out, removes them."""

    name = "blank sandboxes"
    interval = 10.0

    def __init__(self, settings: Settings, backend: Backend, inner: InnerApi, place: Callable[[str], Place]) -> None:
        super().__init__()
        self._settings = settings
        self._backend = backend
        self._inner = inner
        self._place = place
        self._demand: dict[Kind, deque[float]] = {}
        self._closed = False
        self._going: dict[str, asyncio.Event] = {}
        """Those that are being removed: a row of the same id may begin only when that is done."""
        self.ready: dict[str, Blank] = {}

    def take(self, spec: SandboxSpec, uid: int) -> str | None:
        """The id of a blank that fits, for the row that is about to be written; None when there is none."""
        kind = Kind.of(spec, uid)
        if kind is None or not self._settings.blank_sandboxes:
            return None
        self._demand.setdefault(kind, deque(maxlen=64)).append(monotonic())
        self.wake()
        for id_, blank in self.ready.items():
            if blank.kind == kind and blank.promised is None and not blank.gone.done():
                blank.promised = monotonic()
                return id_
        return None

    async def claim(self, id_: str) -> Blank | None:
        """Hand a blank over to the row of its id; None when it is none, or has ended, and then nothing is left of it."""
        if id_ in self._going:
            await self._going[id_].wait()
        blank = self.ready.get(id_)
        if blank is None:
            return None
        if blank.gone.done():
            await self._remove(id_, blank)
            return None
        del self.ready[id_]
        blank.gone.cancel()
        return blank

    async def look(self) -> float | None:
        if self._closed:
            return None
        missing = await self._drop(self._wanted())
        if not missing:
            return None
        quiet = max(asked[-1] for asked in self._demand.values()) + QUIET_SECONDS - monotonic()
        if quiet > 0:
            return quiet
        await self._start(missing[0])
        return 0.0

    async def _drop(self, wanted: dict[Kind, int]) -> list[Kind]:
        """Remove whatever is not wanted, or is no good any more; return the kinds of which there are too few."""
        now = monotonic()
        for id_, blank in list(self.ready.items()):
            if id_ not in self.ready:
                continue  # it was claimed while another one was removed
            if blank.promised is not None:
                if blank.promised < now - CLAIM_SECONDS:
                    await self._remove(id_, blank)
            elif blank.gone.done() or wanted.get(blank.kind, 0) <= 0:
                await self._remove(id_, blank)
            else:
                wanted[blank.kind] -= 1
        return [kind for kind, count in wanted.items() if count > 0]

    def _wanted(self) -> dict[Kind, int]:
        """How many of each kind there should be: those asked for last come first."""
        since = monotonic() - self._settings.blank_seconds
        for kind, asked in list(self._demand.items()):
            while asked and asked[0] < since:
                asked.popleft()
            if not asked:
                del self._demand[kind]
        newest = sorted(((at, kind) for kind, asked in self._demand.items() for at in asked), key=lambda one: -one[0])
        wanted = dict.fromkeys(self._demand, 0)
        for _, kind in newest[: self._settings.blank_sandboxes]:
            wanted[kind] += 1
        return wanted

    async def _start(self, kind: Kind) -> None:
        id_, token = new_id("sbx"), secrets.token_urlsafe(32)
        place = self._place(id_)
        spec = kind.spec(place)

        async def keep(_current: str, _following: str | None) -> None:
            """Its tokens are written down with its row, when it has one."""

        connected = Connected(
            id=id_, space="", team=None, person=None, place=place, assignment=spec.assignment(), rules=[],
            output=OutputLog(place.log, self._settings.sandbox_output_bytes, Companion()), queries=False,
            queries_of=None,
            token_hash=secret_hash(token), next_token_hash=None, save_tokens=keep, waits=True,
        )  # fmt: skip
        await asyncio.to_thread(make_place, place, token)
        await asyncio.to_thread(place.module.mkdir)
        try:
            await self._inner.open(connected)
            pid = await self._backend.start(id_, spec, place, kind.uid, None)
        except BaseException as error:
            await self._forget(connected)
            if not isinstance(error, CloisterError):
                raise
            log.warning("blank.failed", reason=error.detail)
            self._demand.pop(kind, None)  # it is started as it is asked for, and says there what is wrong
            return
        blank = self.ready[id_] = Blank(kind, connected, pid, asyncio.ensure_future(self._backend.wait(pid)))
        if self._closed:
            await self._remove(id_, blank)

    async def _remove(self, id_: str, blank: Blank) -> None:
        del self.ready[id_]
        gone = self._going[id_] = asyncio.Event()
        try:
            await self._forget(blank.connected)
            await asyncio.wait({blank.gone}, timeout=END_SECONDS)  # so that it is taken off the process table
        finally:
            blank.gone.cancel()
            gone.set()
            del self._going[id_]

    async def _forget(self, connected: Connected) -> None:
        """Remove every trace. A caller that is cancelled, as when the platform stops, waits for it: nobody else would do it."""
        await to_the_end(self._forget_now(connected))

    async def _forget_now(self, connected: Connected) -> None:
        await self._inner.close(connected)
        await self._backend.remove(connected.id, connected.place)
        await asyncio.to_thread(remove_tree, connected.place.root)

    async def close(self) -> None:
        """The process ends: none is left for the next."""
        self._closed = True
        await asyncio.gather(*(self._remove(id_, blank) for id_, blank in list(self.ready.items())))


def furnish(place: Place, spec: SandboxSpec) -> None:
    """Put a program's files where a blank sees them: links to the same content, which nothing inside can write."""

    def link(source: str, target: str) -> str:
        try:
            os.link(source, target)
        except OSError:  # another file system
            shutil.copyfile(source, target)
            Path(target).chmod(0o644)
        return target

    for mount in spec.mounts:
        shutil.copytree(mount.source, place.module, copy_function=link, dirs_exist_ok=True)
