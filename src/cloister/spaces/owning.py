"""What a space's owners may change of it by themselves. The rest costs, or opens a way out, and is an operator's."""

from typing import Annotated, Any, Literal, get_args

from pydantic import AwareDatetime, Field, ValidationError

from cloister.core.errors import Invalid
from cloister.identity import BadAddress, canonical_email
from cloister.spaces.declaration import AgreementDeclaration, Policies, RoleName, Round, SpaceDeclaration
from cloister.spaces.declared import Declared

POLICIES = (
    "terminals", "downloads", "download_per_person", "download_per_team", "view", "upload", "idle_minutes", "keep_hours",
    "grace_minutes", "snapshot_hours", "snapshots_kept",
)  # fmt: skip

ROLES: tuple[RoleName, ...] = get_args(RoleName)
Address = Annotated[str, Field(max_length=320)]


class BadSettings(Invalid):
    """These settings cannot be."""

    code = "space.bad_settings"


class SpaceSettings(Declared):
    """What owners see and change."""

    title: Annotated[str, Field(min_length=1, max_length=200)]
    description: Annotated[str, Field(max_length=20_000)] = ""
    sponsor: Annotated[str, Field(max_length=200)] = ""
    rules: Annotated[str, Field(max_length=200_000)] = ""
    """Markdown, shown on the public page."""
    listed: bool = True
    starts: AwareDatetime | None = None
    ends: AwareDatetime | None = None
    enrolment: Literal["open", "code", "allow-list", "approval"] = "open"
    new_code: Annotated[str | None, Field(max_length=200)] = None
    """For enrolment by code: another one. It is never shown again."""
    days: Annotated[int, Field(ge=1, le=3660)] | None = None
    agreements: Annotated[list[AgreementDeclaration], Field(max_length=20)] = Field(default_factory=list)
    rounds: Annotated[list[Round], Field(max_length=100)] = Field(default_factory=list)
    policies: Annotated[dict[str, str | float | None], Field(max_length=len(POLICIES))] = Field(default_factory=dict)
    roles: dict[RoleName, Annotated[list[Address], Field(max_length=200)]] | None = None
    """Role to e-mail addresses; left as they are when they are not given."""

    @classmethod
    def of(cls, declaration: SpaceDeclaration) -> "SpaceSettings":
        """What a space is now."""
        policies = declaration.policies.model_dump(mode="json", include=set(POLICIES))
        return cls(
            title=declaration.title, description=declaration.description, sponsor=declaration.sponsor,
            rules=declaration.rules, listed=declaration.listed,
            starts=declaration.starts, ends=declaration.ends, enrolment=declaration.enrolment.mode,
            days=declaration.enrolment.days, agreements=declaration.agreements, rounds=declaration.rounds, policies=policies,
            roles={name: declaration.roles.get(name, []) for name in ROLES},
        )  # fmt: skip

    def applied(self, declaration: SpaceDeclaration) -> SpaceDeclaration:
        """A space as it will be with these.

        Raises:
            BadSettings: naming what is wrong.
        """
        strange = sorted(self.policies.keys() - set(POLICIES))
        if strange:
            raise BadSettings(f"“{strange[0]}” is an operator's to change (cloister space apply).")
        data: dict[str, Any] = declaration.model_dump(exclude_defaults=True)
        enrolment = {**data.get("enrolment", {}), "mode": self.enrolment, "days": self.days}
        if self.new_code:
            enrolment["code"] = self.new_code
        if self.enrolment == "code" and not (self.new_code or enrolment.get("code_sha256")):
            raise BadSettings("Enrolment by code needs a code.")
        data |= {
            "title": self.title, "description": self.description, "sponsor": self.sponsor, "rules": self.rules,
            "listed": self.listed, "starts": self.starts, "ends": self.ends, "enrolment": enrolment, "agreements": [one.model_dump() for one in self.agreements],
            "rounds": [one.model_dump() for one in self.rounds],
        }  # fmt: skip
        if self.roles is not None:
            data["roles"] = self._appointed(declaration)
        try:
            Policies.model_validate({**data.get("policies", {}), **self.policies})
            data["policies"] = {**data.get("policies", {}), **self.policies}
            return SpaceDeclaration.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            said = str(first["msg"]).removeprefix("Value error, ")
            raise BadSettings(f"{where}: {said}." if where else f"{said[:1].upper()}{said[1:]}.") from error

    def _appointed(self, declaration: SpaceDeclaration) -> dict[RoleName, list[str]]:
        """Who has which role from now on: each address once, and never nobody who could change it again."""
        roles = {name: addresses for name, addresses in (self.roles or {}).items() if addresses}
        for name, addresses in roles.items():
            try:
                roles[name] = list({canonical_email(address): address.strip() for address in addresses}.values())
            except BadAddress as error:
                raise BadSettings(f"{name}: {error.detail}") from error
        if declaration.roles.get("owner") and not roles.get("owner"):
            raise BadSettings("A space keeps at least one owner.")
        return roles
