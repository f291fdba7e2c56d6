"""Executes a notebook as a program of anybody's would: Datalayer's ``jupyter-kernel-client``, an address and a token.

``standard_client.py URL NOTEBOOK``, the token in ``TOKEN``. Writes each cell's outputs as a line of JSON.
"""

import json
import os
import socket
import sys
from pathlib import Path

from jupyter_kernel_client import JupyterKernelClient

resolve = socket.getaddrinfo


def getaddrinfo(host, *arguments, **options):
    """Names under ``localhost`` are this machine (RFC 6761); not every resolver knows."""
    return resolve("127.0.0.1" if str(host).endswith(".localhost") else host, *arguments, **options)


socket.getaddrinfo = getaddrinfo
notebook = json.loads(Path(sys.argv[2]).read_text())
with JupyterKernelClient(server_url=sys.argv[1], token=os.environ["TOKEN"]) as kernel:
    for cell in notebook["cells"]:
        sys.stdout.write(json.dumps(kernel.execute(cell["source"])["outputs"]) + "\n")
