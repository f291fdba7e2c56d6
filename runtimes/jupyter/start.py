"""Starts JupyterLab inside a sandbox, listening on the app socket.

The server runs on the platform's own set of Jupyter packages, so that nothing a space declares or a team installs can
keep it from starting. Kernels run on the team's own virtual environment in the volume, which sees the packages of the
space's environment beneath its own: what ``pip`` or ``uv pip`` put there survives restarts and upgrades. In safe mode
kernels run without it.
"""

import functools
import hashlib
import hmac
import json
import os
import sys

HOME = os.environ.get("HOME", "/home/user")
VENV = f"{HOME}/.venv"
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
SITE = f"{VENV}/lib/{PYTHON}/site-packages"
LIBRARIES = "/opt/env/lib"
SERVER = "/opt/jupyter/lib"
HERE = "/opt/cloister/jupyter"
TOKEN_FILE = "/dev/shm/cloister-token"
RUNTIME = "/tmp/jupyter"
ANEW = "JupyterLab starts from the beginning"


def app_token():
    """What the gateway shows to this server. Made from the sandbox's token, which came over the control channel."""
    with open(TOKEN_FILE, "rb") as file:
        return hashlib.sha256(b"app " + file.read()).hexdigest()


def ensure_venv():
    """Make the team's virtual environment, or point it at today's interpreter and environment."""
    os.makedirs(SITE, exist_ok=True)
    os.makedirs(f"{VENV}/bin", exist_ok=True)
    python = os.path.realpath(sys.executable)
    for name in ("python", "python3", PYTHON):
        link = f"{VENV}/bin/{name}"
        if not os.path.islink(link) or os.readlink(link) != python:
            try:
                os.unlink(link)
            except FileNotFoundError:
                pass
            os.symlink(python, link)
    write(f"{VENV}/pyvenv.cfg", f"home = {os.path.dirname(python)}\ninclude-system-site-packages = false\n")
    write(f"{SITE}/_cloister_environment.pth", f"{LIBRARIES}\n/opt/cloister/python\n")
    os.makedirs(f"{VENV}/etc/ipython", exist_ok=True)  # read by kernels on this environment, before the team's own
    write(f"{VENV}/etc/ipython/ipython_config.py", "get_config().InteractiveShellApp.extensions = ['cloister']\n")
    for name in ("pip", "pip3"):
        write(
            f"{VENV}/bin/{name}",
            f"#!{VENV}/bin/python\nfrom pip._internal.cli.main import main\nraise SystemExit(main())\n",
            0o755,
        )


def write(path, text, mode=0o644):
    try:
        with open(path) as file:
            if file.read() == text:
                return
    except (FileNotFoundError, UnicodeDecodeError):
        pass
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, mode)


def write_kernel(python):
    """The kernel specification, which names the interpreter that kernels run on; return what their environment adds."""
    folder = f"{RUNTIME}/share/jupyter/kernels/python3"
    os.makedirs(folder, exist_ok=True)
    # A pause before each answer, for pages that took an answer for the last of what a cell prints; they wait for its end now.
    quick = "--Kernel._execute_sleep=0"
    argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}", quick]
    spec = {"argv": argv, "display_name": "Python 3", "language": "python", "metadata": {"debugger": True}}
    if python.startswith(VENV):
        spec["env"] = {"VIRTUAL_ENV": VENV, "PATH": f"{VENV}/bin:" + os.environ["PATH"], "PYTHONPATH": ""}
    write(f"{folder}/kernel.json", json.dumps(spec))
    return spec.get("env", {})


def write_r_kernel():
    """R, from the machine's own packages; what the team installs goes to its volume."""
    library = f"{HOME}/.R/library"
    os.makedirs(library, exist_ok=True)
    folder = f"{RUNTIME}/share/jupyter/kernels/ir"
    os.makedirs(folder, exist_ok=True)
    ours = 'sys.source("/opt/cloister/R/cloister.R", attach(NULL, name = "cloister"))'  # cloister.sql, as in Python
    argv = ["R", "--no-echo", "-e", ours, "-e", "IRkernel::main()", "--args", "{connection_file}"]
    spec = {"argv": argv, "display_name": "R", "language": "R", "env": {"R_LIBS_USER": library}}
    write(f"{folder}/kernel.json", json.dumps(spec))


def write_page():
    """What JupyterLab shows: nothing that asks about news, looks for updates or builds itself."""
    os.makedirs(f"{RUNTIME}/settings", exist_ok=True)
    disabled = [
        "@jupyterlab/apputils-extension:announcements",
        "@jupyterlab/extensionmanager-extension",
        "@jupyterlab/lsp-extension",
        "@jupyterlab/notebook-extension:language-server",
        "@jupyterlab/fileeditor-extension:language-server",
    ]
    page = {"buildAvailable": False, "buildCheck": False, "disabledExtensions": disabled}
    write(f"{RUNTIME}/settings/page_config.json", json.dumps(page))
    write(
        f"{RUNTIME}/fonts.conf",
        f"<fontconfig><dir>/usr/share/fonts</dir><cachedir>{RUNTIME}/fonts</cachedir></fontconfig>",
    )


def settings(gateway, safe):
    """Jupyter's configuration, in the form of its configuration objects."""
    from traitlets.config import Config

    environment = os.environ["CLOISTER_JUPYTER"]
    c = Config()
    c.ServerApp.sock = "/run/app/app.sock"
    c.ServerApp.sock_mode = "0660"
    c.ServerApp.root_dir = HOME
    c.ServerApp.open_browser = False
    c.ServerApp.allow_remote_access = True  # the gateway has checked the host
    c.ServerApp.quit_button = False
    c.Application.log_level = c.ServerApp.log_level = 30
    c.ServerApp.terminals_enabled = os.environ.get("CLOISTER_TERMINALS") == "1"
    c.ServerApp.identity_provider_class = gateway
    c.ServerApp.websocket_ping_interval = 30000
    c.IdentityProvider.token = ""  # JupyterLab puts it into its page, from which it would come back with each request
    c.ServerApp.contents_manager_class = "cloister_contents.WholeFiles"
    c.ContentsManager.checkpoints_class = "cloister_contents.WholeCheckpoints"
    c.ContentsManager.allow_hidden = True
    c.WholeFiles.delete_to_trash = False  # which would keep its place on the disk, and needs some when that is full
    c.ServerApp.kernel_spec_manager_class = "cloister_kernels.Offered"
    c.ServerApp.kernel_websocket_connection_class = "cloister_kernels.Prompt"
    c.Offered.ensure_native_kernel = False
    c.KernelManager.transport = "ipc"  # no TCP: no Nagle, no ports for others in the sandbox to meet
    c.ZMQChannelsWebsocketConnection.iopub_data_rate_limit = 0
    c.ZMQChannelsWebsocketConnection.iopub_msg_rate_limit = 0
    c.LabApp.static_url_prefix = f"/_cloister/static/{environment}/lib/share/jupyter/lab/static"
    c.LabApp.app_settings_dir = f"{RUNTIME}/settings"
    c.LabApp.news_url = None
    c.LabApp.extension_manager = "readonly"
    c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
    c.LabApp.collaborative = not safe
    c.LabApp.expose_app_in_browser = True  # to the gateway's banner, which lets kernels be found again at once
    c.BaseFileIdManager.db_path = f"{RUNTIME}/file-ids.db"  # its default was read from the zygote's own HOME
    c.SQLiteYStore.db_path = f"{RUNTIME}/ystore.db"
    c.ServerApp.jpserver_extensions = {"jupyterlab": True, "jupyter_lsp": False, "notebook_shim": False}
    return c


def prepare_environ(safe):
    os.makedirs(f"{RUNTIME}/runtime", mode=0o700, exist_ok=True)
    os.environ.update(
        JUPYTER_RUNTIME_DIR=f"{RUNTIME}/runtime",
        JUPYTER_PATH=f"{RUNTIME}/share/jupyter:{SERVER}/share/jupyter:{LIBRARIES}/share/jupyter",
        JUPYTER_CONFIG_PATH=f"{SERVER}/etc/jupyter",
        JUPYTERLAB_DIR=f"{SERVER}/share/jupyter/lab",
        PYTHONPATH=f"{LIBRARIES}:/opt/cloister/python",
        IPYTHONDIR=f"{HOME}/.ipython",
        MPLCONFIGDIR=f"{HOME}/.config/matplotlib",
        FONTCONFIG_FILE=f"{RUNTIME}/fonts.conf",  # else the first plot begins with an error in red
        SHELL="/bin/bash",
    )
    write_page()
    if safe:
        os.environ.update(JUPYTER_CONFIG_DIR=f"{RUNTIME}/config", IPYTHONDIR=f"{RUNTIME}/ipython")
    else:
        os.environ["UV_PROJECT_ENVIRONMENT"] = VENV
        os.environ["VIRTUAL_ENV"] = VENV
        os.environ["PATH"] = f"{VENV}/bin:" + os.environ["PATH"]


@functools.cache
def preload():
    """Import what a server needs. Nothing in it knows of a team, so it may happen before there is one."""
    if HERE not in sys.path:
        sys.path.append(HERE)
    import cloister_boot

    cloister_boot.install()
    import cloister_contents  # noqa: F401 - named in the settings
    import cloister_kernels  # noqa: F401 - likewise
    import cloister_page
    import cloister_rooms
    from jupyter_server.auth.identity import IdentityProvider, User
    from jupyterlab.labapp import LabApp
    from notebook_shim import shim

    cloister_page.install(SERVER)
    cloister_rooms.install()
    shim.IGNORED_TRAITS += ("static_url_prefix",)  # or each start says that Jupyter's notebook app has one, too

    class Gateway(IdentityProvider):
        """Whoever shows the token is the gateway; it says, by number, whom it let in."""

        secret = ""
        spares = None
        auth_enabled = True  # though the base class has no token to check

        async def get_user(self, handler):
            shown = self.get_token(handler) or ""
            if not self.secret or not hmac.compare_digest(shown.encode(), self.secret.encode()):
                return None
            handler._token_authenticated = True  # noqa: SLF001 - as the base class does
            if self.spares is not None and handler.request.path.startswith(("/lab", "/api/kernelspecs")):
                self.spares.somebody_is_here()  # a page is being opened: a kernel will be asked for soon
            number = handler.request.headers.get("Cloister-Person", "") or "somebody"
            return User(username=number, name=number, display_name=number, initials=number[-2:])

        def get_token(self, handler):
            scheme, _, token = handler.request.headers.get("Authorization", "").partition(" ")
            return token if scheme == "token" else None

    return LabApp, Gateway


def rehearsal():
    """Boot once where nobody is; return what a boot and a first answer take."""
    import http.client
    import socket
    import threading

    os.environ.update(HOME="/tmp/rehearsal", CLOISTER_JUPYTER="rehearsal", CLOISTER_TERMINALS="1")
    os.makedirs("/tmp/rehearsal/.local/share/jupyter")
    prepare_environ(safe=True)
    write_kernel(sys.executable)
    app, gateway = preload()
    config = settings(gateway, safe=False)
    gateway.secret = "rehearsal"
    config.ServerApp.sock = "/tmp/rehearsal/app.sock"
    config.ServerApp.root_dir = "/tmp/rehearsal"
    config.ServerApp.allow_root = True
    server = app.initialize_server(argv=[], config=config)

    def ask():
        for path in ("/api", "/lab", "/api/contents", "/api/kernelspecs", "/api/sessions", "/lab/api/settings"):
            connection = http.client.HTTPConnection("localhost")
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect("/tmp/rehearsal/app.sock")
            connection.request("GET", path, headers={"Authorization": "token rehearsal"})
            connection.getresponse().read()
        server.io_loop.add_callback(server.io_loop.stop)

    import tornado.ioloop

    tornado.ioloop.IOLoop.current().call_later(0.2, lambda: threading.Thread(target=ask, daemon=True).start())
    server.start()
    import cloister_boot

    return cloister_boot.taken()


def learn(took):
    """Have ready what a rehearsal took."""
    import cloister_boot

    cloister_boot.learn(took)


def boot_ahead():
    """Boot what most workspaces are, with terminals and without; return those that can be shared."""
    import cloister_ahead

    app, gateway = preload()
    os.environ["CLOISTER_SAFE_MODE"] = "0"
    prepare_environ(safe=False)
    booted = []
    for terminals in ("0", "1"):
        os.environ["CLOISTER_TERMINALS"] = terminals
        try:
            booted.append(cloister_ahead.Ahead(app, settings(gateway, safe=False)))
        except (Exception, SystemExit) as reason:  # then each fork boots for itself
            cloister_ahead.forget_singletons()
            sys.stderr.write(f"not booted ahead: {reason!r}\n")
    return booted


def main(token=None, booted=()):
    """Serve until told to stop.

    ``token`` is what the gateway shows, where it is not in a file; ``booted`` are servers that booted before anybody asked.
    """
    if SERVER not in sys.path:
        sys.path.insert(0, SERVER)
    safe = furnish_home(os.environ.get("CLOISTER_SAFE_MODE") == "1")
    app, gateway = preload()
    kernels = offer_kernels(gateway, safe)
    gateway.secret = token or app_token()
    os.chdir(HOME)
    server = server_of(app, settings(gateway, safe), booted)
    server.no_browser_open_file = True
    if kernels[0] == "r":
        server.kernel_manager.default_kernel_name = "ir"
    from zmq import RECONNECT_IVL

    # A channel to a kernel that is not there yet is tried again so often. At ZeroMQ's 100 ms the first status of a kernel
    # is missed, for which Jupyter asks again only after half a second.
    server.kernel_manager.context.setsockopt(RECONNECT_IVL, 10)
    server.start()


def furnish_home(safe):
    """Have what the team installs and sets found in its home; return whether it is to be left out."""
    prepare_environ(safe)
    try:
        ensure_venv()
        os.makedirs(f"{HOME}/.jupyter", exist_ok=True)
    except OSError as error:  # a full disk must not keep a team from its files
        sys.stderr.write(f"the team's own packages and settings are left out: {error}\n")
        safe = True
        prepare_environ(safe)
    return safe


def offer_kernels(gateway, safe):
    """Write the kernels' specifications, and have one of Python's kept ahead; return their languages."""
    kernels = os.environ.get("CLOISTER_KERNELS", "python").split(",")
    if "python" in kernels:
        python = os.path.realpath(sys.executable) if safe else f"{VENV}/bin/python"
        environ = write_kernel(python)
        from cloister_spares import install

        gateway.spares = install(python, environ, SITE)
    if "r" in kernels:
        write_r_kernel()
    return kernels


def server_of(app, config, booted):
    """A server with these settings: one that has booted before, or one that boots now."""
    import cloister_rooms

    cloister_rooms.name_session()
    alike = [ahead for ahead in booted if ahead.config == config]
    why = alike[0].unlike() if alike else "no other does with these settings"
    if why is None:
        return alike[0].adopt()
    if booted:
        sys.stderr.write(f"{ANEW}: {why}.\n")
    return app.initialize_server(argv=[], config=config)


if __name__ == "__main__":
    main()
