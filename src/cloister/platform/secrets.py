"""Secrets at rest: AES-256-GCM under keys derived from the one secret key, each for a single purpose."""

import base64
import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cloister.platform.settings import Settings


class SecretBox:
    """Encrypts, and derives keys for other uses."""

    def __init__(self, master: bytes) -> None:
        self._master = master
        self._derived: dict[str, bytes] = {}

    @classmethod
    def from_settings(cls, settings: Settings) -> "SecretBox":
        """Use the operator's key; in demo mode make one up and keep it beside the demo's data."""
        if settings.secret_key is not None:
            return cls(settings.secret_key.get_secret_value().encode())
        return cls(_kept_key(settings.state_directory / "demo.key"))

    def derive(self, purpose: str) -> bytes:
        """32 bytes that nobody can compute for another purpose (HKDF, RFC 5869)."""
        found = self._derived.get(purpose)
        if found is None:
            hkdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=purpose.encode())
            found = self._derived[purpose] = hkdf.derive(self._master)
        return found

    def encrypt(self, plain: bytes, purpose: str) -> str:
        nonce = os.urandom(12)
        sealed = AESGCM(self.derive(purpose)).encrypt(nonce, plain, purpose.encode())
        return base64.b64encode(nonce + sealed).decode()

    def decrypt(self, sealed: str, purpose: str) -> bytes:
        """Open what `encrypt` sealed.

        Raises:
            cryptography.exceptions.InvalidTag: when it was changed or sealed for something else.
        """
        data = base64.b64decode(sealed)
        return AESGCM(self.derive(purpose)).decrypt(data[:12], data[12:], purpose.encode())

    def signing_key(self, purpose: str) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.derive(purpose))


def _kept_key(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}")
        partial.touch(mode=0o600)
        partial.write_text(secrets.token_urlsafe(48))
        try:
            os.link(partial, path)  # the first of several starters wins
        except FileExistsError:
            pass
        finally:
            partial.unlink()
    return path.read_text().encode()
