"""Kernels: which JupyterLab offers, those of the environment and those that the team installed; and how it begins to speak
with one.
"""

import asyncio

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
        return asyncio.ensure_future(self._nudge())

    async def _nudge(self):
        kernel, iopub = self.kernel_manager, self.channels["iopub"]
        if kernel.execution_state == "busy":  # it would answer when it is done
            return
        answered, shown, begun = asyncio.Event(), asyncio.Event(), asyncio.Event()
        channels = [kernel.connect_shell(), kernel.connect_control()]  # of their own: the page has asked nothing

        def on_iopub(_message):
            iopub.stop_on_recv()  # what comes after it is the page's
            shown.set()

        def on_state(_change=None):
            if kernel.execution_state != "starting":
                begun.set()

        for channel in channels:
            channel.on_recv(lambda _message: answered.set())
        iopub.on_recv(on_iopub)
        kernel.observe(on_state, "execution_state")
        on_state()
        try:
            async with asyncio.timeout(self.kernel_info_timeout):
                await self._ask(channels, [answered, shown, begun])
        except TimeoutError:
            self.log.warning("kernel %s does not answer", self.kernel_id)
        finally:
            kernel.unobserve(on_state, "execution_state")
            for channel in channels:
                channel.close()
            if not iopub.closed():
                iopub.stop_on_recv()

    async def _ask(self, channels, events):
        """Until all has happened; or the kernel is gone, or has moved, which whoever opens the channel finds out."""
        ports = list(self.kernel_manager.ports)
        while self.kernel_id in self.multi_kernel_manager and list(self.kernel_manager.ports) == ports:
            for channel in channels:
                self.session.send(channel, "kernel_info_request")
            try:
                async with asyncio.timeout(AGAIN_SECONDS):
                    for event in events:
                        await event.wait()
                return
            except TimeoutError:
                continue
