"""Modules that are kept in a git repository: fetched over https or from a folder, on demand and by signed webhook."""

import asyncio
import contextlib
import hashlib
import hmac
import os
import ssl
import subprocess

import pytest
import trustme
from aiohttp import web

from tests.live.conftest import live_platform
from tests.support import free_port, until

HOST = "127.0.0.2"
"""This machine by another name than its usual ones, which programs ask without the proxy."""
MAIN = "import cloister, time\ncloister.output(VALUE)\ntime.sleep(600)\n"


class Repository:
    """A real one, with a module in a folder of it."""

    def __init__(self, folder):
        self.bare = folder / "shop" / "look.git"
        self.work = folder / "work"
        self.git("init", "--quiet", "--bare", "--initial-branch", "main", str(self.bare), cwd=folder)
        self.git("clone", "--quiet", str(self.bare), str(self.work), cwd=folder)
        self.git("checkout", "--quiet", "-b", "main")

    def git(self, *arguments, cwd=None):
        who = {
            f"GIT_{role}_{what}": f"{what.lower()}@test.example"
            for role in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        }
        subprocess.run(["git", *arguments], cwd=cwd or self.work, env=os.environ | who, check=True, capture_output=True)

    def push(self, value, tag=None, **files):
        (self.work / "look").mkdir(exist_ok=True)
        (self.work / "look" / "main.py").write_text(MAIN.replace("VALUE", value))
        for name, text in files.items():
            (self.work / "look" / name.replace("_", ".")).write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", value)
        if tag:
            self.git("tag", "--annotate", "--message", tag, tag)
        self.git("push", "--quiet", "--tags", "origin", "main")


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path)


@contextlib.asynccontextmanager
async def git_server(repository, authority):
    """What git itself serves repositories with, behind TLS."""

    async def answer(request):
        environ = {
            "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(repository.bare.parent), "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": request.path, "QUERY_STRING": request.query_string, "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""), "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""), "REMOTE_ADDR": HOST,
            "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
        }  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            "git", "http-backend", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=environ
        )
        said, _ = await process.communicate(await request.read())
        head, _, body = said.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        status = int(headers.pop("Status", "200").split()[0])
        return web.Response(status=status, body=body, headers=headers)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.+}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, HOST, port, ssl_context=context).start()
    try:
        yield port
    finally:
        await runner.cleanup()


async def fetched(client, name="look"):
    async def done():
        source = (await client.get(f"/modules/{name}/source")).json()
        return source if source["state"] not in {"waiting", "fetching"} else None

    return await until(done, 120, 0.05)


async def ready(client, *expected):
    async def all_ready():
        releases = (await client.get("/modules/look")).json()["releases"]
        return [r["version"] for r in releases] == list(expected) and all(r["state"] == "ready" for r in releases)

    await until(all_ready, 60, 0.05)


async def own(studio, name):
    client = await studio.person(name)
    assert (await client.post("/modules", json={"name": "look", "files": {}})).status_code == 201
    return client


async def test_tags_become_releases_and_the_branch_the_draft(tmp_path, repository):
    authority = trustme.CA()
    bundle = tmp_path / "authority.pem"
    bundle.write_bytes(authority.cert_pem.bytes())
    bundle.chmod(0o644)
    repository.push("1", "v1.0.0", config_json='[{"type": "text", "name": "place", "label": "Place", "default": ""}]')
    repository.push("2", "v1.1.0")
    repository.push("3")
    async with git_server(repository, authority) as port:
        options = {
            "egress_allow_networks": ["127.0.0.0/8"],
            "git_hosts": [f"{HOST}:{port}"],
            "build_certificates": bundle,
        }
        async with live_platform(tmp_path, gateway="off", **options) as studio:
            ann = await own(studio, "ann")
            body = {"url": f"https://{HOST}:{port}/look.git", "folder": "look"}
            set_ = await ann.put("/modules/look/source", json=body)
            assert set_.status_code == 200, set_.text
            source = await fetched(ann)
            assert (source["state"], source["reason"]) == ("done", None)
            assert source["secret"] is None, "the webhook's secret is told once"
            await ready(ann, "1.1.0", "1.0.0")
            draft = {f["path"]: f["text"] for f in (await ann.get("/modules/look/files")).json()["items"]}
            assert draft["main.py"] == MAIN.replace("VALUE", "3")
            assert set(draft) == {"main.py", "config.json"}

            repository.push("4", "1.2.0")
            secret, hook = set_.json()["secret"], set_.json()["hook"].partition("/api/v1")[2]
            said = b'{"ref": "refs/tags/1.2.0"}'
            stranger = studio.api.anonymous()
            for key, body in ((b"guess", said), (secret.encode(), b"another body")):
                wrong = hmac.new(key, body, hashlib.sha256).hexdigest()
                refused = await stranger.post(hook, content=said, headers={"X-Hub-Signature-256": f"sha256={wrong}"})
                assert refused.json()["code"] == "module.wrong_signature"
            assert (await stranger.post(hook, content=said)).status_code == 422
            odd = await stranger.post(hook, content=said, headers={"X-Hub-Signature-256": "sha256=é".encode("latin-1")})
            assert odd.json()["code"] == "module.wrong_signature"
            assert (await stranger.post("/modules/nothing/hook", content=said)).json()[
                "code"
            ] == "module.wrong_signature"
            right = hmac.new(secret.encode(), said, hashlib.sha256).hexdigest()
            heard = await stranger.post(hook, content=said, headers={"X-Hub-Signature-256": f"sha256={right}"})
            assert heard.status_code == 202, heard.text
            await ready(ann, "1.2.0", "1.1.0", "1.0.0")
            board = await studio.dashboard(ann, [{"id": "i", "module": "look"}])
            async with studio.look(ann, board) as viewer:
                assert (await viewer.output())["model"] == 4

            missing = await ann.put("/modules/look/source", json={"url": f"https://{HOST}:{port}/none.git"})
            assert missing.status_code == 200
            source = await fetched(ann)
            assert source["state"] == "failed"
            assert "no repository at this address" in source["reason"]


async def test_a_folder_of_this_machine_and_what_is_wrong_in_it(tmp_path, repository):
    repository.push("1", "v1.0.0", module_yaml="kind: nonsense\n")
    repository.push("2", "v2.0.0", module_yaml="title: Good\n")
    async with live_platform(tmp_path, gateway="off", git_directories=[repository.bare.parent]) as studio:
        bob = await own(studio, "bob")
        body = {"url": f"file://{repository.bare}", "folder": "look"}
        assert (await bob.put("/modules/look/source", json=body)).status_code == 200
        source = await fetched(bob)
        assert source["state"] == "failed"
        assert source["reason"].startswith("1.0.0: module.yaml: “kind”"), "which release, and why"
        await ready(bob, "2.0.0")

        (repository.work / "look" / "secret").symlink_to("/etc/shadow")
        repository.push("3")
        assert (await bob.post("/modules/look/source/sync")).status_code == 202
        source = await fetched(bob)
        assert "secret is a link" in source["reason"]
        draft = (await bob.get("/modules/look/files")).json()["items"]
        assert {f["path"] for f in draft} == {"main.py", "module.yaml"}, "nothing has changed"

        for branch, folder, said in (
            ("other", "look", "no branch “other”"),
            ("main", "elsewhere", "no files in “elsewhere”"),
        ):
            await bob.put("/modules/look/source", json={**body, "branch": branch, "folder": folder})
            assert said in (await fetched(bob))["reason"]

        assert (await bob.delete("/modules/look/source")).status_code == 204
        assert (await bob.get("/modules/look/source")).json()["code"] == "module.source_not_found"


async def test_only_what_an_operator_allows_is_fetched(tmp_path, repository):
    repository.push("1")
    (repository.bare.parent / "out").symlink_to("/root")
    options = {"git_hosts": ["git.example"], "git_directories": [repository.bare.parent]}
    async with live_platform(tmp_path, gateway="off", **options) as studio:
        cleo = await own(studio, "cleo")
        for url, said in (
            ("https://other.example/x.git", "It fetches from git.example."),
            ("https://git.example:8443/x.git", "does not fetch"),
            ("http://git.example/x.git", "https://HOST/PATH"),
            ("ssh://git.example/x.git", "https://HOST/PATH"),
            ("https://me:secret@git.example/x.git", "would show them"),
            ("https://git.example:port/x.git", "no address"),
            ("file:///etc", "no such folder"),
            (f"file://{repository.bare.parent}/../work", "no such folder"),
            (f"file://{repository.bare.parent}/out", "no such folder"),
            (f"file://host{repository.bare}", "https://HOST/PATH"),
        ):
            refused = await cleo.put("/modules/look/source", json={"url": url})
            assert refused.status_code == 422, url
            assert said in refused.json()["detail"], url
        upwards = await cleo.put("/modules/look/source", json={"url": f"file://{repository.bare}", "folder": "../x"})
        assert upwards.status_code == 422
        dora = await studio.person("dora")
        for verb, path in (("GET", "source"), ("DELETE", "source"), ("POST", "source/sync")):
            assert (await dora.request(verb, f"/modules/look/{path}")).status_code == 404, (
                "a draft is its author's alone"
            )
