"""An interpreter that has started ahead: it waits for one order, and then is the program that the order names.

Nothing of anybody's is in it before. What it has imported is what nearly every integration needs, and the
distributions that are named to it: those that whatever will run here says it needs.
"""

import contextlib
import importlib
import json
import os
import sys
import traceback
import types

import cloister  # noqa: F401  (imported ahead)


def import_ahead(distributions):
    """Import what some distributions bring. Whatever cannot be is the program's to find out."""
    from importlib.metadata import packages_distributions

    wanted = {name.lower().replace("_", "-") for name in distributions}
    for module, owners in packages_distributions().items():
        if wanted & {owner.lower().replace("_", "-") for owner in owners} and not module.startswith("_"):
            with contextlib.suppress(Exception):
                importlib.import_module(module)


def main():
    if len(sys.argv) > 1:
        import_ahead(sys.argv[1:])
    with os.fdopen(0, closefd=False) as order:
        text = order.read()
    if not text:
        raise SystemExit(0)  # nobody came
    told = json.loads(text)
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    os.environ.update(told["environ"])
    os.chdir(told["cwd"])
    sys.argv = told["command"][1:]
    path = sys.argv[0]
    sys.path[0] = os.path.dirname(path)
    module = types.ModuleType("__main__")
    module.__file__ = path
    sys.modules["__main__"] = module
    with open(path, "rb") as file:
        source = file.read()
    run(source, path, module)


def run(source, path, module):
    """As the interpreter would: what is printed of an error begins at the program, not here."""
    try:
        exec(compile(source, path, "exec"), module.__dict__)
    except SystemExit:
        raise
    except BaseException as error:
        trace = error.__traceback__.tb_next
        if sys.excepthook is sys.__excepthook__:
            traceback.print_exception(type(error), error, trace)
        else:
            sys.excepthook(type(error), error, trace)
        raise SystemExit(1) from None


main()
