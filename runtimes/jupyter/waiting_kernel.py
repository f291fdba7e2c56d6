"""A kernel's interpreter that has started ahead: it waits for one order, and then is the kernel that it names."""

import contextlib
import importlib
import importlib.util
import json
import os
import sys

AHEAD = (
    "ipykernel.ipkernel", "ipykernel.debugger", "ipykernel.zmqshell", "IPython.core.magics", "IPython.core.debugger",
    "IPython.core.oinspect", "IPython.core.completerlib", "IPython.extensions.storemagic", "tornado.platform.asyncio",
    "faulthandler", "sqlite3", "cloister", "IPython.core.logger", "IPython.core.magics.basic", "stack_data",
    "pygments.formatters.terminal256",
)  # fmt: skip
"""What a kernel imports when it begins, the debugger's half of it; the extensions that every kernel loads; and what the first
cell takes, and the first error.
"""


def main():
    del sys.path[0]  # this file's own folder
    from ipykernel import kernelapp

    for name in AHEAD:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)

    line = sys.stdin.buffer.readline()
    if not line:
        return  # the server has ended, or nobody came
    order = json.loads(line)
    os.environ.clear()
    os.environ.update(order["environ"])
    os.chdir(order["cwd"])
    sys.argv = [importlib.util.find_spec("ipykernel_launcher").origin, *order["arguments"]]
    kernelapp.launch_new_instance()


main()
