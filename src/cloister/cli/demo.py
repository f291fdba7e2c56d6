"""The demo: three spaces on real data, started with nothing but embedded defaults."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import httpx2
import typer

from cloister.blueprint import read
from cloister.bootstrap import Platform
from cloister.cli.observatory import HOST, observatory
from cloister.cli.serving import http_server
from cloister.cli.space import follow
from cloister.cli.story import COURSE, tell
from cloister.cli.story_dashboard import NAMES, make, published
from cloister.core.principal import SYSTEM
from cloister.platform import Settings, logs
from cloister.platform.objects import remove_tree
from cloister.platform.settings import load
from cloister.query import WORKER_PACKAGES
from cloister.spaces import JUPYTERLAB, EgressRule

LEARNER = "ada@demo.example"
SIGN_INS = (
    ("operator@demo.example", "operates the platform"),
    ("owner@demo.example", "owns the three spaces"),
    ("steward@demo.example", "guards their data, approves the study's members"),
    ("anybody@else.example", "whoever you like: registers, signs, takes part"),
)


def demo_settings(state: Path, port: int) -> Settings:
    """Embedded defaults; the environment may override each."""
    return load(
        mode="demo", state_directory=state, listen_port=port, public_url=f"http://localhost:{port}",
        environment_directory=Path(".cache/environments").resolve(), log_format="console", log_level="warning",
        operators=["operator@demo.example"], sign_ins_per_minute=600, registrations_per_minute=600,
        query_memory_megabytes=512, audit_checkpoint_seconds=60.0, gateway="managed",
        egress_allow_networks=[f"{HOST}/32"],
    )  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def run_demo(state: Path, spaces: Path, port: int, *, check: bool) -> list[str]:
    """Start the demo and run it until it is stopped, or play its story; return the steps that failed."""
    for number in (signal.SIGINT, signal.SIGTERM):  # both end it in order, whoever started it in whatever way
        asyncio.get_running_loop().add_signal_handler(number, cast("asyncio.Task[Any]", asyncio.current_task()).cancel)
    if check:
        state = state / "check"
        remove_tree(state)
        port = 0
    settings = demo_settings(state, port or free_port())
    logs.configure(settings)
    platform = Platform(settings)
    async with observatory() as station, _served(platform):
        await _prepare(platform, spaces, station)
        if check:
            return await tell(platform, f"http://127.0.0.1:{settings.listen_port}", station)
        _greet(settings, *await _learner(platform, station))
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
    return []


@contextlib.asynccontextmanager
async def _served(platform: Platform) -> AsyncIterator[None]:
    """The platform with its HTTP server; both end with the block, and all sandboxes too."""
    server = http_server(platform, manage=False)
    async with platform.running(stop_sandboxes=True):
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]  # they are the demo's
        serving = asyncio.create_task(server.serve())
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)  # uvicorn tells of its start by this flag alone
        if platform.settings.gateway == "managed":
            async with asyncio.timeout(20):
                await platform.caddy.ready.wait()
        try:
            yield
        finally:
            server.should_exit = True
            await serving


async def _prepare(platform: Platform, spaces: Path, station: int) -> None:
    """Build what sandboxes need and declare the spaces; quick when it was done before."""
    say = typer.echo
    say("preparing the query worker's packages ...")
    await platform.environments.ensure(WORKER_PACKAGES)
    say("preparing the Jupyter server's packages ...")
    await platform.environments.ensure(JUPYTERLAB)
    for file in sorted(spaces.glob("*/space.yaml")):
        blueprint = read(file)
        if blueprint.slug == COURSE:
            rules = [*blueprint.policies.egress, EgressRule(host=HOST, ports=[station])]
            policies = blueprint.policies.model_copy(update={"egress": rules})
            blueprint = blueprint.model_copy(update={"policies": policies})
        for environment in blueprint.environments:
            await platform.environments.ensure(environment.requirements, lambda step: say(f"  {step} ..."))
        versions = await platform.blueprints.apply(blueprint, file.parent, lambda line: say(f"  {line}"), SYSTEM)
        for version in versions:
            await follow(platform, version)


async def _learner(platform: Platform, station: int) -> tuple[str, str]:
    """Have a learner in the course, as if she had registered; return the addresses of her notebook and of a share."""
    url = f"http://127.0.0.1:{platform.settings.listen_port}/api/v1"
    async with httpx2.AsyncClient(base_url=url, timeout=60) as http:
        await http.post("/auth/demo", json={"email": LEARNER, "name": "Ada"})
        form = (await http.get(f"/spaces/{COURSE}/registration")).json()
        body = {
            "answers": {"country": "PT", "background": "clinician"},
            "signatures": {agreement["name"]: agreement["hash"] for agreement in form["agreements"]},
        }
        await http.post(f"/spaces/{COURSE}/enrolment", json=body)  # refused on a second start: she is in
        state: dict[str, Any] = {}
        async with asyncio.timeout(10):
            while state.get("state") != "active":
                await asyncio.sleep(0.05)  # a bounded poll over HTTP, as any client would
                state = (await http.get(f"/spaces/{COURSE}/enrolment")).json()
        typer.echo("publishing the modules that come with Cloister, and a dashboard of them ...")
        await published(http)
        for old in (await http.get(f"/spaces/{COURSE}/dashboards")).json()["items"]:
            if old["name"] in NAMES.values():  # of an earlier start, when the station had another port
                await http.delete(f"/spaces/{COURSE}/dashboards/{old['id']}")
        await make(http, COURSE, state["team"], station)
        weather = await make(http, COURSE, state["team"], station, trial=False)
        share = (await http.post(f"/spaces/{COURSE}/dashboards/{weather['id']}/shares", json={})).json()
        return platform.hosts.origin(state["person"], COURSE), share["link"]


def _greet(settings: Settings, notebook: str, link: str) -> None:
    typer.echo(f"\nCloister runs at {settings.public_url}  (API: {settings.public_url}/api/v1/openapi.json)\n")
    typer.echo("Open it in a browser and sign in with one of these addresses; the demo asks for no password:")
    for address, what in SIGN_INS:
        typer.echo(f"  {address:24} {what}")
    typer.echo(f"\nOpen a learner's notebook at {notebook}/lab and sign in as {LEARNER}.")
    typer.echo(f"Her share of a live dashboard is at {link} for everybody.")
    typer.echo(f"Every team's is at http://TEAM.SPACE.localhost:{settings.listen_port}/.")
    typer.echo("\nCommands on this machine act as operator:")
    typer.echo(
        f"  export CLOISTER_MODE=demo CLOISTER_STATE_DIRECTORY={settings.state_directory} CLOISTER_GATEWAY=managed"
    )
    typer.echo("  .venv/bin/cloister audit tail\n\nCtrl+C stops everything.")
