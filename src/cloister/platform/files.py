"""Small files of the platform's own."""

from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a small file so that whoever reads it, also after a kill, finds all of it or none."""
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(path)


def private_folder(path: Path) -> Path:
    """Make a folder, if it is not there, that nobody but the platform's own user can look into; return it."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    return path
