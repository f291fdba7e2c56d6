"""What those who come by a share may set: settings that its owner names, and no others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from cloister.dashboards.document import Document, Id, Integration, is_sealed
from cloister.dashboards.uses import release_if_any
from cloister.modules import BadConfiguration, Described, Entry, Modules
from cloister.platform import UnitOfWork

Values = tuple[tuple[str, str, Any], ...]
"""Integration, setting, value: what differs from the dashboard for some of those who look."""


class Variable(BaseModel):
    """A setting of one of a dashboard's integrations."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    integration: Id
    name: Annotated[str, Field(min_length=1, max_length=100)]


@dataclass(frozen=True)
class Setting:
    """A variable as it is now: what kind of value it takes, and which one it has."""

    id: str
    """Its name for visitors, who learn nothing else of where it belongs."""
    variable: Variable
    entry: Entry
    value: Any


async def settings_of(
    uow: UnitOfWork, modules: Modules, document: Document, variables: Sequence[Variable]
) -> list[Setting]:
    """The variables that can be set now. One whose integration or setting is gone is left out."""
    uses = {integration.id: integration for integration in document.integrations}
    found = []
    for place, variable in enumerate(variables, start=1):
        use = uses.get(variable.integration)
        entry = None if use is None else await _entry(uow, modules, use, variable.name)
        if use is not None and entry is not None:
            value = use.values.get(entry.name)
            found.append(Setting(f"v{place}", variable, entry, entry.default if value is None else value))
    return found


async def _entry(uow: UnitOfWork, modules: Modules, use: Integration, name: str) -> Entry | None:
    release = await release_if_any(uow, modules, use)
    if release is None:
        return None
    described = Described.model_validate(release.described)
    entry = next((entry for entry in described.model if entry.name == name), None)
    if (
        entry is None
        or entry.secret
        or name in described.manifest.permissions.hosts_from
        or is_sealed(use.values.get(name))
    ):
        return None  # strangers do not choose secrets, nor what is reached
    return entry


async def check_variables(uow: UnitOfWork, modules: Modules, document: Document, variables: Sequence[Variable]) -> None:
    """Check that strangers may set some settings.

    Raises:
        BadConfiguration: naming the one that they may not.
    """
    settable = {setting.variable for setting in await settings_of(uow, modules, document, variables)}
    for variable in variables:
        if variable not in settable:
            raise BadConfiguration(
                f"“{variable.name}” of “{variable.integration}” cannot be set by those who look: it is not there, is a "
                "secret, or says which host is reached.", setting=variable.name,
            )  # fmt: skip


def chosen(settings: Sequence[Setting], given: Mapping[str, Any]) -> Values:
    """What a visitor wants to be different from the dashboard.

    Raises:
        BadConfiguration: naming the setting.
    """
    known = {setting.id: setting for setting in settings}
    different = []
    for id_, value in given.items():
        setting = known.get(id_)
        if setting is None:
            raise BadConfiguration("This link has no such setting.", setting=id_[:100])
        try:
            checked = setting.entry.check(value)
        except ValueError as error:
            raise BadConfiguration(f"“{setting.entry.label or setting.entry.name}” {error}.", setting=id_) from error
        if checked != setting.value:
            different.append((setting.variable.integration, setting.variable.name, checked))
    return tuple(sorted(different))


def applied(document: Document, values: Values) -> Document:
    """The dashboard as it is for those who chose some values."""
    if not values:
        return document
    copy = document.model_copy(deep=True)
    for use in copy.integrations:
        use.values |= {name: value for integration, name, value in values if integration == use.id}
    return copy
