"""Commands about workspaces."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import httpx2
import typer

from cloister.cli.client import checked, connect
from cloister.cli.output import Failure, table

app = typer.Typer(no_args_is_help=True, help="Workspaces: each team's notebook or other app.")
SpaceOption = Annotated[str, typer.Option("--space", "-s", help="The space's slug.")]


class Stopped(Failure):
    """Somebody wanted it to rest meanwhile."""


Teams = Annotated[list[str] | None, typer.Argument(help="Teams, by number. None: all of the space.")]
Environment = Annotated[str | None, typer.Option("--environment", "-e", help="Only those in this environment.")]
Everybody = Annotated[bool, typer.Option("--all", help="Every workspace of the space.")]
State = Annotated[str | None, typer.Option("--state", help="Only those in this state.")]
RUNS = {"running", "starting"}
Safe = Annotated[bool, typer.Option("--safe", help="Without what the team installed.")]


def _all(http: httpx2.Client, space: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    more: dict[str, str] = {}
    while True:
        page = checked(http.get(f"/spaces/{space}/workspaces", params={"limit": 500, **more}))
        items += page["items"]
        if page["next_cursor"] is None:
            return items
        more = {"cursor": page["next_cursor"]}


def _chosen(
    http: httpx2.Client, space: str, teams: list[str] | None, environment: str | None, state: str | None
) -> list[dict[str, Any]]:
    found = [
        w for w in _all(http, space)
        if (not teams or w["team"] in teams) and environment in {None, w["environment"]} and state in {None, w["state"]}
    ]  # fmt: skip
    missing = set(teams or []) - {w["team"] for w in found}
    if missing:
        raise Failure(f"No workspace of {', '.join(sorted(missing))} fits.")
    return found


def _path(space: str, team: str) -> str:
    return f"/spaces/{space}/teams/{team}/workspace"


@app.command("ls")
def list_workspaces(space: SpaceOption, environment: Environment = None, state: State = None) -> None:
    """List the workspaces of a space."""
    with connect() as http:
        rows = [
            (w["team"], w["state"], w["environment"], w["size"], w["url"], _why(w) or "")
            for w in _chosen(http, space, None, environment, state)
        ]
    typer.echo(table(rows, ("team", "state", "environment", "size", "address", "why")))


def _check_chosen(teams: list[str] | None, environment: str | None, state: str | None, everybody: bool) -> None:
    """Ask for a word before something is done to a whole space."""
    if not teams and environment is None and state is None and not everybody:
        raise Failure("Say which: teams, --environment, --state, or --all for every workspace of the space.")


@app.command()
def start(
    space: SpaceOption, teams: Teams = None, environment: Environment = None, state: State = None,
    everybody: Everybody = False, safe: Safe = False,
) -> None:  # fmt: skip
    """Start workspaces, and wait until they serve. A team that is named may start its first."""
    _check_chosen(teams, environment, state, everybody)
    with connect() as http:
        named = teams if teams and environment is None and state is None else None
        for team in named or [w["team"] for w in _chosen(http, space, teams, environment, state)]:
            checked(http.post(f"{_path(space, team)}/start", json={"safe": safe}))
            _attend(http, space, team, "running")


@app.command()
def stop(
    space: SpaceOption, teams: Teams = None, environment: Environment = None, state: State = None,
    everybody: Everybody = False,
) -> None:  # fmt: skip
    """Stop workspaces. Their files stay."""
    _check_chosen(teams, environment, state, everybody)
    with connect() as http:
        for w in _chosen(http, space, teams, environment, state):
            if w["state"] != "stopped":
                checked(http.post(f"{_path(space, w['team'])}/stop"))
                _attend(http, space, w["team"], "stopped")


@app.command()
def restart(
    space: SpaceOption, teams: Teams = None, environment: Environment = None, state: State = None,
    everybody: Everybody = False, safe: Safe = False,
) -> None:  # fmt: skip
    """Restart workspaces that run, one after the other."""
    _check_chosen(teams, environment, state, everybody)
    with connect() as http:
        for w in _chosen(http, space, teams, environment, state):
            if w["state"] in {"running", "failed", "starting"}:
                checked(http.post(f"{_path(space, w['team'])}/restart", json={"safe": safe}))
                _attend(http, space, w["team"], "running")


@app.command("open")
def open_workspace(
    space: SpaceOption, teams: Teams = None, environment: Environment = None, state: State = None,
    everybody: Everybody = False,
) -> None:  # fmt: skip
    """Print the addresses of workspaces."""
    _check_chosen(teams, environment, state, everybody)
    with connect() as http:
        for w in _chosen(http, space, teams, environment, state):
            typer.echo(w["url"])


@app.command()
def keep(
    space: SpaceOption, teams: Teams = None, environment: Environment = None, state: State = None,
    everybody: Everybody = False,
    hours: Annotated[float, typer.Option(min=0, help="For so long from now. 0: no longer.")] = 8,
) -> None:  # fmt: skip
    """Keep workspaces running for some hours, although nobody uses them."""
    _check_chosen(teams, environment, state, everybody)
    until = datetime.now(UTC) + timedelta(hours=hours)
    with connect() as http:
        for w in _chosen(http, space, teams, environment, state):
            checked(http.patch(_path(space, w["team"]), json={"keep_until": until.isoformat()}))
            typer.echo(f"{w['team']}: kept until {until:%Y-%m-%d %H:%M} UTC")


@app.command()
def explain(
    space: SpaceOption, teams: Teams = None, environment: Environment = None, state: State = None,
    everybody: Everybody = False,
) -> None:  # fmt: skip
    """Say what workspaces are, and why they run or do not."""
    _check_chosen(teams, environment, state, everybody)
    with connect() as http:
        for number, w in enumerate(_chosen(http, space, teams, environment, state)):
            typer.echo(("\n" if number else "") + _explained(w))


def _explained(w: dict[str, Any]) -> str:
    why = _why(w)
    rows = [
        ("team", w["team"]), ("state", w["state"] + (f": {why}" if why else "")), ("wanted", w["wanted"]), ("address", w["url"]),
        ("environment", w["environment"] + (" (safe mode)" if w["safe"] else "")), ("size", w["size"]),
        ("sandbox", w["sandbox"]), ("volume", w["volume"]), ("asked for", f"{w['asked_at']} by {w['asked_by']}"),
        ("ready since", w["ready_at"]), ("last used", w["active_at"]), ("kept until", w["keep_until"]),
    ]  # fmt: skip
    return table(rows, ("", ""))


def _why(w: dict[str, Any]) -> str | None:
    """Why it runs, or does not."""
    why: str | None = w["busy"] if w["state"] == "running" else w["reason"]
    return why


def _works(w: dict[str, Any]) -> bool:
    """Whether something runs in it that a restart would end."""
    return w["state"] == "running" and bool(w["works"])


def _percent(text: object) -> float:
    try:
        value = float(str(text).strip().removesuffix("%"))
    except ValueError:
        value = -1
    if not 0 <= value <= 100:
        message = f"{text} is no percentage; an example is 5%"
        raise typer.BadParameter(message)
    return value


@app.command()
def upgrade(
    space: SpaceOption,
    environment: Annotated[
        str, typer.Option("--environment", "-e", help="The environment to move to, with its version if it has one.")
    ],
    canary: Annotated[float, typer.Option(parser=_percent, metavar="PERCENT", help="How many go first: 5%.")] = 5,
    then: Annotated[
        float, typer.Option(parser=_percent, metavar="PERCENT", help="Where to stop; the same command again goes on.")
    ] = 100,
    soak: Annotated[float, typer.Option(min=0, help="So many seconds the first are watched before the rest.")] = 10,
    busy: Annotated[bool, typer.Option("--busy", help="Also restart those in which something runs just now.")] = False,
) -> None:
    """Move all workspaces of a space to an environment: a few first, then the rest; all back if one does not serve.

    Those in which code runs just now are left as they are, unless you say --busy: the same command again, later, moves them.

    Those that sleep get it when they wake. Ctrl+C pauses between two workspaces: the same command again goes on, and
    naming the environment that they came from goes back.
    """
    with connect() as http, _pausing() as paused:
        every = _all(http, space)
        others = [w for w in every if w["environment"] != environment]
        rows = [w for w in others if busy or not _works(w)]
        if len(rows) < len(others):
            typer.echo(f"{len(others) - len(rows)} are at work and left for later (or say --busy)")
        running = [w for w in rows if w["state"] in RUNS]
        first = max(1, round(len(running or rows) * canary / 100)) if rows else 0
        most = max(0, round(len(every) * then / 100) - (len(every) - len(others)))
        typer.echo(f"{len(rows)} workspaces to move, {len(running)} of them running; {first} go first")
        done: list[dict[str, Any]] = []
        try:
            for w in [*running, *(w for w in rows if w["state"] not in RUNS)][:most]:
                if paused.is_set():
                    typer.echo(f"paused: {len(done)} of {len(rows)} moved; the same command again goes on")
                    raise typer.Exit(130)
                if not busy and _works(checked(http.get(_path(space, w["team"])))):
                    typer.echo(f"{w['team']} is at work by now and left for later")
                    continue
                done.append(w)
                _move(http, space, w, environment, try_it=not running and len(done) <= first)
                typer.echo(f"[{len(done)}/{len(rows)}] {w['team']}")
                if len(done) == first < len(rows):
                    _soak(http, space, done, soak)
                    typer.echo(f"the first {first} serve; going on with the rest")
                    _let_sleep(http, space, [w for w in done if w["state"] not in RUNS])
            if len(done) <= first:
                _let_sleep(http, space, [w for w in done if w["state"] not in RUNS])
        except Failure as error:
            stuck = _back(http, space, done)
            back = f"All {len(done)} that had moved were moved back."
            if stuck:
                back = f"Of {len(done)} that had moved, {len(stuck)} could not be moved back: {'; '.join(stuck)}"
            raise Failure(f"{error} {back}") from error
    left = len(rows) - len(done)
    typer.echo(f"{len(done)} moved to {environment}" + (f"; {left} left, the same command goes on" if left else ""))


@contextlib.contextmanager
def _pausing() -> Iterator[threading.Event]:
    """Take Ctrl+C as a wish to pause: nothing is left half done."""
    paused = threading.Event()

    def pause(*_: object) -> None:
        paused.set()
        typer.echo("pausing after this one ...")

    before = signal.signal(signal.SIGINT, pause)
    try:
        yield paused
    finally:
        signal.signal(signal.SIGINT, before)


def _move(http: httpx2.Client, space: str, workspace: dict[str, Any], environment: str, *, try_it: bool) -> None:
    """Move one workspace, and wait until it serves again when it did before, or when it is to be tried."""
    path = _path(space, workspace["team"])
    checked(http.patch(path, json={"environment": environment}))
    if workspace["state"] in RUNS or try_it:
        checked(http.post(f"{path}/restart", json={}))
        try:
            _attend(http, space, workspace["team"], "running")
        except Stopped as word:  # by its people, or since it was idle: it has the new one when it wakes
            typer.echo(str(word))


def _let_sleep(http: httpx2.Client, space: str, tried: list[dict[str, Any]]) -> None:
    """Let those sleep again that were started only to see whether they serve."""
    for w in tried:
        checked(http.post(f"{_path(space, w['team'])}/stop"))


def _soak(http: httpx2.Client, space: str, moved: list[dict[str, Any]], seconds: float) -> None:
    """Look for a while whether those that were moved go on serving.

    Raises:
        Failure: naming the first that does not.
    """
    teams = {w["team"] for w in moved}
    asked = {w["team"]: w["asked_at"] for w in _all(http, space) if w["team"] in teams and w["wanted"] == "running"}
    if not asked:
        raise Failure("All of the first were stopped meanwhile: nobody knows whether they would serve.")
    until = time.monotonic() + seconds
    typer.echo(f"watching for {seconds:g} s ...")
    while time.monotonic() < until:
        for w in _all(http, space):
            ill = w["state"] == "failed" or (w["state"] != "running" and w["asked_at"] == asked.get(w["team"]))
            if w["team"] in asked and w["wanted"] == "running" and ill:
                raise Failure(f"{w['team']} is {w['state']}: {w['reason'] or 'it did not go on serving'}")
        time.sleep(min(1.0, seconds / 4))  # a bounded look at what may end at any time


def _back(http: httpx2.Client, space: str, done: list[dict[str, Any]]) -> list[str]:
    """Move all back and wait until those serve that did; return what was said of each that could not be."""
    stuck = []
    for w in done:
        path = _path(space, w["team"])
        try:
            checked(http.patch(path, json={"environment": w["environment"]}))
            if w["state"] in RUNS:
                checked(http.post(f"{path}/restart", json={}))
                _attend(http, space, w["team"], "running")
            else:
                checked(http.post(f"{path}/stop"))
        except Failure as error:
            stuck.append(str(error))
    return stuck


def _attend(http: httpx2.Client, space: str, team: str, wanted: str) -> None:
    """Follow a workspace until it is as wanted.

    Raises:
        Failure: when it failed, or when somebody wanted it otherwise meanwhile.
    """
    said = ""
    while True:
        w = checked(http.get(_path(space, team)))
        if w["state"] != said:
            said = w["state"]
            typer.echo(f"{team}: {said}")
        if said == wanted:
            return
        if said == "failed":
            raise Failure(f"{team}: {w['reason']}")
        if wanted == "running" and w["wanted"] == "stopped":
            raise Stopped(f"{team}: it was stopped meanwhile. {w['reason'] or ''}".strip())
        time.sleep(0.1)  # a bounded poll: the server gives up on a start by itself
