"""One address, one spelling: for matching only. Mail goes to the address as it was typed."""

import string
import unicodedata

import idna

from cloister.core.errors import Invalid

_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_GOOGLE = {"gmail.com", "googlemail.com"}


class BadAddress(Invalid):
    """That is no e-mail address. It needs a name, an @ and a domain."""

    code = "invalid.email"


def canonical_email(address: str) -> str:
    """Return the spelling under which an address is matched.

    Everywhere: surrounding space, the case of ASCII letters and the domain's IDNA form (RFC 5891). Of other letters only
    those of one Unicode form are one (NFC): what looks alike, or becomes alike in capitals, may be two people's (``ß`` and
    ``ss``), and one of them would have the other's account. At Google, whose rules are published:
    ``googlemail.com`` is ``gmail.com``, dots in the name and all from ``+`` on do not count. Nowhere else are tags
    or dots removed: elsewhere ``a.b@`` and ``ab@`` may well be two people.

    Raises:
        BadAddress: when it is not an address.
    """
    if any(not c.isascii() and unicodedata.normalize("NFC", c).isascii() for c in address):
        raise BadAddress("This address has a sign that stands for another letter. Type the letter itself.")
    text = unicodedata.normalize("NFC", address.strip())
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
    name = local.translate(_LOWER)
    if host in _GOOGLE:
        host = "gmail.com"
        name = name.split("+", 1)[0].replace(".", "")
        if not name:
            raise BadAddress
    return f"{name}@{host}"
