"""Which releases the parts of a dashboard are."""

from cloister.core.errors import CloisterError
from cloister.dashboards.document import Integration, Use
from cloister.modules import Modules, Release
from cloister.platform import UnitOfWork


async def release_of(uow: UnitOfWork, modules: Modules, use: Use) -> Release:
    """The release that a part is now; of an integration none that asks for more than was accepted.

    Raises:
        CloisterError: why there is none.
    """
    accepts = use.accepts if isinstance(use, Integration) else None
    return (await modules.resolve(uow, use.module, use.version, accepts))[1]


async def release_if_any(uow: UnitOfWork, modules: Modules, use: Use) -> Release | None:
    """The same; None where there is none, for example because its author took it away."""
    try:
        return await release_of(uow, modules, use)
    except CloisterError:
        return None
