"""Kernels: which JupyterLab offers, those of the environment and those that the team installed; and how it begins to speak
with one.
"""

import asyncio
import contextlib

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from traitlets import default

AGAIN_SECONDS = 0.5
"""A kernel that does not answer is asked again so often, as Jupyter does."""


class Offered(KernelSpecManager):
    """None of the machine's own: its packages bring kernels along that the environment may not have named."""

    @default("kernel_dirs")
    def _kernel_dirs_default(self):
        return [folder for folder in super()._kernel_dirs_default() if not folder.startswith("/usr/")]


class Prompt(ZMQChannelsWebsocketConnection):
    """Hears at once that a kernel has begun. Jupyter's own looks every 50 ms, and no kernel that begins is done with the
    first look.
    """

    def nudge(self):
        kernel, iopub = self.kernel_manager, self.channels["iopub"]
        if getattr(kernel, "execution_state", None) == "busy":
            # It would answer when it is done; and what it shows meanwhile is the page's.
            begun = asyncio.get_running_loop().create_future()
            begun.set_result(None)
            return begun
        answered, shown = asyncio.Event(), asyncio.Event()

        def on_iopub(_message):
            iopub.stop_on_recv()  # what comes after it is the page's
            shown.set()

        iopub.on_recv(on_iopub)
        channels = [kernel.connect_shell(), kernel.connect_control()]  # of their own: the page has asked nothing
        for channel in channels:
            channel.on_recv(lambda _message: answered.set())
        asking = asyncio.ensure_future(self._ask(channels, iopub, answered, shown))

        def ended(_asking):
            for channel in channels:
                channel.close()
            if not iopub.closed():
                iopub.stop_on_recv()

        asking.add_done_callback(ended)
        return asking

    async def _ask(self, channels, iopub, answered, shown):
        """Ask on some channels until the kernel has answered, has shown something, and is not said to be starting
        any more; or until it or the page is gone, or it has moved, which whoever opens the channel finds out.

        Raises:
            TimeoutError: when it does not answer.
        """
        kernel, begun = self.kernel_manager, asyncio.Event()

        def look(_change=None):
            if getattr(kernel, "execution_state", None) != "starting":
                begun.set()

        ports = list(kernel.ports)
        kernel.observe(look, "execution_state")
        try:
            async with asyncio.timeout(self.kernel_info_timeout):
                while self._is_there(ports, (*channels, iopub)):
                    look()  # where it is no trait, nobody tells
                    for channel in channels:
                        self.session.send(channel, "kernel_info_request")
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(AGAIN_SECONDS):
                            for event in (answered, shown, begun):
                                await event.wait()
                        return
        finally:
            kernel.unobserve(look, "execution_state")

    def _is_there(self, ports, channels):
        here = self.kernel_id in self.multi_kernel_manager and list(self.kernel_manager.ports) == ports
        return here and not any(channel.closed() for channel in channels)
