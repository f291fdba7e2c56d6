"""Caddy's configuration, as text. One listener, one place for certificates, no table of routes. Pure."""

from dataclasses import dataclass
from pathlib import Path

from cloister.gateway.hosts import SERVED, STATIC, Hosts, cookie_name
from cloister.platform import Settings

ON_DEMAND = {"internal", "acme"}
"""Where each name has a certificate of its own, from its first visit on."""
CERTIFICATE = "/_cloister/certificate"
CERTIFICATES = "certificates"
"""The host name under which Caddy asks there; nobody else's request comes with it."""
ACME_KEY = "CLOISTER_GATEWAY_ACME_KEY"
"""The variable of Caddy's that has it: the configuration does not."""


@dataclass(frozen=True)
class Sockets:
    """How Caddy reaches the platform."""

    control: str
    gateway: str
    decision: str
    admin: str

    @classmethod
    def of(cls, settings: Settings) -> "Sockets":
        """Relative to the run directory, in which a Caddy of ours is started; absolute for one of somebody else's."""
        folder = "" if settings.gateway == "managed" else f"{settings.run_directory}/"
        return cls(*(f"unix/{folder}{name}.sock" for name in ("control", "gateway", "decision", "admin")))


def caddyfile(settings: Settings, environments: Path) -> str:
    """Return the configuration. It does not depend on the spaces that there are: a new configuration would close the open
    connections of them all.

    Args:
        settings: of the platform.
        environments: the folder of built environments, whose static files are served from disk.
    """
    hosts = Hosts.of(settings.public_url, settings.gateway_domain)
    sockets = Sockets.of(settings)
    widgets = _bare("widgets", hosts, "/w/* /lib/*", f"encode gzip\nreverse_proxy {sockets.control}")
    shares = _bare(
        "shares", hosts, "/api/v1/view/* /api/v1/shares/view /api/v1/live /api/v1/live/*", _streamed(sockets.control)
    )
    port = settings.listen_port
    scheme = "http" if settings.gateway_tls == "off" else "https"
    return f"""{{
\tadmin {sockets.admin}
\tpersist_config off
\tauto_https {"off" if settings.gateway_tls == "off" else "disable_redirects"}
\tstorage file_system {settings.state_directory / "caddy"}
\tgrace_period 3s
\tskip_install_trust
{_indent(_acme(settings, port))}\tservers {{
\t\tprotocols h1 h2{" h3" if settings.gateway_tls != "off" else ""}
\t\tmax_header_size 32KiB
\t\ttimeouts {{
\t\t\tread_header 10s
\t\t\tidle 5m
\t\t}}
\t}}
\tlog {{
\t\toutput stderr
\t\tformat filter {{
\t\t\tfields {{
\t\t\t\t# Its address may carry a code; and it is encoded with every request, whether anything is said or not.
\t\t\t\trequest delete
\t\t\t}}
\t\t\twrap json
\t\t}}
\t\tlevel WARN
\t}}
}}

{scheme}://:{port} {{
\tbind {settings.listen_host}
{_indent(_tls(settings))}\trequest_header -Cloister-*
\theader {{
\t\t-Server
\t\t-Via
\t}}
\trequest_body {{
\t\tmax_size {settings.gateway_upload_bytes}
\t}}
\t@odd not method GET HEAD OPTIONS POST PUT PATCH DELETE
\thandle @odd {{
\t\trespond 405
\t}}
\tlog {{
\t\toutput file {settings.state_directory / "logs" / "access.jsonl"} {{
\t\t\tmode 0640
\t\t\troll_size 64MiB
\t\t\troll_keep 10
\t\t}}
\t\tformat filter {{
\t\t\tfields {{
\t\t\t\trequest>headers delete
\t\t\t\tresp_headers delete
\t\t\t\trequest>uri query {{
\t\t\t\t\treplace code -
\t\t\t\t\treplace token -
\t\t\t\t\treplace ticket -
\t\t\t\t}}
\t\t\t}}
\t\t\twrap json {{
\t\t\t\ttime_key timestamp
\t\t\t\ttime_format rfc3339_nano
\t\t\t\tmessage_key event
\t\t\t}}
\t\t}}
\t}}

\t@workspace host *.*.{hosts.domain}
\thandle @workspace {{
{_indent(_workspace(settings, sockets, environments), 2)}\t}}
{_indent(widgets)}{_indent(shares)}\t@shown {{
\t\thost {hosts.public}
\t\tpath /api/v1/view/*
\t}}
\tredir @shown {hosts.shares}{{uri}}
\t@elsewhere path /w/* /lib/*
\thandle @elsewhere {{
\t\trespond 404
\t}}
\t@assets path /assets/*
\thandle @assets {{
\t\troot * {settings.ui_files}
\t\theader Cache-Control "public, max-age=31536000, immutable"
\t\theader X-Content-Type-Options nosniff
\t\tfile_server {{
\t\t\tprecompressed br gzip
\t\t}}
\t}}
{_indent(_strangers(settings, hosts))}\thandle {{
\t\treverse_proxy {sockets.control} {{
\t\t\tflush_interval -1
\t\t}}
\t}}
}}
{_asked(settings, sockets)}"""


def _strangers(settings: Settings, hosts: Hosts) -> str:
    """A certificate is of names, what it protects is, too: no other Host is answered behind it."""
    return (
        ""
        if settings.gateway_tls == "off"
        else f"@stranger not host {hosts.public}\nhandle @stranger {{\n\trespond 421\n}}"
    )


def _indent(text: str, by: int = 1) -> str:
    return "".join("\t" * by + line + "\n" for line in text.splitlines() if line)


def _streamed(socket: str) -> str:
    return f"reverse_proxy {socket} {{\n\tflush_interval -1\n}}"


def _bare(name: str, hosts: Hosts, paths: str, answer: str) -> str:
    """An origin beside the platform's own, where nobody is known and nothing but some paths is answered."""
    return f"""
@{name} host {name}.{hosts.domain}
handle @{name} {{
\t@{name}_paths path {paths}
\thandle @{name}_paths {{
\t\trequest_header -Cookie
\t\trequest_header -Authorization
{_indent(answer, 2)}\t}}
\trespond 404
}}
"""


def _acme(settings: Settings, port: int) -> str:
    """Where Caddy asks whether a name is ours before there is a certificate for it."""
    if settings.gateway_tls not in ON_DEMAND:
        return ""
    ask = f"https_port {port}\non_demand_tls {{\n\task http://127.0.0.1:{settings.gateway_ask_port}{CERTIFICATE}\n}}"
    return ask + (f"\nemail {settings.gateway_acme_email}" if settings.gateway_acme_email else "")


def _issuer(settings: Settings) -> str:
    """Whom certificates are asked of; nothing for the public authorities that Caddy knows."""
    if settings.gateway_acme_directory is None:
        return ""
    lines = [f"dir {settings.gateway_acme_directory}"]
    if settings.gateway_acme_root:
        lines.append(f'trusted_roots "{settings.gateway_acme_root}"')
    if settings.gateway_acme_key_id:
        lines.append(f"eab {settings.gateway_acme_key_id} {{${ACME_KEY}}}")
    return f"issuer acme {{\n{_indent(chr(10).join(lines))}}}"


def _asked(settings: Settings, sockets: Sockets) -> str:
    """A listener of the loopback for that question. Standard Caddy has no DNS plug-ins, so it can prove that one name is
    ours, but no wildcard: each workspace's name has a certificate of its own, from its first visit on.
    """
    if settings.gateway_tls not in ON_DEMAND:
        return ""
    return f"""
http://127.0.0.1:{settings.gateway_ask_port} {{
\tbind 127.0.0.1
\treverse_proxy {sockets.gateway} {{
\t\theader_up Host {CERTIFICATES}
\t}}
}}
"""


def _tls(settings: Settings) -> str:
    hsts = '\nheader Strict-Transport-Security "max-age=31536000; includeSubDomains"'
    if settings.gateway_tls == "off":
        return ""
    if settings.gateway_tls == "internal":
        return "tls internal {\n\ton_demand\n}" + hsts
    if settings.gateway_tls == "files":
        return f"tls {settings.gateway_certificate} {settings.gateway_certificate_key}" + hsts
    return "tls {\n\ton_demand\n" + _indent(_issuer(settings)) + "}" + hsts


def _workspace(settings: Settings, sockets: Sockets, environments: Path) -> str:
    cookie = cookie_name(settings)
    ours = _streamed(sockets.gateway) + "".join(
        f"\nlog_append {name.lower()} {{http.response.header.Cloister-{name}}}" for name in ("Person", "Team")
    )
    return f"""
@static {{
\tpath_regexp static ^{STATIC}/([0-9a-f]{{24}})/lib/(.+/)?(_?static|assets)/
\tnot header_regexp Sec-Fetch-Dest ^(document|iframe|frame|embed|object)$
\tnot path *.html *.htm *.xhtml *.xml *.xht
}}
handle @static {{
\t# Of environments that workspaces use, and as parts of pages: a page in somebody's package would be this team's own.
\t@served file {{
\t\troot {environments}
\t\ttry_files /{{re.static.1}}/{SERVED}
\t}}
\thandle @served {{
\t\turi strip_prefix {STATIC}
\t\troot * {environments}
\t\theader Cache-Control "public, max-age=31536000, immutable"
\t\theader X-Content-Type-Options nosniff
\t\tfile_server {{
\t\t\tprecompressed gzip
\t\t}}
\t}}
\trespond 404
}}
@ours path /_cloister/*
handle @ours {{
{_indent(ours)}}}
@socket header_regexp Upgrade (?i)^websocket$
handle @socket {{
{_indent(ours)}}}
@document header Sec-Fetch-Dest document
handle @document {{
{_indent(ours)}}}
@events header Accept *text/event-stream*
handle @events {{
{_indent(ours)}}}
@editing path /api/collaboration/session/*
handle @editing {{
{_indent(ours)}}}
@leaving {{
\tmethod GET HEAD
\tpath /files/* /nbconvert/* /api/contents /api/contents/*
}}
handle @leaving {{
{_indent(ours)}}}
handle {{
\tforward_auth {sockets.decision} {{
\t\turi /
\t\tcopy_headers Authorization Cloister-Person Cloister-Team Cloister-Upstream
\t\ttransport http {{
\t\t\tkeepalive_idle_conns_per_host 256
\t\t}}
\t}}
\tlog_append person {{http.request.header.Cloister-Person}}
\tlog_append team {{http.request.header.Cloister-Team}}
\treverse_proxy {{http.request.header.Cloister-Upstream}} {{
\t\theader_up -Cloister-Upstream
\t\theader_up Cookie "{cookie}=[^;]*;?" ""
\t\ttransport http {{
\t\t\tkeepalive_idle_conns_per_host 256
\t\t}}
\t}}
}}
"""
