"""TLS at the gateway: certificates for every name, HTTP/2 and 3, cookies that never travel in the clear."""

import asyncio
import contextlib
import json
import os
import ssl
import sys
from pathlib import Path

import httpx2
import pytest
import trustme
from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from playwright.async_api import expect

from tests.support import free_port, until
from tests.workspaces.browser import LONG, chromium_browser
from tests.workspaces.conftest import gateway_platform, lab_blueprint


@contextlib.asynccontextmanager
async def over_tls(folder, mode):
    """A platform behind TLS, and what a client must trust to reach it."""
    port = free_port()
    options = {
        "listen_port": port,
        "public_url": f"https://localhost:{port}",
        "gateway_tls": mode,
        "gateway_ask_port": free_port(),
    }
    folder.mkdir(exist_ok=True)
    root = folder / "s" / "caddy" / "pki" / "authorities" / "local" / "root.crt"
    if mode == "files":
        authority = trustme.CA()
        issued = authority.issue_cert("localhost", "widgets.localhost", "shares.localhost", "*.cup.localhost")
        names = {"gateway_certificate": "site.pem", "gateway_certificate_key": "site.key"}
        options |= {key: folder / name for key, name in names.items()}
        for blob in issued.cert_chain_pems:
            blob.write_to_path(folder / "site.pem", append=True)
        issued.private_key_pem.write_to_path(folder / "site.key")
        root = folder / "ca.pem"
        authority.cert_pem.write_to_path(root)
    async with gateway_platform(folder, lab_blueprint(), **options) as api:

        async def issued_for_all():
            trusted = ssl.create_default_context(cafile=root) if root.exists() else None
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                return trusted and await protocol(trusted, port, "localhost") and trusted
            return None

        trusted = await until(issued_for_all, 30, 0.1)
        api.url, api.options = f"https://localhost:{port}", {"verify": trusted}
        yield api, port, trusted


def authority_of(trusted):
    """The certificates that a context trusts, as text."""
    return "".join(ssl.DER_cert_to_PEM_cert(one) for one in trusted.get_ca_certs(binary_form=True))


async def protocol(trusted, port, name, offered=("h2", "http/1.1")):
    """Shake hands as a browser that asks for a name does; return the protocol that was agreed on."""
    context = ssl.create_default_context()
    context.load_verify_locations(cadata=authority_of(trusted))
    context.set_alpn_protocols(list(offered))
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    agreed = writer.get_extra_info("ssl_object").selected_alpn_protocol()
    writer.close()
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        await writer.wait_closed()
    return agreed


class Http3(QuicConnectionProtocol):
    """A client that asks one thing over QUIC."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self._http = H3Connection(self._quic)
        self._answer = asyncio.get_running_loop().create_future()
        self._headers, self._body = {}, b""

    async def get(self, authority, path, headers):
        names = {":method": "GET", ":scheme": "https", ":authority": authority, ":path": path, **headers}
        stream = self._quic.get_next_available_stream_id()
        self._http.send_headers(stream, [(k.encode(), v.encode()) for k, v in names.items()], end_stream=True)
        self.transmit()
        return await self._answer

    def quic_event_received(self, event):
        for said in self._http.handle_event(event):
            if isinstance(said, HeadersReceived):
                self._headers |= {name.decode(): value.decode() for name, value in said.headers}
            elif isinstance(said, DataReceived):
                self._body += said.data
            if getattr(said, "stream_ended", False) and not self._answer.done():
                self._answer.set_result((self._headers, self._body))


async def over_http3(trusted, port, name, path, **headers):
    """Ask a name something over HTTP/3; return the headers and body of the answer."""
    configuration = QuicConfiguration(alpn_protocols=H3_ALPN, server_name=name)
    configuration.load_verify_locations(cadata=authority_of(trusted).encode())
    async with connect("127.0.0.1", port, configuration=configuration, create_protocol=Http3) as quic:
        return await asyncio.wait_for(quic.get(f"{name}:{port}", path, headers), 20)


async def test_a_workspace_and_the_platform_answer_over_http3_with_the_same_walls(tmp_path):
    async with over_tls(tmp_path, "internal") as (api, port, trusted):
        headers, body = await over_http3(trusted, port, "localhost", "/api/v1/platform")
        assert headers[":status"] == "200"
        assert json.loads(body)["name"] == "Cloister"
        ada = await api.member("ada", "cup")
        team = (await ada.post("/spaces/cup/teams", json={"name": "team-ada"})).json()["number"]
        assert (await ada.post(f"/spaces/cup/teams/{team}/workspace/start")).status_code == 202
        asked = {"name": "t", "scopes": ["workspace.*"], "days": 1}
        token = (await ada.post("/me/tokens", json=asked)).json()["token"]

        async def serves():
            headers, body = await over_http3(
                trusted, port, "team-ada.cup.localhost", "/api/status", authorization=f"Bearer {token}"
            )
            return headers[":status"] == "200" and json.loads(body)

        assert "kernels" in await until(serves, 60, 0.2)
        headers, _ = await over_http3(
            trusted,
            port,
            "team-ada.cup.localhost",
            "/api/status",
            **{"cloister-person": "p-1", "cloister-upstream": "x"},
        )
        assert headers[":status"] == "401", "what is ours counts for nothing when a client says it"


@pytest.mark.parametrize("mode", ["internal", "files"])
async def test_every_name_has_a_certificate_and_nothing_goes_in_the_clear(tmp_path, mode):
    async with over_tls(tmp_path, mode) as (api, port, trusted):
        ada = await api.member("ada", "cup")
        assert (await ada.post("/spaces/cup/teams", json={"name": "team-ada"})).status_code == 201
        for name in ("localhost", "widgets.localhost", "shares.localhost", "team-ada.cup.localhost"):
            assert await protocol(trusted, port, name) == "h2", name
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await protocol(trusted, port, "team-ada.elsewhere.localhost")
        async with httpx2.AsyncClient(verify=trusted) as http:
            answer = await http.get(f"https://localhost:{port}/api/v1/platform")
            assert answer.status_code == 200
            assert answer.headers["strict-transport-security"].startswith("max-age=31536000")
            assert "h3=" in answer.headers["alt-svc"]
            answer = await http.get(f"https://localhost:{port}/api/v1/platform", headers={"Host": "evil.example"})
            assert answer.status_code == 421, "no other name is answered behind a certificate"
        async with httpx2.AsyncClient() as http:
            answer = await http.get(f"http://localhost:{port}/api/v1/platform")
            assert answer.status_code == 400, "plain HTTP is told so, and gets nothing"
        signed_in = await api.anonymous().post("/auth/demo", json={"email": "ada@test.example", "name": "Ada"})
        [cookie] = signed_in.headers.get_list("set-cookie")
        assert cookie.startswith("__Host-")
        assert "; Secure" in cookie
        assert "; HttpOnly" in cookie


async def test_a_browser_opens_a_workspace_over_tls(tmp_path):
    async with over_tls(tmp_path, "internal") as (api, port, _), chromium_browser() as browser:
        ada = await api.member("ada", "cup")
        team = (await ada.post("/spaces/cup/teams", json={"name": "team-ada"})).json()["number"]
        assert (await ada.post(f"/spaces/cup/teams/{team}/workspace/start")).status_code == 202
        context = await browser.new_context(ignore_https_errors=True)  # its own authority is in no browser's store
        page = await context.new_page()
        await context.add_cookies(
            [
                {"name": c.name, "value": c.value, "url": f"https://localhost:{port}", "secure": True, "httpOnly": True}
                for c in ada.cookies.jar
            ]
        )
        await page.goto(f"https://team-ada.cup.localhost:{port}/lab")
        await expect(page.locator("#jp-main-dock-panel")).to_be_visible(timeout=LONG)
        printed = await page.evaluate(
            """async () => {
                const kernel = await (await fetch('/api/kernels', { method: 'POST', body: '{}',
                    headers: { 'X-XSRFToken': document.cookie.match(/_xsrf=([^;]*)/)?.[1] ?? '' } })).json();
                const socket = new WebSocket(`wss://${location.host}/api/kernels/${kernel.id}/channels`);
                await new Promise((open) => (socket.onopen = open));
                const header = { msg_id: 'm', username: '', session: 's', msg_type: 'execute_request', version: '5.3' };
                const content = { code: 'print(6 * 7)', silent: false, store_history: false };
                socket.send(JSON.stringify({ header, parent_header: {}, metadata: {}, content, channel: 'shell' }));
                return await new Promise((done) => (socket.onmessage = (event) => {
                    const said = JSON.parse(event.data);
                    if (said.header.msg_type === 'stream') done(said.content.text);
                }));
            }"""
        )
        assert printed == "42\n"
        names = {cookie["name"]: cookie for cookie in await context.cookies()}
        assert all(cookie["secure"] for name, cookie in names.items() if name != "_xsrf"), names
        await context.close()


@contextlib.asynccontextmanager
async def an_authority(folder):
    """An ACME authority (another Caddy), with a file of hosts in which the names of the test are this machine."""
    folder.mkdir()
    port = free_port()
    names = ("localhost", "widgets.localhost", "shares.localhost", "team-ada.cup.localhost", "nobody.cup.localhost")
    (folder / "hosts").write_text("".join(f"127.0.0.1 {name}\n" for name in names))
    (folder / "Caddyfile").write_text(f"""{{
        admin off
        storage file_system {folder}/data
        skip_install_trust
        auto_https disable_redirects
        http_port {free_port()}
    }}
    https://localhost:{port} {{
        bind 127.0.0.1
        tls internal
        acme_server {{
            allow {{
                domains *.localhost *.cup.localhost localhost
            }}
        }}
    }}
    """)
    command = f"mount --bind {folder}/hosts /etc/hosts && exec {Path(sys.executable).with_name('caddy')} run --config {folder}/Caddyfile"
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            "unshare", "--mount", "sh", "-c", command, stdout=log, stderr=log, env={**os.environ, "HOME": str(folder)}
        )
    root = folder / "data" / "pki" / "authorities" / "local" / "root.crt"
    try:
        yield f"https://localhost:{port}/acme/local/directory", root, folder / "log"
    finally:
        process.terminate()
        await process.wait()


async def test_every_workspace_gets_a_certificate_of_its_own_from_an_acme_authority_when_it_is_visited(tmp_path):
    async with an_authority(tmp_path / "ca") as (directory, root, log):
        await until(lambda: asyncio.to_thread(root.exists), 20, 0.05)
        port = 443  # where an authority looks whether the name is ours
        options = {
            "listen_port": port, "public_url": "https://localhost", "gateway_tls": "acme", "gateway_acme_root": root,
            "gateway_acme_directory": directory, "gateway_ask_port": free_port(),
        }  # fmt: skip
        async with gateway_platform(tmp_path, lab_blueprint(), **options) as api:
            trusted = ssl.create_default_context(cafile=root)
            api.url, api.options = "https://localhost", {"verify": trusted}

            async def issued():
                with contextlib.suppress(ssl.SSLError, ConnectionError):
                    return await protocol(trusted, port, "localhost")
                return None

            assert await until(issued, 60, 0.2) == "h2", log.read_text()[-2000:]
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await protocol(trusted, port, "team-ada.cup.localhost")
            ada = await api.member("ada", "cup")
            assert (await ada.post("/spaces/cup/teams", json={"name": "team-ada"})).status_code == 201
            assert await protocol(trusted, port, "team-ada.cup.localhost") == "h2"
            assert await protocol(trusted, port, "shares.localhost") == "h2"
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await protocol(trusted, port, "nobody.cup.localhost")
            assert "nobody.cup.localhost" not in log.read_text(), "the authority was not even asked"
            async with httpx2.AsyncClient(verify=trusted) as http:
                answer = await http.get("https://localhost/_cloister/certificate?domain=team-ada.cup.localhost")
                assert answer.status_code == 404, "who asks from outside learns nothing of teams"
