"""Which backend sandboxes run on."""

from pathlib import Path

from cloister.platform import Settings
from cloister.sandboxes import Backend


def backend_of(settings: Settings, agent: Path) -> Backend:
    if settings.sandbox_backend == "fake":
        from cloister.sandboxes.backends.fake import FakeBackend  # noqa: PLC0415  (tests only)

        return FakeBackend()
    from cloister.sandboxes.backends.oci import OciBackend  # noqa: PLC0415

    return OciBackend(settings, agent)
