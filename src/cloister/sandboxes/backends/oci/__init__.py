"""Sandboxes by an OCI runtime, run directly: no daemon, no image registry."""

from cloister.sandboxes.backends.oci.runtime_privileged import OciBackend

__all__ = ["OciBackend"]
