"""A server that booted before anybody asked for one: the zygote boots it as far as all boots are the same.

What is forked from it needs only what is somebody's own: files, socket, loop, and secrets. A team that has settings of
Jupyter's own in its home gets a boot like any other, since they may change anything.
"""

import asyncio
import os
import signal
import sqlite3
import threading
from datetime import datetime, timezone

from tornado.ioloop import IOLoop

OURS = frozenset({"lab", "migrated", "collaboration_sessions.json", "jupyter_cookie_secret"})
"""What Jupyter itself puts into a person's folder of settings, none of which a boot reads."""


class NotAlike(Exception):
    """A boot left something behind that cannot be shared."""


class Ahead:
    """One booted server, whose loop has not begun and which has no file open."""

    def __init__(self, app, config):
        """Boot.

        Raises:
            NotAlike: when what it is now has open files, threads, or something that a loop is to do.
        """
        self.app, self.config = app, config
        self.environ = _environ()
        before, handlers = _open(), {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1)}
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            self.server = _boot(app, config)
            settings = self.server.web_app.settings
            settings["lab_jinja2_env"].get_template("index.html")  # which is compiled once, and shown first
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

    def fits(self, config):
        """Whether a boot here, with these settings, would come out the same."""
        return config == self.config and _environ() == self.environ and not _own_settings(self.server)

    def adopt(self):
        """Give it what is its own; return the server, ready to start."""
        server, settings = self.server, self.server.web_app.settings
        for kind in type(server)._walk_mro():  # noqa: SLF001 - several may have booted: this is the one
            kind._instance = server  # noqa: SLF001
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        server.init_ioloop()
        server.cookie_secret = settings["cookie_secret"] = os.urandom(32)
        settings["started"] = server.kernel_manager.last_kernel_activity = datetime.now(timezone.utc)
        with open(self.ids.db_path, "wb") as file:
            file.write(self.tables)
        self.ids.con = sqlite3.connect(self.ids.db_path)
        server.init_signal()
        server.init_metrics()
        server.init_httpserver()
        return server


def _boot(app, config):
    """As `initialize_server` does, but for the socket."""
    app.serverapp_class.clear_instance()
    server = app.make_serverapp(jpserver_extensions={app.get_extension_package(): True}, config=config)
    server.aliases.update(app.aliases)
    server.initialize(argv=[], starter_extension=app.name, new_httpserver=False)
    return server


def _environ():
    """What a boot looks at, of the names and values that are given to a program."""
    return {
        n: v for n, v in os.environ.items() if n.startswith(("JUPYTER", "IPYTHON", "HOME", "PATH", "SHELL", "LANG"))
    }


def _own_settings(server):
    """What the team has put where Jupyter looks for settings."""
    home = os.path.expanduser("~")
    found = []
    for folder in server.config_file_paths:
        if folder.startswith(home):
            try:
                found += set(os.listdir(folder)) - OURS
            except FileNotFoundError:
                continue
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
