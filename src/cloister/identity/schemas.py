"""People, sessions and tokens as the API shows them."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from cloister.core.ids import person_label
from cloister.identity.models import ApiToken, Person
from cloister.platform.letters import Language

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class PersonOut(BaseModel):
    """Somebody who signs in."""

    number: str
    name: str
    email: str | None
    email_confirmed: bool
    """Whether a provider vouches for the address, or its link was opened."""
    language: str
    """Of letters to them."""
    created_at: datetime

    @classmethod
    def of(cls, person: Person) -> "PersonOut":
        return cls(
            number=person_label(person.number), name=person.name, email=person.email,
            email_confirmed=person.canonical_email is not None, language=person.language, created_at=person.created_at,
        )  # fmt: skip


class ProviderOut(BaseModel):
    """One way to sign in."""

    name: str
    title: str
    start: str


class SignInOptions(BaseModel):
    """All ways to sign in here."""

    providers: list[ProviderOut]
    demo: bool


class DemoSignIn(BaseModel):
    """Demo mode only: be whoever you say you are."""

    model_config = ConfigDict(extra="forbid")

    email: Annotated[str, Field(max_length=254)]
    name: Annotated[str, Field(max_length=200)] = ""


class SignedOut(BaseModel):
    """From how many browsers somebody was signed out."""

    sessions: int


class TokenIn(BaseModel):
    """A token to make."""

    model_config = ConfigDict(extra="forbid")

    name: Text
    scopes: Annotated[list[str], Field(min_length=1, max_length=50)]
    """Actions such as ``query.run``, or domains such as ``query.*``."""
    days: Annotated[int, Field(ge=1, le=366)] = 90


class SessionOut(BaseModel):
    """A browser that is signed in."""

    id: str
    current: bool
    """Whether it is the one that asks."""
    began_at: datetime
    seen_at: datetime
    """Up to some minutes ago."""
    address: str | None
    browser: str | None
    """As it calls itself (User-Agent)."""


class SessionList(BaseModel):
    """The browsers in which somebody is signed in, the one last used first."""

    items: list[SessionOut]


class TokenOut(BaseModel):
    """A token, without its text."""

    id: str
    name: str
    hint: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None

    @classmethod
    def of(cls, token: ApiToken) -> "TokenOut":
        return cls(
            id=token.id,
            name=token.name,
            hint=token.hint,
            scopes=token.scopes,
            created_at=token.created_at,
            expires_at=token.expires_at,
            used_at=token.used_at,
        )


class NewToken(TokenOut):
    """A token with its text, which is shown this once."""

    token: str


class TokenList(BaseModel):
    """Somebody's tokens."""

    items: list[TokenOut]


class LanguageIn(BaseModel):
    """In which language letters are to be written."""

    model_config = ConfigDict(extra="forbid")

    language: Language


class PersonRow(PersonOut):
    """Somebody, as operators see them."""

    disabled_at: datetime | None

    @classmethod
    def of(cls, person: Person) -> "PersonRow":
        return cls(**PersonOut.of(person).model_dump(), disabled_at=person.disabled_at)


class PersonList(BaseModel):
    """Some people, by number."""

    items: list[PersonRow]
    next_cursor: str | None


class DisabledIn(BaseModel):
    """Whether an account is closed, and why."""

    model_config = ConfigDict(extra="forbid")

    disabled: bool
    reason: Annotated[str, Field(max_length=500)] = ""


class LinkSent(BaseModel):
    """Where a link went."""

    to: str


class ConfirmationIn(BaseModel):
    """What a link held."""

    model_config = ConfigDict(extra="forbid")

    token: Annotated[str, Field(min_length=1, max_length=2000)]
