"""Keys of creates that have no transaction to keep their answer in: taken before, answered or given back after."""

from typing import Any

from cloister.bootstrap import Platform
from cloister.platform.idempotency import KeptAnswer


class Reservation:
    """A key taken for a create that runs in short transactions of its own, until it is answered or given back."""

    def __init__(self, platform: Platform, key: str) -> None:
        self._platform = platform
        self._key: str | None = key

    async def keep(self, fields: dict[str, Any]) -> None:
        """Keep what is about to be answered."""
        key, self._key = self._key, None
        if key is not None:
            async with self._platform.database.write() as uow:
                uow.unrecorded("what was created is recorded")
                kept = await uow.session.get(KeptAnswer, key)
                for name, value in fields.items() if kept is not None else ():
                    setattr(kept, name, value)

    async def give_back(self) -> None:
        """Nothing was created: the key is free again."""
        key, self._key = self._key, None
        if key is not None:
            async with self._platform.database.write() as uow:
                uow.unrecorded("nothing was created")
                kept = await uow.session.get(KeptAnswer, key)
                if kept is not None:
                    await uow.session.delete(kept)
