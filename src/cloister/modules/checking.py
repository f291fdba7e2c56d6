"""Whether files can be a module. Pure."""

from cloister.modules.archive import MAX_BYTES, MAX_FILES, check_paths
from cloister.modules.errors import ModuleTooLarge
from cloister.modules.manifest import Described, describe
from cloister.modules.requirements import dependencies


def check_files(files: dict[str, bytes]) -> tuple[Described, list[str]]:
    """What files say of the module that they are, and what it needs beside them.

    Raises:
        BadModule, BadPath, ModuleTooLarge: naming the file and the fault.
    """
    check_paths(files)
    check_size(files)
    described = describe(files)
    return described, dependencies(described, files)


def check_size(files: dict[str, bytes]) -> None:
    if len(files) > MAX_FILES or sum(map(len, files.values())) > MAX_BYTES:
        raise ModuleTooLarge
