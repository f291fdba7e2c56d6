"""Fetches a repository and packs what a module's author wants of it. Runs in a build sandbox.

``repository.py ADDRESS BRANCH FOLDER KNOWN``: the head of a branch, and the newest tags that are versions and not KNOWN.
What it leaves: ``branch.zip``, ``VERSION.zip`` for each tag, and ``index.json``. The platform reads the ZIP files as it
reads those that people upload.
"""

import json
import os
import re
import stat
import sys
import zipfile

from dulwich import porcelain
from dulwich.errors import NotGitRepository
from dulwich.object_store import iter_tree_contents
from dulwich.objects import Commit, Tag

RESULT = f"{os.environ['HOME']}/result"
VERSION = re.compile(r"v?(\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?)")
MOST_TAGS = 20
MOST_BYTES = 64 * 1024 * 1024


def pack(repository, commit, folder, target):
    """Write the files of a commit, under a folder of it, into a ZIP file."""
    prefix = f"{folder.strip('/')}/".encode() if folder.strip("/") else b""
    total = found = 0
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in iter_tree_contents(repository.object_store, repository[commit].tree):
            if not entry.path.startswith(prefix):
                continue
            name = entry.path[len(prefix) :].decode("utf-8", "replace")
            if stat.S_IFMT(entry.mode) != stat.S_IFREG:
                raise SystemExit(f"{name} is a link or another repository; only files can be in a module.")
            data = repository[entry.sha].data
            total, found = total + len(data), found + 1
            if total > MOST_BYTES:
                raise SystemExit("There is too much in it for a module.")
            archive.writestr(name, data)
    if not found:
        raise SystemExit(f"There are no files in “{folder}”." if folder else "There are no files in it.")


def commit_of(repository, name):
    """The commit that a name leads to, through annotated tags."""
    found = repository[repository.refs[name]]
    while isinstance(found, Tag):
        found = repository[found.object[1]]
    return found.id if isinstance(found, Commit) else None


def main(address, branch, folder, known):
    os.mkdir(RESULT)
    where = f"{os.environ['HOME']}/repository"
    try:
        repository = porcelain.clone(address, where, bare=True, errstream=sys.stdout.buffer)
    except NotGitRepository:
        raise SystemExit("There is no repository at this address, or it is not open to everybody.") from None
    names = [prefix + branch.encode() for prefix in (b"refs/heads/", b"refs/remotes/origin/")]
    found = next((name for name in names if name in repository.refs), None)
    if found is None:
        raise SystemExit(f"There is no branch “{branch}”.")
    head = commit_of(repository, found)
    pack(repository, head, folder, f"{RESULT}/branch.zip")
    tags = {}
    for ref in repository.refs.allkeys():
        match = VERSION.fullmatch(ref.removeprefix(b"refs/tags/").decode("utf-8", "replace"))
        if ref.startswith(b"refs/tags/") and match and match[1] not in known:
            commit = commit_of(repository, ref)
            if commit is not None:
                tags[match[1]] = commit
    newest = sorted(tags, key=lambda version: [int(part) for part in version.split("-")[0].split(".")])[-MOST_TAGS:]
    for version in newest:
        print(f"packing {version}", flush=True)
        pack(repository, tags[version], folder, f"{RESULT}/{version}.zip")
    with open(f"{RESULT}/index.json", "w") as file:
        json.dump({"commit": head.decode(), "versions": newest}, file)


main(sys.argv[1], sys.argv[2], sys.argv[3], set(json.loads(sys.argv[4])))
