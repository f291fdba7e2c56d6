"""A kernel's interpreter that has started ahead: it waits for one order, and then is the kernel that it names."""

import contextlib
import importlib
import importlib.util
import json
import os
import sys

AHEAD = ("ipykernel.ipkernel", "ipykernel.debugger", "ipykernel.zmqshell", "IPython.core.magics", "sqlite3", "cloister")
"""What a kernel imports when it begins, the debugger's half of it; and the extension that every kernel loads."""


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
