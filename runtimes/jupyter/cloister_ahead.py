"""A server that booted before anybody asked for one: the zygote boots two, one with terminals and one without, as far as
nothing is anybody's.

What is forked from one needs only what is its own: files, socket, loop, and secrets. A boot with other settings (in safe mode,
or those that a team has put in its home) begins anew in the fork.
"""

import asyncio
import os
import signal
import sqlite3
import threading
from datetime import datetime, timezone
from glob import glob

from tornado.ioloop import IOLoop
from traitlets.config.configurable import SingletonConfigurable

OURS = frozenset({"lab", "migrated", "collaboration_sessions.json", "serverconfig", "nbconfig"})
"""What Jupyter itself puts into a person's folder of settings, none of which a boot reads."""
READ_BY_BOOT = ("JUPYTER", "IPYTHON", "LC_", "LANG", "XDG_")
READ_TOO = frozenset({"HOME", "PATH", "SHELL", "TMPDIR", "VIRTUAL_ENV", "CONDA_PREFIX"})
"""Environment variables that a boot reads: those that begin so, and these."""


class NotAlike(Exception):
    """A boot left something behind that cannot be shared."""


class Ahead:
    """One booted server, whose loop has not begun and which has no file or thread."""

    def __init__(self, app, config):
        """Boot, and put away what cannot be shared: the loop, the table of files, and who is the only one of a kind.

        Raises:
            NotAlike: when what it is now has open files, threads, or something that a loop is to do.
        """
        self.config = config
        self.environ = _environ()
        before, handlers = _open(), {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1)}
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            self.server = _boot(app, config)
            self.singletons = forget_singletons()
            settings = self.server.web_app.settings
            settings["lab_jinja2_env"].get_template("index.html")  # which is compiled once, and shown first
            self.lab = settings["lab"]
            folders = [*self.lab.labextensions_path, *self.lab.extra_labextensions_path]
            self.elsewhere = [folder for folder in folders if not os.path.isdir(folder)]
            self.ids = settings["file_id_manager"]
            self.tables = self.ids.con.serialize()
            self.ids.con.close()
            left = [*loop._ready, *loop._scheduled, *threading.enumerate()[1:]]  # noqa: SLF001
        finally:
            asyncio.set_event_loop(None)
            IOLoop._ioloop_for_asyncio.pop(loop, None)  # noqa: SLF001 - of a loop that is closed
            loop.close()
            for number, handler in handlers.items():
                signal.signal(number, handler)
        left += _open() - before
        if left:
            raise NotAlike(f"a boot leaves {left}")

    def unlike(self):
        """Why a boot here, with the same configuration, could come out otherwise; None when it could not."""
        if _environ() != self.environ:
            return "environment variables are others"
        own = _own_settings(self.server)
        return f"there are settings of your own: {own}" if own else None

    def adopt(self):
        """Give it what is its own; return the server, ready to start."""
        server, settings = self.server, self.server.web_app.settings
        for kind, only in self.singletons.items():
            kind._instance = only  # noqa: SLF001
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        server.init_ioloop()
        server.cookie_secret = settings["cookie_secret"] = os.urandom(32)
        settings["started"] = server.kernel_manager.last_kernel_activity = datetime.now(timezone.utc)
        settings["static_immutable_cache"] += self._extensions_here()
        with open(self.ids.db_path, "wb") as file:
            file.write(self.tables)
        self.ids.con = sqlite3.connect(self.ids.db_path)
        server.init_signal()
        server.init_metrics()
        server.init_httpserver()
        return server

    def _extensions_here(self):
        """Addresses of what never changes, of extensions that the space or the team have: the boot saw none of them."""
        return [
            f"{self.lab.labextensions_url}/{os.path.relpath(found, folder)}"
            for folder in self.elsewhere
            for found in glob(f"{folder}/**/static", recursive=True)
        ]


def forget_singletons():
    """Let what is the only one of its kind be made anew by a next boot; return them, by kind."""
    found, kinds = {}, [SingletonConfigurable]
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        only = kind.__dict__.get("_instance")
        if only is not None:
            found[kind], kind._instance = only, None  # noqa: SLF001 - there is no other way to all of them
    return found


def _boot(app, config):
    """As `initialize_server` does, but for the socket."""
    server = app.make_serverapp(jpserver_extensions={app.get_extension_package(): True}, config=config)
    server.aliases.update(app.aliases)
    server.initialize(argv=[], starter_extension=app.name, new_httpserver=False)
    return server


def _environ():
    return {n: v for n, v in os.environ.items() if n.startswith(READ_BY_BOOT) or n in READ_TOO}


def _own_settings(server):
    """The names of what the team has put where Jupyter looks for settings; a folder's own when it cannot be looked into."""
    home = os.path.expanduser("~")
    found = []
    for folder in server.config_file_paths:
        if folder.startswith(home):
            try:
                found += sorted(set(os.listdir(folder)) - OURS)
            except FileNotFoundError:
                continue
            except OSError:
                found.append(folder)
    return found


def _open():
    """The files that this process has open, by number and name."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add((name, os.readlink(f"/proc/self/fd/{name}")))
        except OSError:  # the folder itself
            continue
    return found
