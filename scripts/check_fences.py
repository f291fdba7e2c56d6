"""Fences that import-linter cannot see: where processes start, where SQL is scoped, how large files get."""

import ast
import os
import sys
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "cloister"
PRIVILEGED_CALLS = {
    "fork",
    "forkpty",
    "system",
    "popen",
    "posix_spawn",
    "execv",
    "execve",
    "execvpe",
    "unshare",
    "setns",
}
PROCESS_CALLS = {"create_subprocess_exec", "create_subprocess_shell"}
SCOPED_DOMAINS = {"spaces", "datasets", "sandboxes", "query", "blueprint", "workspaces", "gateway"}
UNSCOPED = {"select", "update", "delete"}
ALLOWED_UNSCOPED = {
    "spaces/store.py": "signatures by space, spelled out; one query for many people",
    "spaces/admission.py": "people, who belong to no space",
}
LINES = 420
GENERATED = ("platform/migrations/",)


def faults(path: Path) -> list[str]:
    name = path.relative_to(SOURCE).as_posix()
    if name.startswith(GENERATED) or "/worker/" in name:
        return []
    tree = ast.parse(path.read_text())
    found = []
    privileged = path.stem.endswith("_privileged")
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import | ast.ImportFrom) and not privileged:
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [
                f"{name}:{line}: {m} belongs in a *_privileged.py file"
                for m in modules
                if m in {"subprocess", "ctypes", "pty"}
            ]
        if isinstance(node, ast.Attribute) and node.attr == "wait_for":
            found.append(f"{name}:{line}: asyncio.timeout, for wait_for may swallow a cancellation (Python 3.11)")
        if isinstance(node, ast.Attribute) and not privileged:
            if node.attr in PROCESS_CALLS or (
                node.attr in PRIVILEGED_CALLS and isinstance(node.value, ast.Name) and node.value.id == "os"
            ):
                found.append(f"{name}:{line}: {node.attr} belongs in a *_privileged.py file")
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in {"eval", "exec", "compile"}
        ):
            found.append(f"{name}:{line}: the control plane does not {node.func.id}")
        if (
            isinstance(node, ast.ImportFrom)
            and node.module == "sqlalchemy"
            and name.split("/")[0] in SCOPED_DOMAINS
            and name not in ALLOWED_UNSCOPED
        ):
            bad = UNSCOPED & {alias.name for alias in node.names}
            found += [
                f"{name}:{line}: use access.scoped_{word}, which keeps to the caller's scope" for word in sorted(bad)
            ]
    count = len(path.read_text().splitlines())
    if count > LINES:
        found.append(f"{name}: {count} lines; split it by use case")
    return found


def main() -> int:
    # Unlike `rglob` it bears that folders go away: the web application may be built meanwhile.
    sources = [Path(folder) / name for folder, _, names in os.walk(SOURCE) for name in names if name.endswith(".py")]
    found = [fault for path in sorted(sources) for fault in faults(path)]
    print("\n".join(found) or "all fences stand")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
