"""Drafts on trial: an author's own module runs, or is drawn, as it is now, before anybody else can see it."""

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from cloister.access import scoped_get
from cloister.core.principal import EVERYTHING
from cloister.dashboards.document import Document, Integration, Use
from cloister.dashboards.models import Dashboard
from cloister.modules import Described, Entry, Module, ModuleNotFound, Modules, Release
from cloister.platform import UnitOfWork

Seal = Callable[[Use, list[Entry], Use | None], dict[str, Any]]
PREVIEW_SECONDS = 1800.0
MOST = 2000


@dataclass
class Trial:
    """One author's draft in one of their teams. It lives in this process alone, and no dashboard has it."""

    board: Dashboard
    release: Release


@dataclass
class Trials:
    """What is on trial just now."""

    modules: Modules
    running: dict[str, Trial] = field(default_factory=dict)
    previews: dict[str, tuple[int, float]] = field(default_factory=dict)

    def begin(
        self, module: Module, described: Described, release: Release, person: int, space: str, team: int,
        values: dict[str, Any], seal: Seal,
    ) -> Trial:  # fmt: skip
        """Put a draft on trial; once more for the same author takes the place of what ran before.

        Raises:
            BadConfiguration: when the values are not what its model asks for.
        """
        use = Integration(id="draft", module=module.name, version=release.version, values=values, added_by=person)
        use.values = seal(use, described.model, None)
        document = Document(name=module.name, integrations=[use])
        id_ = f"trial_{person}_{module.number}_{team}"
        board = Dashboard(
            id=id_, space=space, team=team, name=module.name, document=json.loads(document.model_dump_json()), version=1,
            created_by=person, updated_at=release.published_at,
        )  # fmt: skip
        if len(self.running) >= MOST:
            self.running.pop(next(iter(self.running)))
        self.running[id_] = Trial(board, release)
        return self.running[id_]

    def preview(self, module: Module) -> str:
        """A name under which the draft of a widget is served to whoever has it, for half an hour."""
        now = monotonic()
        self.previews = {name: kept for name, kept in self.previews.items() if kept[1] > now}
        name = f"draft-{secrets.token_urlsafe(24)}"
        self.previews[name] = (module.number, now + PREVIEW_SECONDS)
        return name

    async def previewed(self, uow: UnitOfWork, name: str) -> dict[str, bytes]:
        """The files of a draft that is looked at.

        Raises:
            ModuleNotFound: when the name is none, or has become old.
        """
        number, until = self.previews.get(name, (0, 0.0))
        module = await scoped_get(uow, Module, EVERYTHING, number=number) if until > monotonic() else None
        if module is None:
            raise ModuleNotFound
        return await self.modules.draft(uow, module)
