"""One address, one spelling: for matching only. Mail goes to the address as it was typed."""

import unicodedata

import idna

from cloister.core.errors import Invalid

_GOOGLE = {"gmail.com", "googlemail.com"}


class BadAddress(Invalid):
    """That is no e-mail address. It needs a name, an @ and a domain."""

    code = "invalid.email"


def canonical_email(address: str) -> str:
    """Return the spelling under which an address is matched.

    Everywhere: surrounding space, case and the domain's IDNA form (RFC 5891). At Google, whose rules are published:
    ``googlemail.com`` is ``gmail.com``, dots in the name and all from ``+`` on do not count. Nowhere else are tags
    or dots removed: elsewhere ``a.b@`` and ``ab@`` may well be two people.

    Raises:
        BadAddress: when it is not an address.
    """
    text = unicodedata.normalize("NFKC", address.strip())
    local, at, domain = text.rpartition("@")
    if not at or not local or not domain or len(text) > 254 or any(c.isspace() or not c.isprintable() for c in text):
        raise BadAddress(f"“{address[:80]}” is no e-mail address. It needs a name, an @ and a domain.")
    if "@" in local or local.startswith(".") or local.endswith(".") or ".." in local:
        raise BadAddress
    try:
        host = idna.encode(domain.rstrip("."), uts46=True, transitional=False).decode("ascii").lower()
    except idna.IDNAError as error:
        raise BadAddress(f"“{domain[:80]}” is no domain name.") from error
    if "." not in host and host != "localhost":
        raise BadAddress(f"“{domain[:80]}” is no complete domain name.")
    name = local.casefold()
    if host in _GOOGLE:
        host = "gmail.com"
        name = name.split("+", 1)[0].replace(".", "")
        if not name:
            raise BadAddress
    return f"{name}@{host}"
