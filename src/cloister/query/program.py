"""The worker's program and packages, as sandboxes mount them."""

from pathlib import Path

WORKER_MOUNT = "/opt/worker"
WORKER_PACKAGES = ["duckdb>=1.4,<3", "pyarrow>=20", "python-calamine>=0.3"]


def worker_files() -> Path:
    return Path(__file__).parent / "worker"
