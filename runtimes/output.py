"""What the program says, on its way to the platform. While that reads slowly, the program's pipes are left full."""

import os

from forwards import CHUNK
from lean import READ


class Output:
    """The pipes of all that runs here."""

    def __init__(self, selector, send):
        self.selector, self.send = selector, send
        self.levels = {}  # of the pipes that are open, by descriptor
        self.paused = False

    def follow(self, read_out, read_err):
        for descriptor, level in ((read_out, "INFO"), (read_err, "ERROR")):
            os.set_blocking(descriptor, False)
            self.levels[descriptor] = level
            if not self.paused:
                self._listen(descriptor)

    def _listen(self, descriptor):
        self.selector.register(descriptor, READ, lambda _mask: self._on_pipe(descriptor))

    def _on_pipe(self, descriptor):
        try:
            data = os.read(descriptor, CHUNK)
        except BlockingIOError:
            return
        if data:
            self.send(type="STATUS", level=self.levels[descriptor], text=data.decode("utf-8", "replace"))
            return
        self.selector.unregister(descriptor)
        os.close(descriptor)
        del self.levels[descriptor]

    def pause(self, wanted):
        if wanted == self.paused:
            return
        self.paused = wanted
        for descriptor in self.levels:
            if wanted:
                self.selector.unregister(descriptor)
            else:
                self._listen(descriptor)
