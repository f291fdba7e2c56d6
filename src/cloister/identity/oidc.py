"""Sign-in by OpenID Connect: authorisation code with PKCE, discovery, state, nonce, key rotation.

Sources: OpenID Connect Core 1.0 (3.1), Discovery 1.0, RFC 7636 (PKCE), RFC 9207 (issuer in the answer).
"""

import asyncio
import base64
import hashlib
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus, urlencode

import httpx2
from cryptography.exceptions import InvalidTag
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import JWKRegistry, KeySet
from joserfc.jwt import JWTClaimsRegistry

from cloister.core.errors import Forbidden, NotFound, Unavailable
from cloister.core.paths import own_path
from cloister.identity.people import Claims
from cloister.platform import OidcProvider, SecretBox
from cloister.platform.logs import logger

log = logger(__name__)
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA"]
REFETCH_SECONDS = 10.0
KEYS_AGE = 3600.0
"""Seconds after which a provider's keys are fetched again even though none is missing."""
STATE_SECONDS = 600
ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")
_PURPOSE = "oidc sign-in state"


class ProviderNotFound(NotFound):
    """There is no such way to sign in here."""

    code = "oidc.provider_not_found"


class ProviderUnavailable(Unavailable):
    """The sign-in provider does not answer as it should. Try again in a moment."""

    code = "oidc.provider_unavailable"


class SignInRefused(Forbidden):
    """The sign-in could not be completed. Start it again from the beginning."""

    code = "oidc.refused"


@dataclass(frozen=True)
class SignedIn:
    """The outcome of a sign-in: who, with which groups, and where they wanted to go."""

    claims: Claims
    groups: tuple[str, ...]
    return_to: str


@dataclass
class _Known:
    """What discovery told of a provider, and its keys."""

    metadata: dict[str, Any]
    keys: KeySet
    fetched: float
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class OidcSignIn:
    """The relying party, for all configured providers."""

    def __init__(
        self,
        providers: list[OidcProvider],
        box: SecretBox,
        redirect_base: str,
        *,
        refetch_seconds: float = REFETCH_SECONDS,
    ) -> None:
        self._providers = {provider.name: provider for provider in providers}
        self._known: dict[str, _Known] = {}
        self._box = box
        self._base = redirect_base.rstrip("/")
        self._refetch_seconds = refetch_seconds

    @property
    def providers(self) -> list[OidcProvider]:
        return list(self._providers.values())

    def provider(self, name: str) -> OidcProvider:
        """Return a provider.

        Raises:
            ProviderNotFound: when none has the name.
        """
        try:
            return self._providers[name]
        except KeyError:
            raise ProviderNotFound from None

    def redirect_uri(self, name: str) -> str:
        return f"{self._base}/api/v1/auth/oidc/{name}/callback"

    async def start(self, name: str, return_to: str) -> tuple[str, str]:
        """Begin a sign-in: return where to send the browser, and the sealed state for its cookie."""
        provider = self.provider(name)
        known = await self._discover(provider)
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": provider.client_id,
            "redirect_uri": self.redirect_uri(name),
            "scope": provider.scopes,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        kept = {
            "provider": name,
            "state": state,
            "nonce": nonce,
            "verifier": verifier,
            "return_to": own_path(return_to),
            "expires": time.time() + STATE_SECONDS,
        }
        endpoint = known.metadata["authorization_endpoint"]
        separator = "&" if "?" in endpoint else "?"
        return f"{endpoint}{separator}{urlencode(query)}", self._box.encrypt(json.dumps(kept).encode(), _PURPOSE)

    async def finish(self, name: str, kept: str | None, answer: dict[str, str]) -> SignedIn:
        """Complete a sign-in from what the provider sent back through the browser.

        Raises:
            SignInRefused: when state, nonce, issuer, code or token are not what they must be.
            ProviderUnavailable: when the provider does not answer.
        """
        provider = self.provider(name)
        state = self._open_state(name, kept, answer)
        if "error" in answer:
            raise SignInRefused(f"{provider.title} answered: {answer.get('error_description') or answer['error']}.")
        known = await self._discover(provider)
        if answer.get("iss", provider.issuer) != known.metadata["issuer"]:
            raise SignInRefused
        body = {
            "grant_type": "authorization_code",
            "code": answer.get("code", ""),
            "redirect_uri": self.redirect_uri(name),
            "client_id": provider.client_id,
            "code_verifier": state["verifier"],
        }
        secret = provider.client_secret.get_secret_value() if provider.client_secret else None
        # RFC 6749, 2.3.1: both are form-encoded before they go into the header.
        auth = (
            httpx2.BasicAuth(quote_plus(provider.client_id), quote_plus(secret))
            if secret
            else httpx2.USE_CLIENT_DEFAULT
        )
        try:
            async with httpx2.AsyncClient(timeout=10) as http:
                response = await http.post(known.metadata["token_endpoint"], data=body, auth=auth)
                token = response.json() if response.status_code == 200 else None
        except (httpx2.HTTPError, ValueError) as error:
            raise ProviderUnavailable from error
        if not isinstance(token, dict) or not isinstance(token.get("id_token"), str):
            log.info("oidc.code_refused", provider=name, status=response.status_code)
            raise SignInRefused
        claims = await self._verify(provider, token["id_token"], state["nonce"])
        claims = await self._completed(provider, known, claims, token.get("access_token"))
        return self._signed_in(provider, claims, state["return_to"])

    @staticmethod
    async def _completed(
        provider: OidcProvider, known: _Known, claims: dict[str, Any], access_token: object
    ) -> dict[str, Any]:
        """With what only the UserInfo endpoint tells (OpenID Connect Core 5.3, 5.4: the default of the code flow).

        Raises:
            SignInRefused: when it answers about somebody else.
        """
        endpoint = known.metadata.get("userinfo_endpoint")
        complete = "email" in claims and "name" in claims and provider.groups_claim in claims
        if complete or not isinstance(endpoint, str) or not isinstance(access_token, str):
            return claims
        told = await _get_json(endpoint, access_token)
        if told.get("sub") != claims["sub"]:
            raise SignInRefused
        return {**told, **claims}

    def _open_state(self, name: str, kept: str | None, answer: dict[str, str]) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads(self._box.decrypt(kept or "", _PURPOSE))
        except (InvalidTag, ValueError) as error:
            raise SignInRefused from error
        if (
            state["provider"] != name
            or state["expires"] < time.time()
            or not secrets.compare_digest(state["state"].encode(), answer.get("state", "").encode())
        ):
            raise SignInRefused
        return state

    async def _verify(self, provider: OidcProvider, id_token: str, nonce: str) -> dict[str, Any]:
        known = await self._discover(provider)
        try:
            try:
                decoded = jwt.decode(id_token, known.keys, algorithms=ALGORITHMS)
            except InvalidKeyIdError:
                await self._refetch_keys(provider, known)
                decoded = jwt.decode(id_token, known.keys, algorithms=ALGORITHMS)
            JWTClaimsRegistry(
                leeway=30,
                iss={"essential": True, "value": known.metadata["issuer"]},
                aud={"essential": True, "value": provider.client_id},
                exp={"essential": True},
                iat={"essential": True},
                sub={"essential": True},
                nonce={"essential": True, "value": nonce},
            ).validate(decoded.claims)
        except (JoseError, ValueError) as error:
            log.warning("oidc.token_refused", provider=provider.name, error=str(error))
            raise SignInRefused from error
        claims: dict[str, Any] = decoded.claims
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", None if several else provider.client_id) != provider.client_id:
            raise SignInRefused
        return claims

    @staticmethod
    def _signed_in(provider: OidcProvider, claims: dict[str, Any], return_to: str) -> SignedIn:
        email = claims.get("email")
        verified = claims.get("email_verified") is True
        groups = claims.get(provider.groups_claim)
        return SignedIn(
            Claims(
                issuer=str(claims["iss"]),
                subject=str(claims["sub"]),
                name=str(claims.get("name") or claims.get("preferred_username") or ""),
                email=email if isinstance(email, str) else None,
                email_trusted=provider.trusted_email and verified,
            ),
            tuple(str(group) for group in groups) if isinstance(groups, list) else (),
            return_to,
        )

    async def _discover(self, provider: OidcProvider) -> _Known:
        known = self._known.get(provider.name)
        if known is None:
            url = provider.issuer.rstrip("/") + "/.well-known/openid-configuration"
            metadata = await _get_json(url)
            if metadata.get("issuer") != provider.issuer:
                message = f"{provider.title} says it is “{metadata.get('issuer')}”, not the configured issuer."
                raise ProviderUnavailable(message)
            lacking = [name for name in ENDPOINTS if not isinstance(metadata.get(name), str)]
            if lacking:
                raise ProviderUnavailable(f"{provider.title} does not say its {lacking[0]}.")
            keys = await _get_keys(metadata["jwks_uri"])
            known = self._known.setdefault(provider.name, _Known(metadata, keys, time.monotonic()))
        elif time.monotonic() - known.fetched > KEYS_AGE:  # a key that the provider dropped is not trusted for ever
            await self._refetch_keys(provider, known)
        return known

    async def _refetch_keys(self, provider: OidcProvider, known: _Known) -> None:
        """Fetch the keys anew because a token names one that is unknown; not more often than every few seconds."""
        async with known.lock:
            if time.monotonic() - known.fetched < self._refetch_seconds:
                return
            known.keys = await _get_keys(known.metadata["jwks_uri"])
            known.fetched = time.monotonic()
            log.info("oidc.keys_refetched", provider=provider.name)


async def _get_keys(url: str) -> KeySet:
    """A provider's keys. One that we cannot use (of a curve that we do not know, say) is left out: others may sign."""
    found = (await _get_json(url)).get("keys")
    keys = []
    for key in found if isinstance(found, list) else []:
        try:
            keys.append(JWKRegistry.import_key(key))
        except (JoseError, KeyError, ValueError, TypeError) as error:
            log.info("oidc.key_left_out", url=url, error=str(error))
    return KeySet(keys)


async def _get_json(url: str, token: str | None = None) -> dict[str, Any]:
    try:
        async with httpx2.AsyncClient(timeout=10) as http:
            response = await http.get(url, headers={"Authorization": f"Bearer {token}"} if token else None)
            response.raise_for_status()
            data = response.json()
    except (httpx2.HTTPError, ValueError) as error:
        raise ProviderUnavailable from error
    if not isinstance(data, dict):
        raise ProviderUnavailable
    return data
