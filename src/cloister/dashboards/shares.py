"""Shares: links that show a dashboard and nothing behind it."""

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cloister.access import scoped_get, scoped_select
from cloister.audit import Name, record
from cloister.core.clock import Clock
from cloister.core.errors import Invalid
from cloister.core.events import DashboardChanged
from cloister.core.ids import new_id
from cloister.core.principal import EVERYTHING, Scope
from cloister.dashboards.document import Document, Widget, is_sealed
from cloister.dashboards.errors import DataNotShareable, PassphraseNeeded, ShareNotFound, SharePaused, ShareUnavailable
from cloister.dashboards.models import Dashboard, Share
from cloister.dashboards.uses import release_if_any
from cloister.dashboards.variables import Setting, Variable, check_variables, settings_of
from cloister.datasets import Grants, Operation
from cloister.identity import secret_hash
from cloister.modules import Described, Modules, Permissions, Release
from cloister.platform import UnitOfWork
from cloister.spaces import in_space

ROUNDS = 200_000
WAYS: tuple[Operation, Operation] = ("query", "download")


@dataclass(frozen=True)
class Wish:
    """How a dashboard is to be shared."""

    passphrase: str | None = None
    origins: tuple[str, ...] = ()
    expires_at: datetime | None = None
    variables: tuple[Variable, ...] = ()


@dataclass
class Shares:
    """The service."""

    modules: Modules
    grants: Grants
    clock: Clock
    asking: Callable[[str], dict[str, list[Permissions]]] = lambda _dashboard: {}
    """Which integrations of a dashboard run just now and may ask governed data."""

    async def create(self, uow: UnitOfWork, row: Dashboard, person: int, wish: Wish) -> tuple[Share, str]:
        """Share a dashboard; return the share and its token, which is not kept.

        Raises:
            DataNotShareable: when it shows governed data that may not leave.
            BadConfiguration: when a variable is none that strangers may set.
        """
        if wish.expires_at is not None and wish.expires_at <= self.clock.now():
            raise Invalid("“expires_at” lies in the past.")
        await self._check_data(uow, row)
        await check_variables(uow, self.modules, Document.model_validate(row.document), wish.variables)
        token = secrets.token_urlsafe(24)
        share = Share(
            id=new_id("shr"), token_hash=secret_hash(token), space=row.space, team=row.team, dashboard=row.id,
            passphrase_hash=None if wish.passphrase is None else _hash(wish.passphrase), origins=list(wish.origins),
            variables=[variable.model_dump() for variable in wish.variables],
            paused=False, expires_at=wish.expires_at, views=0, created_by=person, created_at=self.clock.now(),
        )  # fmt: skip
        uow.session.add(share)
        record(uow, Name.SHARE_CREATED, space=row.space, team=row.team, subject=share.id, dashboard=row.id)
        await uow.session.flush()
        return share, token

    async def _check_data(self, uow: UnitOfWork, row: Dashboard) -> None:
        """Governed data leave by a share only where every dataset that could be asked may be downloaded."""
        document = Document.model_validate(row.document)
        running = self.asking(row.id)
        for integration in document.integrations:
            release = await release_if_any(uow, self.modules, integration)
            needs = None if release is None else Described.model_validate(release.described).manifest.permissions
            # What runs may be of another release than what would be started now: both count.
            asking = [*running.get(integration.id, []), *([needs] if needs is not None and needs.asks else [])]
            if not asking:
                continue
            named = [one.asks_only for one in asking]
            only = None if None in named else frozenset[str]().union(*(names for names in named if names is not None))
            asked, leaving = [
                {
                    grant.dataset
                    for grant in await self.grants.effective(uow, row.space, integration.added_by, row.team, way)
                    if only is None or grant.dataset in only
                }
                for way in WAYS
            ]
            kept = sorted(asked - leaving)
            if kept:
                raise DataNotShareable(
                    f"“{integration.module}” can ask {', '.join(kept)}, which may not leave this space. "
                    "A steward can grant “download” for that."
                )

    async def of(self, uow: UnitOfWork, row: Dashboard) -> list[Share]:
        query = scoped_select(Share, in_space(row.space)).where(Share.dashboard == row.id).order_by(Share.id)
        return list((await uow.session.scalars(query)).all())

    async def get(self, uow: UnitOfWork, scope: Scope, id_: str) -> Share:
        found = await scoped_get(uow, Share, scope, id=id_)
        if found is None:
            raise ShareNotFound
        return found

    async def pause(self, uow: UnitOfWork, share: Share, *, paused: bool) -> Share:
        share.paused = paused
        record(uow, Name.SHARE_CHANGED, space=share.space, team=share.team, subject=share.id, paused=paused)
        uow.publish(DashboardChanged(share.dashboard))
        return share

    async def revoke(self, uow: UnitOfWork, share: Share) -> None:
        await uow.session.delete(share)
        record(uow, Name.SHARE_REVOKED, space=share.space, team=share.team, subject=share.id)
        uow.publish(DashboardChanged(share.dashboard))

    # -- those who come by it

    async def find(self, uow: UnitOfWork, token: str, at: str | None = None) -> tuple[Share, Dashboard]:
        """The share of a token, if it shows something now; and if it is the one at whose address its page is, for that
        says who may embed it.

        Raises:
            ShareNotFound, SharePaused: when it does not.
        """
        share = await scoped_get(uow, Share, EVERYTHING, token_hash=secret_hash(token))
        if share is None or (at and at != share.id):
            raise ShareNotFound
        return share, await self.still(uow, share)

    async def still(self, uow: UnitOfWork, share: Share) -> Dashboard:
        """The dashboard that a share shows now.

        Raises:
            ShareNotFound, SharePaused, ShareUnavailable: when it shows none.
        """
        if share.expires_at is not None and share.expires_at <= self.clock.now():
            raise ShareNotFound
        if share.paused:
            raise SharePaused
        row = await scoped_get(uow, Dashboard, EVERYTHING, id=share.dashboard)
        if row is None:
            raise ShareNotFound
        try:
            await self._check_data(uow, row)  # grants may have ended since
        except DataNotShareable as error:
            raise ShareUnavailable from error  # which data those are is not for visitors
        return row

    @staticmethod
    def check_passphrase(share: Share, given: str | None) -> None:
        """Let in who knows it.

        Raises:
            PassphraseNeeded: when it is missing or wrong.
        """
        if share.passphrase_hash is not None and (given is None or not _matches(share.passphrase_hash, given)):
            raise PassphraseNeeded

    async def settings(self, uow: UnitOfWork, share: Share, row: Dashboard) -> list[Setting]:
        """What a visitor may set, and as what it stands."""
        variables = [Variable.model_validate(variable) for variable in share.variables]
        return await settings_of(uow, self.modules, Document.model_validate(row.document), variables)

    async def viewed(self, uow: UnitOfWork, share: Share, *, again: bool) -> None:
        """Note a visit; of one that only takes up a lost connection, too, though it is no view more."""
        if not again:
            share.views += 1
        record(uow, Name.SHARE_VIEWED, space=share.space, team=share.team, subject=share.id, again=again or None)


def shown(row: Dashboard, releases: Mapping[str, Release | None]) -> dict[str, Any]:
    """What a share shows: where widgets are, and what they are to look like. Of integrations nothing."""

    def values(widget: Widget) -> dict[str, Any]:
        release = releases.get(widget.id)
        model = [] if release is None else Described.model_validate(release.described).model
        given = {name: value for name, value in widget.values.items() if not is_sealed(value)}
        return {entry.name: entry.default for entry in model if not entry.secret} | given

    def digest(widget: Widget) -> str | None:
        release = releases.get(widget.id)
        return None if release is None else release.digest

    document = Document.model_validate(row.document)
    return {
        "name": document.name,
        "background": document.background,
        "widgets": [
            {
                "id": w.id, "title": w.title, "x": w.x, "y": w.y, "width": w.width, "height": w.height,
                "digest": digest(w), "live": w.source is not None, "values": values(w),
            }
            for w in document.widgets
        ],
    }  # fmt: skip


def _hash(passphrase: str) -> str:
    salt = secrets.token_bytes(16)
    return f"{salt.hex()}:{hashlib.pbkdf2_hmac('sha256', passphrase.encode(), salt, ROUNDS).hex()}"


def _matches(kept: str, given: str) -> bool:
    salt, _, digest = kept.partition(":")
    found = hashlib.pbkdf2_hmac("sha256", given.encode(), bytes.fromhex(salt), ROUNDS).hex()
    return secrets.compare_digest(found, digest)
