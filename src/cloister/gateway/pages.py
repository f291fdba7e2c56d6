"""The few pages that the gateway shows itself. Every value in them is escaped; nothing in them is a template."""

from html import escape
from pathlib import Path
from urllib.parse import quote

from cloister.core.paths import own_path

FOLDER = Path(__file__).parent / "static"
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'"
TYPES = {".js": "text/javascript", ".css": "text/css"}


def page(title: str, body: str, *, script: str | None = None, styles: str = "/_cloister/pages.css", **data: str) -> str:
    """A whole page. ``body`` is HTML of ours; ``data`` becomes attributes that the script reads."""
    attributes = "".join(f' data-{name}="{escape(value)}"' for name, value in data.items())
    tag = f'<script src="{script}" defer></script>' if script else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="stylesheet" href="{styles}">{tag}</head>'
        f"<body{attributes}><main>{body}</main></body></html>"
    )


def waking(space: str, team: str) -> str:
    """While a workspace starts: its real steps, then the address that was asked for."""
    body = (
        '<h1 data-de="Ihr Notebook wird geöffnet">Opening your workspace</h1>'
        f"<p class=sub>Team <b>{escape(team)}</b> in <b>{escape(space)}</b></p>"
        '<ol id="steps" aria-live="polite"><li data-step="asked" data-de="Angefordert">Asked for</li>'
        '<li data-step="sandbox" data-de="Die Sandbox wird vorbereitet">Its sandbox is prepared</li>'
        '<li data-step="app" data-de="Die Anwendung startet">The app starts</li>'
        '<li data-step="ready" data-de="Bereit">Ready</li></ol>'
        '<p id="reason" role="alert"></p><div id="actions" hidden>'
        '<button id="restart" data-de="Noch einmal starten">Start again</button> '
        '<button id="safe" data-de="Im sicheren Modus starten">Start in safe mode</button>'
        '<p class=sub data-de="Der sichere Modus lässt weg, was Ihr Team installiert hat. Ihre Dateien sind, wie sie waren.">'
        "Safe mode leaves out what your team installed. Your files are as they were.</p></div>"
        '<details id="log" hidden><summary data-de="Was es zuletzt sagte">What it said last</summary>'
        '<pre id="output"></pre></details>'
    )
    return page("Opening your workspace", body, script="/_cloister/waking.js")


def refusal(title: str, why: str, home: str, styles: str = "/_cloister/pages.css") -> str:
    """Somebody may not go on, and why."""
    body = f'<h1>{escape(title)}</h1><p>{escape(why)}</p><p><a href="{escape(home)}">To the front page</a></p>'
    return page(title, body, styles=styles)


def sign_in(providers: list[tuple[str, str]], to: str, *, demo: bool) -> str:
    """The ways to sign in. ``to`` is a path of the same origin; anything else becomes ``/``."""
    safe = own_path(to)
    ways = "".join(
        f'<p><a href="{escape(start)}?return_to={quote(safe, safe="")}">{escape(title)}</a></p>'
        for title, start in providers
    )
    if demo:
        ways += (
            '<form id="demo"><label for="email">E-mail address (the demo asks for no password)</label>'
            '<input id="email" type="email" required autocomplete="email" autofocus><button>Sign in</button></form>'
            '<p id="reason" role="alert"></p>'
        )
    return page(
        "Sign in", f"<h1>Sign in</h1>{ways}", script="/api/v1/sign-in/signin.js",
        styles="/api/v1/sign-in/pages.css", to=safe,
    )  # fmt: skip


def entry(public_url: str, host: str, path: str) -> str:
    """Where a browser without a session at a workspace's origin is sent."""
    return f"{public_url.rstrip('/')}/api/v1/workspaces/enter?host={quote(host, safe='')}&to={quote(path, safe='')}"


def asset(name: str) -> tuple[bytes, str] | None:
    """A script or style sheet of these pages, with its type."""
    path = FOLDER / name
    if path.suffix not in TYPES or path.parent != FOLDER or not path.is_file():
        return None
    return path.read_bytes(), TYPES[path.suffix]
