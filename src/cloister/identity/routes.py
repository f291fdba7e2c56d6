"""Signing in and out, and what people may see and make of their own."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import RedirectResponse

from cloister.audit import Draft, Name, Outcome, Recorder
from cloister.core.actions import Action, guard
from cloister.core.errors import Forbidden, NotFound
from cloister.identity.confirmation import Confirmations
from cloister.identity.emails import canonical_email
from cloister.identity.oidc import OidcSignIn, SignInRefused
from cloister.identity.people import Claims, get_person, sign_in_person
from cloister.identity.ports import OnSignIn
from cloister.identity.schemas import (
    ConfirmationIn,
    DemoSignIn,
    LanguageIn,
    LinkSent,
    NewToken,
    PersonOut,
    ProviderOut,
    SessionList,
    SessionOut,
    SignedOut,
    SignInOptions,
    TokenIn,
    TokenList,
    TokenOut,
)
from cloister.identity.sessions import Sessions
from cloister.identity.tokens import Tokens
from cloister.platform import Call, OidcProvider, Settings, UnitOfWork
from cloister.platform.call import current_call
from cloister.platform.ratelimit import RateLimit

CallDep = Annotated[Call, Depends(current_call)]
STATE_COOKIE = "cloister-sign-in"
LINKS_PER_MINUTE = 3
OnConfirmed = Callable[[UnitOfWork, int], Awaitable[None]]


class TokenTooNarrow(Forbidden):
    """A token makes no tokens: it could give itself more than it was given. Sign in to make one."""

    code = "token.not_by_token"


class DemoOnly(NotFound):
    """There is no such way to sign in here."""

    code = "identity.not_demo"


def add_routes(
    api: APIRouter, settings: Settings, sessions: Sessions, tokens: Tokens, oidc: OidcSignIn, on_sign_in: OnSignIn,
    confirmations: Confirmations, on_confirmed: OnConfirmed, recorder: Recorder,
) -> None:  # fmt: skip
    limit = RateLimit(settings.sign_ins_per_minute)

    async def begin(
        call: Call,
        request: Request,
        response: Response,
        claims: Claims,
        provider: OidcProvider | None = None,
        groups: tuple[str, ...] = (),
    ) -> PersonOut:
        uow = call.uow
        person = await sign_in_person(uow, claims, sessions.clock)
        await on_sign_in(uow, person, claims, provider, groups)
        await sessions.end(uow, call.principal)  # a new sign-in is a new session
        secret = await sessions.begin(
            uow, person, claims.issuer, address=call.address, user_agent=request.headers.get("user-agent")
        )
        response.set_cookie(
            sessions.cookie_name(),
            secret,
            max_age=settings.session_absolute_seconds,
            path="/",
            secure=settings.cookie_secure,
            httponly=True,
            samesite="lax",
        )
        return PersonOut.of(person)

    @api.get("/auth", openapi_extra=guard(Action.PUBLIC_READ))
    async def sign_in_options() -> SignInOptions:
        """All ways to sign in here."""
        return SignInOptions(
            providers=[
                ProviderOut(name=p.name, title=p.title, start=f"/api/v1/auth/oidc/{p.name}/start")
                for p in oidc.providers
            ],
            demo=settings.mode == "demo",
        )

    @api.post("/auth/demo", openapi_extra=guard(Action.SIGN_IN))
    async def demo_sign_in(body: DemoSignIn, call: CallDep, request: Request, response: Response) -> PersonOut:
        """Be whoever you say you are. Exists in demo mode only."""
        if settings.mode != "demo":
            raise DemoOnly
        limit.take(call.address or "")
        subject = canonical_email(body.email)
        claims = Claims(issuer="demo", subject=subject, name=body.name, email=body.email, email_trusted=True)
        return await begin(call, request, response, claims)

    @api.get("/auth/oidc/{provider}/start", openapi_extra=guard(Action.SIGN_IN), response_class=RedirectResponse)
    async def start_sign_in(provider: str, call: CallDep, return_to: str = "/") -> RedirectResponse:
        """Send the browser to a provider."""
        limit.take(call.address or "")
        location, state = await oidc.start(provider, return_to)
        answer = RedirectResponse(location, status_code=302)
        answer.set_cookie(
            STATE_COOKIE,
            state,
            max_age=600,
            path="/api/v1/auth/oidc",
            secure=settings.cookie_secure,
            httponly=True,
            samesite="lax",
        )
        return answer

    @api.get(
        "/auth/oidc/{provider}/callback",
        openapi_extra=guard(Action.SIGN_IN, writes=True),
        response_class=RedirectResponse,
    )
    async def finish_sign_in(provider: str, call: CallDep, request: Request) -> RedirectResponse:
        """Where the provider sends the browser back to."""
        limit.take(call.address or "")
        try:
            done = await oidc.finish(provider, request.cookies.get(STATE_COOKIE), dict(request.query_params))
        except SignInRefused as error:
            details = {"code": error.code, "why": error.detail}
            recorder.note(Draft(Name.SIGN_IN_REFUSED, Outcome.REFUSED, request_id=call.request_id, details=details))
            raise
        answer = RedirectResponse(done.return_to, status_code=302)
        await begin(call, request, answer, done.claims, oidc.provider(provider), done.groups)
        answer.delete_cookie(STATE_COOKIE, path="/api/v1/auth/oidc")
        return answer

    @api.post("/auth/sign-out", openapi_extra=guard(Action.SELF_WRITE), status_code=204)
    async def sign_out(call: CallDep, response: Response) -> None:
        """Sign this browser out."""
        await sessions.end(call.uow, call.principal)
        response.delete_cookie(sessions.cookie_name(), path="/", secure=settings.cookie_secure, httponly=True)

    @api.post("/auth/sign-out-everywhere", openapi_extra=guard(Action.SELF_WRITE))
    async def sign_out_everywhere(call: CallDep) -> SignedOut:
        """Sign all your browsers out, this one included."""
        return SignedOut(sessions=await sessions.end_all(call.uow, call.person))

    @api.get("/me", openapi_extra=guard(Action.SELF_READ))
    async def me(call: CallDep) -> PersonOut:
        """Who you are here."""
        return PersonOut.of(await get_person(call.uow, call.person))

    @api.put("/me/language", openapi_extra=guard(Action.SELF_WRITE))
    async def set_language(body: LanguageIn, call: CallDep) -> PersonOut:
        """Say in which language letters to you are to be written."""
        person = await get_person(call.uow, call.person)
        person.language = body.language
        call.uow.unrecorded("the language of somebody's letters")
        return PersonOut.of(person)

    links = RateLimit(LINKS_PER_MINUTE)

    @api.post("/me/email/link", openapi_extra=guard(Action.SELF_WRITE), status_code=202)
    async def send_link(call: CallDep) -> LinkSent:
        """Send a link to your address, to confirm that it is yours."""
        links.take(str(call.person))
        return LinkSent(to=await confirmations.send(call.uow, call.person))

    @api.post("/me/email/confirmation", openapi_extra=guard(Action.SELF_WRITE))
    async def confirm_address(body: ConfirmationIn, call: CallDep) -> PersonOut:
        """Confirm your address with what the link held. Whatever waited for that goes on."""
        person = await confirmations.confirm(call.uow, call.person, body.token)
        await on_confirmed(call.uow, person.number)
        return PersonOut.of(person)

    @api.get("/me/sessions", openapi_extra=guard(Action.SELF_READ))
    async def my_sessions(call: CallDep) -> SessionList:
        """The browsers in which you are signed in."""
        rows = await sessions.mine(call.uow, call.person)
        return SessionList(
            items=[
                SessionOut(
                    id=row.id, current=row.id == call.principal.session, began_at=row.created_at, seen_at=row.seen_at,
                    address=row.address, browser=row.user_agent,
                )
                for row in rows
            ]
        )  # fmt: skip

    @api.delete("/me/sessions/{session}", openapi_extra=guard(Action.SELF_WRITE), status_code=204)
    async def end_session(session: Annotated[str, Path(max_length=60)], call: CallDep) -> None:
        """Sign out in one of your browsers. What it has open ends within a second."""
        await sessions.end_one(call.uow, call.person, session)

    @api.get("/me/tokens", openapi_extra=guard(Action.SELF_READ))
    async def my_tokens(call: CallDep) -> TokenList:
        """Your API tokens, without their texts."""
        return TokenList(items=[TokenOut.of(token) for token in await tokens.mine(call.uow, call.person)])

    @api.post("/me/tokens", openapi_extra=guard(Action.SELF_WRITE), status_code=201)
    async def create_token(body: TokenIn, call: CallDep) -> NewToken:
        """Make an API token. Its text is in this answer and nowhere else."""
        if call.principal.token_scopes is not None:
            raise TokenTooNarrow
        token, secret = await tokens.create(call.uow, call.person, body.name, body.scopes, timedelta(days=body.days))
        return NewToken(**TokenOut.of(token).model_dump(), token=secret)

    @api.delete("/me/tokens/{token}", openapi_extra=guard(Action.SELF_WRITE), status_code=204)
    async def revoke_token(token: str, call: CallDep) -> None:
        """Make one of your tokens useless at once."""
        await tokens.revoke(call.uow, call.person, token)
