"""Which kernels JupyterLab offers: those of the environment, and those that the team installed."""

from jupyter_client.kernelspec import KernelSpecManager
from traitlets import default


class Offered(KernelSpecManager):
    """None of the machine's own: its packages bring kernels along that the environment may not have named."""

    @default("kernel_dirs")
    def _kernel_dirs_default(self):
        return [folder for folder in super()._kernel_dirs_default() if not folder.startswith("/usr/")]
