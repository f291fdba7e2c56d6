"""People, how they sign in, their sessions and API tokens."""

from cloister.identity.confirmation import Confirmations
from cloister.identity.emails import BadAddress, canonical_email
from cloister.identity.models import ApiToken, Person
from cloister.identity.oidc import OidcSignIn
from cloister.identity.people import (
    Claims,
    EmailTaken,
    PersonDisabled,
    disable,
    get_person,
    named,
    people_by_number,
    person_by_address,
    search_people,
    sign_in_person,
)
from cloister.identity.sessions import Sessions, secret_hash
from cloister.identity.signed_in import SignedIn
from cloister.identity.tokens import Tokens

__all__ = [
    "ApiToken",
    "BadAddress",
    "Claims",
    "Confirmations",
    "EmailTaken",
    "OidcSignIn",
    "Person",
    "PersonDisabled",
    "Sessions",
    "SignedIn",
    "Tokens",
    "canonical_email",
    "disable",
    "get_person",
    "named",
    "people_by_number",
    "person_by_address",
    "search_people",
    "secret_hash",
    "sign_in_person",
]
