"""Compiles a module in Go. Runs in a build sandbox: ``go.py std`` or ``go.py main``.

``std`` compiles the standard library, once for a version of Go; ``main`` compiles a module with what that left. The
libraries ``cloister`` and ``visualbox`` are laid over the standard library, so that a module imports them by these names
and needs no line for them in its ``go.mod``.
"""

import json
import os
import shutil
import subprocess
import sys

MODULE, CACHE, HOME = "/opt/module", "/opt/cache", os.environ["HOME"]
GOROOT, OURS = "/opt/env/lib/go", "/opt/cloister/go"
WORK, RESULT = f"{HOME}/work", f"{HOME}/result"


def go(*arguments):
    environ = {
        **os.environ, "GOCACHE": f"{HOME}/cache", "GOPATH": f"{HOME}/go", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0",
        "GOFLAGS": "", "GOWORK": "off", "GOENV": "off", "GOTELEMETRY": "off",
    }  # fmt: skip
    return subprocess.run([f"{GOROOT}/bin/go", *arguments], check=False, cwd=WORK, env=environ).returncode


def std():
    os.mkdir(WORK)
    code = go("build", "-trimpath", "std")
    if code == 0:
        os.mkdir(RESULT)
        os.rename(f"{HOME}/cache", f"{RESULT}/cache")
    return code


def main():
    shutil.copytree(CACHE, f"{HOME}/cache")
    shutil.copytree(MODULE, WORK)
    libraries = {}
    for folder, _, names in os.walk(OURS):
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), OURS)
            libraries[f"{GOROOT}/src/{path}"] = f"{OURS}/{path}"
    with open(f"{HOME}/overlay.json", "w") as file:
        json.dump({"Replace": libraries}, file)
    how = "vendor" if os.path.isdir(f"{WORK}/vendor") else "mod"
    return go(
        "build", "-trimpath", "-buildvcs=false", f"-mod={how}", "-overlay", f"{HOME}/overlay.json",
        "-ldflags=-s -w", "-o", f"{RESULT}/bin/main", ".",
    )  # fmt: skip


sys.exit(std() if sys.argv[1] == "std" else main())
