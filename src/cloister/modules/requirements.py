"""What has to be installed or compiled for an integration, read from the file in which its language says so. Pure."""

import json
import re

from packaging.requirements import InvalidRequirement, Requirement

from cloister.modules.errors import BadModule
from cloister.modules.manifest import Described

OURS = {"cloister", "visualbox"}
"""The platform's own libraries: they are there."""
_NPM_NAME = re.compile(r"(@[a-z0-9~][a-z0-9._~-]*/)?[a-z0-9~][a-z0-9._~-]*")
_NPM_ELSEWHERE = re.compile(r"[:/]")
_GO_LINE = re.compile(r"(?:require\s+)?([^\s()/]+(?:/\S+)?)\s+(v\S+)")


def dependencies(described: Described, files: dict[str, bytes]) -> list[str]:
    """What an integration needs beside its own files, as a list to read.

    Raises:
        BadModule: naming the file and the fault.
    """
    match described.manifest.runtime:
        case "python":
            return _python(_text(files.get("requirements.txt", b"")))
        case "node":
            return _node(files.get("package.json", b"{}"))
        case "go":
            return _go(_text(files.get("go.mod", b"")))
        case _:
            return []


def _python(text: str) -> list[str]:
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.split("#", 1)[0].strip()
        if not stripped:
            continue
        try:
            requirement = Requirement(stripped)
        except InvalidRequirement as error:
            raise BadModule(f"requirements.txt:{number}: “{stripped[:100]}” is no requirement.") from error
        if requirement.url is not None:
            raise BadModule(f"requirements.txt:{number}: packages come by name from the package index, not from a URL.")
        if requirement.name.lower() not in OURS:
            found.append(str(requirement))
    return sorted(set(found))


def _node(content: bytes) -> list[str]:
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadModule(f"package.json: this is no JSON: {error}.") from error
    wanted = data.get("dependencies", {}) if isinstance(data, dict) else None
    if not isinstance(wanted, dict):
        raise BadModule("package.json: “dependencies” should be an object of versions by name.")
    found = []
    for name, version in wanted.items():
        if not _NPM_NAME.fullmatch(name) or not isinstance(version, str):
            raise BadModule(f"package.json: “{name[:100]}” is no package with a version.")
        if _NPM_ELSEWHERE.search(version) and not version.startswith("npm:"):
            raise BadModule(f"package.json: “{name}” comes by version from the registry, not from “{version[:100]}”.")
        if name not in OURS:
            found.append(f"{name}@{version}")
    return sorted(found)


def _go(text: str) -> list[str]:
    if not re.search(r"^\s*module\s+\S+", text, re.MULTILINE):
        raise BadModule("go.mod: a module in Go needs one, beginning with “module NAME”.")
    found = []
    inside = False
    for line in text.splitlines():
        stripped = line.split("//", 1)[0].strip()
        if re.fullmatch(r"require\s*\(", stripped):
            inside = True
        elif stripped == ")":
            inside = False
        elif (inside or stripped.startswith("require ")) and (match := _GO_LINE.fullmatch(stripped)):
            found.append(f"{match[1]}@{match[2]}")
    return sorted({line for line in found if line.partition("@")[0] not in OURS})


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")
