"""A package index of this machine, for what people install."""

import asyncio
import base64
import contextlib
import hashlib
import io
import zipfile


def wheel(name: str) -> bytes:
    """A package with one module of its name, which says where it was found."""
    files = {
        f"{name}.py": "word = 'installed'\n",
        f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{name}-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(text)}")
    files[f"{name}-1.0.dist-info/RECORD"] = "\n".join([*lines, f"{name}-1.0.dist-info/RECORD,,"]) + "\n"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return out.getvalue()


@contextlib.asynccontextmanager
async def package_index(names):
    """Serve packages; yields the port, and the paths that were asked for."""
    asked = []

    async def serve(reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split(" ")[1].removeprefix("http://packages.test")
            path = "/" + path.split("/", 1)[1]
            asked.append(path)
            name = path.strip("/").split("/")[-1]
            body, kind, status = b"", "text/html", "404 Not Found"
            if path.endswith(".whl"):
                body, kind, status = wheel(name.split("-")[0]), "application/octet-stream", "200 OK"
            elif name in names:
                link = f"{name}-1.0-py3-none-any.whl"
                body, status = f"<!DOCTYPE html><a href='/files/{link}'>{link}</a>".encode(), "200 OK"
            start = (
                f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            writer.write(start.encode() + (b"" if head.startswith("HEAD") else body))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        server.close()
