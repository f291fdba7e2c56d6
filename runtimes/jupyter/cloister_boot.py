"""What each boot of Jupyter finds out anew, though it is always the same or never needed: it is left out here, or the zygote
learns it once, for all who come.

A rehearsal tells what a boot took (`taken`), and the zygote does that before it is forked (`learn`). What is not known here is
done as ever.
"""

import importlib
import re
import sys
from pathlib import Path

_schemas = {}
_wanted = []
_checked = set()


def install():
    """Let Jupyter look here first, and before anything else of it is imported."""
    # It makes a grammar when it is imported, which takes longer than all else together, to check a format of texts (“iri”)
    # that no schema here asks for. The validator does without what it cannot import.
    sys.modules.setdefault("rfc3987_syntax", None)
    import jupyter_events.schema
    import jupyter_events.yaml
    import jupyterlab.commands
    from traitlets.config import Application, Config

    load, validate = jupyter_events.yaml.load, jupyter_events.schema.validate_schema
    parse = Application.parse_command_line
    if getattr(load, "known", False):
        return

    def known_load(path):
        _wanted.append(str(path))
        return _schemas.get(str(path)) or load(path)

    def known_validate(schema):
        if id(schema) not in _checked:
            validate(schema)

    def quick_parse(self, argv=None):
        if argv is None or len(argv) > 0:
            return parse(self, argv)
        # A parser with an option for each trait of each class is made only to find that nothing was given.
        self.argv, self.cli_config, self.extra_args = [], Config(), []
        return None

    # JupyterLab asks Node where packages would come from if it were built here.
    jupyterlab.commands._yarn_config = lambda _logger: {"yarn config": {}, "npm config": {}}  # noqa: SLF001
    known_load.known = True
    jupyter_events.yaml.load = known_load
    jupyter_events.schema.validate_schema = known_validate
    Application.parse_command_line = quick_parse


def taken():
    """What a boot in this process took, as far as it can be learnt ahead."""
    patterns = [(pattern, flags) for kind, pattern, flags in getattr(re, "_cache", ()) if kind is str]
    return {"modules": sorted(sys.modules), "patterns": patterns, "schemas": _wanted}


def learn(took):
    """Have it ready, for whoever is forked from this process."""
    for name in took["modules"]:
        if name not in sys.modules and "__main__" not in name:
            try:
                importlib.import_module(name)
            except Exception:
                continue
    from jupyter_events.schema import EventSchema

    for path in took["schemas"]:
        try:
            schema = EventSchema(Path(path))._schema  # noqa: SLF001 - as it will be asked for
        except Exception:
            continue
        _schemas[path] = schema
        _checked.add(id(schema))
    for pattern, flags in took["patterns"]:  # last, and the last used last: there is room for a few hundred
        try:
            re.compile(pattern, flags)
        except re.error:
            continue
