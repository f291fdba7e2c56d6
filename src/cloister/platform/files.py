"""Small files of the platform's own."""

from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a small file so that whoever reads it, also after a kill, finds all of it or none."""
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(path)
