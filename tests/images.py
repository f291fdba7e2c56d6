"""OCI images made by hand, around Debian's static busybox."""

import gzip
import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

BUSYBOX = Path("/usr/bin/busybox") if Path("/usr/bin/busybox").exists() else Path("/bin/busybox")
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


def layer(*entries):
    """A layer: (name, content) for files, (name, "->", target) for links, (name,) for folders."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, *what in entries:
            info = tarfile.TarInfo(name)
            if not what:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif what[0] == "->":
                info.type, info.linkname = tarfile.SYMTYPE, what[1]
            elif what[0] == "device":
                info.type, info.devmajor, info.devminor = tarfile.BLKTYPE, 8, 0
            else:
                info.size, info.mode = len(what[0]), what[1] if len(what) > 1 else 0o644
            archive.addfile(info, io.BytesIO(what[0]) if info.isreg() else None)
    return buffer.getvalue()


def image(folder, *layers, **config):
    """An image layout in a folder."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(data):
        name = hashlib.sha256(data).hexdigest()
        (blobs / name).write_bytes(data)
        return {"digest": f"sha256:{name}", "size": len(data)}

    packed = [gzip.compress(data, mtime=0) for data in layers]
    manifest = {
        "schemaVersion": 2, "config": blob(json.dumps({"architecture": ARCHITECTURE, "config": config}).encode()),
        "layers": [{**blob(data), "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"} for data in packed],
    }  # fmt: skip
    index = {
        "schemaVersion": 2,
        "manifests": [
            {**blob(json.dumps(manifest).encode()), "platform": {"architecture": ARCHITECTURE, "os": "linux"}}
        ],
    }
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return folder


def base():
    links = [
        (f"bin/{name}", "->", "busybox")
        for name in ("sh", "ls", "cat", "id", "httpd", "wget", "touch", "readlink", "env")
    ]
    return layer(
        ("bin",),
        ("bin/busybox", BUSYBOX.read_bytes(), 0o4755),
        *links,
        ("etc",),
        ("etc/passwd", b"root:x:0:0::/:/bin/sh\n"),
    )
