"""Unpacks an OCI image into the root file system of sandboxes. Runs in a build sandbox, where it can harm nothing.

What it reads is an image layout (a folder, or the same as a tar file) at ``/opt/cache``, as ``skopeo copy … oci:DIR`` and
``podman save --format oci-archive`` write it. What it leaves: ``rootfs`` and ``image.json``. Owners, devices and the bits
that lend rights are left out: everything in a sandbox belongs to nobody, and no program there has any rights to lend.
"""

import gzip
import json
import os
import platform
import shutil
import sys
import tarfile

SOURCE, HOME = "/opt/cache", os.environ["HOME"]
LAYOUT, ROOT = f"{HOME}/layout", f"{HOME}/result/rootfs"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
MOST_LINKS = 40


def blob(digest):
    algorithm, _, name = digest.partition(":")
    if not (algorithm.isalnum() and name.isalnum()):
        raise SystemExit("The image is damaged: a digest is none.")
    return f"{LAYOUT}/blobs/{algorithm}/{name}"


def load(path):
    with open(path, "rb") as file:
        return json.loads(file.read(4_000_000))


def manifest():
    """The manifest for this machine, and its digest."""
    found = load(f"{LAYOUT}/index.json")
    for _ in range(3):
        fitting = [
            one
            for one in found["manifests"]
            if one.get("platform", {}).get("architecture", ARCHITECTURE) == ARCHITECTURE
        ]
        if not fitting:
            raise SystemExit(f"The image has nothing for {ARCHITECTURE}.")
        chosen = load(blob(fitting[0]["digest"]))
        if fitting[0].get("mediaType") not in INDEXES and "manifests" not in chosen:
            return chosen, fitting[0]["digest"]
        found = chosen
    raise SystemExit("The image is an index of indexes.")


def inside(path):
    """Where a path of the image is under the root, with the links on the way read as in the image."""
    parts, real, links = [part for part in path.split("/") if part not in ("", ".")], [], 0
    while parts:
        part = parts.pop(0)
        if part == "..":
            real = real[:-1]
            continue
        here = os.path.join(ROOT, *real, part)
        if parts and os.path.islink(here):
            links += 1
            if links > MOST_LINKS:
                raise SystemExit(f"{path} is a circle of links.")
            leads = os.readlink(here)
            real = [] if leads.startswith("/") else real
            parts = [one for one in leads.split("/") if one not in ("", ".")] + parts
            continue
        real.append(part)
    return os.path.join(ROOT, *real)


def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def unpack(layer):
    for entry in layer:
        folder, _, name = entry.name.rstrip("/").rpartition("/")
        if name in ("", "."):
            continue
        if name == ".wh..wh..opq":
            for other in os.listdir(inside(f"{folder}/")):
                remove(os.path.join(inside(f"{folder}/"), other))
            continue
        if name.startswith(".wh."):
            remove(inside(f"{folder}/{name[4:]}"))
            continue
        path = inside(entry.name.rstrip("/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if entry.isdir():
            if not os.path.isdir(path) or os.path.islink(path):
                remove(path)
                os.mkdir(path)
            continue
        remove(path)
        if entry.issym():
            os.symlink(entry.linkname, path)
        elif entry.islnk():
            os.link(inside(entry.linkname), path, follow_symlinks=False)
        elif entry.isreg():
            with layer.extractfile(entry) as source, open(path, "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            os.chmod(path, 0o755 if entry.mode & 0o111 else 0o644)


def furnish(points):
    """Make the places where the platform mounts something, and the few files that programs expect."""
    for point in points:
        real = ROOT
        for part in point.split("/"):
            real = os.path.join(real, part)
            if os.path.islink(real) or not os.path.isdir(real):
                remove(real)
                os.mkdir(real)
    texts = {
        "passwd": "root:x:0:0:root:/:/sbin/nologin\nuser:x:1000:1000:user:/home/user:/bin/sh\n",
        "group": "root:x:0:\nuser:x:1000:\n",
        "hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    }
    for name, text in texts.items():
        path = f"{ROOT}/etc/{name}"
        kept = ""
        if os.path.isfile(path) and not os.path.islink(path):
            with open(path, errors="replace") as file:
                kept = "".join(line for line in file if name == "hosts" or ":x:1000:" not in line)
        remove(path)
        with open(path, "w") as file:
            file.write(kept + text if name == "hosts" or not kept else kept + text.splitlines(keepends=True)[1])


def main(points):
    if os.path.isfile(f"{SOURCE}/image.tar"):
        with tarfile.open(f"{SOURCE}/image.tar") as archive:
            archive.extractall(LAYOUT, filter="data")
    else:
        os.symlink(SOURCE, LAYOUT)
    found, digest = manifest()
    os.makedirs(ROOT)
    for layer in found["layers"]:
        kind = layer.get("mediaType", "")
        if kind.endswith("zstd"):
            raise SystemExit(
                "Its layers are packed with zstd. Copy it with gzip: skopeo copy --dest-compress-format gzip …"
            )
        with open(blob(layer["digest"]), "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            with tarfile.open(fileobj=gzip.open(file) if packed else file, mode="r|") as archive:
                unpack(archive)
        print(f"unpacked {layer['digest'][:19]}", flush=True)
    config = load(blob(found["config"]["digest"])).get("config") or {}
    furnish(points)
    with open(f"{HOME}/result/image.json", "w") as file:
        command = [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])]
        json.dump(
            {
                "digest": digest,
                "command": command,
                "environ": config.get("Env") or [],
                "cwd": os.path.normpath("/" + (config.get("WorkingDir") or "")),
            },
            file,
        )


main(sys.argv[1:])
