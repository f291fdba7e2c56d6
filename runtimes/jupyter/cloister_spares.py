"""Keeps one kernel ahead while somebody is there: an interpreter that has imported what a kernel needs, and waits.

A kernel's start is nearly all imports. What waits is no kernel yet: it has no connection and no notebook, is in no list
of kernels, and becomes one when the server is asked for one. It goes away when nobody comes, since it takes memory.
"""

import json
import os
import subprocess
import time

from jupyter_client.provisioning import local_provisioner
from tornado.ioloop import IOLoop

WAITING = os.path.join(os.path.dirname(os.path.abspath(__file__)), "waiting_kernel.py")
KEPT_SECONDS = 600
"""How long one waits after somebody was last there."""
NEXT_SECONDS = 2
"""When the next is started after one was taken: the cell that is waited for comes first."""


class Spares:
    """At most one interpreter that waits, for kernels of one Python."""

    def __init__(self, launch, python, environ, site):
        """``launch`` starts a process as Jupyter does; ``site`` is where the team's packages are."""
        self._launch = launch
        self._python = python
        self._environ = environ
        self._site = site
        self._spare = None
        self._began = None
        self._seen = 0.0

    def somebody_is_here(self):
        self._seen = time.monotonic()
        self._start()

    def _start(self):
        if self._spare is None:
            self._began = self._changed()
            # As Jupyter's own `launch_kernel` does, but for the pipe, which it would close at once.
            self._spare = subprocess.Popen(
                [self._python, WAITING],
                stdin=subprocess.PIPE,
                env={**os.environ, **self._environ, "JPY_PARENT_PID": str(os.getpid())},
                start_new_session=True,
            )
            IOLoop.current().call_later(KEPT_SECONDS, self._drop, self._spare)

    def _changed(self):
        """When packages were last put in or taken away: an interpreter that started before may not see them."""
        try:
            return os.stat(self._site).st_mtime_ns
        except OSError:
            return None

    def _drop(self, spare):
        if spare is not self._spare:
            return
        if time.monotonic() - self._seen < KEPT_SECONDS:
            IOLoop.current().call_later(KEPT_SECONDS, self._drop, spare)
            return
        self._end()

    def _end(self):
        spare, self._spare = self._spare, None
        spare.stdin.close()
        spare.kill()
        spare.wait()

    def launch(self, cmd, **options):
        """In the place of Jupyter's `launch_kernel`: the same process, further on."""
        fits = list(cmd[:3]) == [self._python, "-m", "ipykernel_launcher"]
        if not fits or self._spare is None or options.get("independent"):
            return self._launch(cmd, **options)
        if self._spare.poll() is not None or self._changed() != self._began:
            self._end()
            return self._launch(cmd, **options)
        spare, self._spare = self._spare, None
        environ = {**(options.get("env") or os.environ), "JPY_PARENT_PID": str(os.getpid())}
        order = {"arguments": list(cmd[3:]), "cwd": str(options.get("cwd") or os.getcwd()), "environ": environ}
        try:
            spare.stdin.write(json.dumps(order).encode() + b"\n")
            spare.stdin.close()
        except OSError:  # it has just ended
            return self._launch(cmd, **options)
        IOLoop.current().call_later(NEXT_SECONDS, self._start)
        return spare


def install(python, environ, site):
    """Have the kernels of this server's Python come from what waits; return what keeps it."""
    spares = Spares(local_provisioner.launch_kernel, python, environ, site)
    local_provisioner.launch_kernel = spares.launch
    return spares
