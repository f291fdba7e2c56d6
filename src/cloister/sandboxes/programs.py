"""What programs in sandboxes are given: where things are, and the files that come with a request."""

import base64
from typing import Any

from cloister.core.errors import Invalid

MAX_FILES_BYTES = 512 * 1024


class BadFile(Invalid):
    """A file's name must be a relative path without “..”, and all files together at most 512 kB."""

    code = "sandbox.bad_file"


def program_environ() -> dict[str, str]:
    """What programs find in their environment: where things are, never a secret."""
    proxy = "http://127.0.0.1:3128"
    return {
        "PYTHONPATH": "/opt/env/lib:/opt/cloister/python",
        "HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "http_proxy": proxy, "https_proxy": proxy,
        "NODE_USE_ENV_PROXY": "1",
        "NO_PROXY": "localhost,127.0.0.1", "no_proxy": "localhost,127.0.0.1",
        "CLOISTER_INNER": "/run/cloister/inner.sock",
        "CLOISTER_TOKEN_FILE": "/dev/shm/cloister-token",  # noqa: S108  (inside the sandbox)
        "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
    }  # fmt: skip


def encoded_files(files: dict[str, str]) -> dict[str, Any]:
    total = 0
    for path, text in files.items():
        parts = path.split("/")
        if {"", ".", ".."} & set(parts) or "\0" in path or len(path) > 200:
            raise BadFile(path=path[:200])
        total += len(text)
    if total > MAX_FILES_BYTES:
        raise BadFile
    return {path: base64.b64encode(text.encode()).decode() for path, text in files.items()}
