"""The first process of every sandbox.

It begins knowing nothing but where the inner API listens and a token that works once. It dials, is told what to be,
starts the program, passes its output on, forwards loopback ports to the platform's sockets, reaps children, and stops
when told. Everything happens in one thread around one selector: a fork bomb in here must not stop it from listening.

The output is slowed, not lost: when the platform reads slowly, the program's pipes are left full.
"""

import binascii
import errno
import os
import sys
import time

from channel import BROKEN, OPENED, PING, PONG, TEXT, Channel
from forwards import HIGH_WATER, Forwards, push
from lean import READ, WRITE, Selector, accept, dumps, listen_on, loads, not_dumpable, receive_fds, signal, unix
from output import Output

RUN = "/run/cloister"
TOKEN_FILE = "/dev/shm/cloister-token"
CONFIGURATION_FILE = "/dev/shm/cloister-configuration"
FORWARDS = {3127: f"{RUN}/inner.sock", 3128: f"{RUN}/egress.sock"}
MAX_PENDING = 8  # messages kept while the platform is away; the rest waits in the pipes
WARM_SOCKET = "/dev/shm/cloister-warm"


class Agent:
    """The loop."""

    def __init__(self):
        self.selector = Selector()
        self.token = open(f"{RUN}/token").read().strip()
        self.sock = None
        self.channel = None
        self.out = b""
        self.ready = False
        self.retry_at = 0.0
        self.given = None
        self.assignment = None
        self.child = None
        self.waiter = None  # an interpreter that has started, and the pipe by which it hears what to run
        self.door = self.guest = None
        self.output = Output(self.selector, self.send)
        self.exit = None
        self.exit_sent = False
        self.kill_at = None
        self.grace = 5.0
        self.forwards = Forwards(self.selector)
        self.pending = []  # what could not be sent while the platform was away

    # -- the control channel

    def dial(self):
        self.sock = unix()
        try:
            self.sock.connect(f"{RUN}/inner.sock")
        except OSError:
            self.hang_up()
            return
        self.sock.setblocking(False)
        self.channel = Channel()
        self.out = self.channel.request("/v1/control")
        self.selector.register(self.sock, READ | WRITE, self.on_channel)

    def hang_up(self):
        if self.sock is not None:
            self.selector.unregister(self.sock)
            self.sock.close()
        self.sock = self.channel = None
        self.ready = False
        self.out = b""
        self.retry_at = time.monotonic() + 0.2

    def send(self, **message):
        if not self.ready:
            self.pending.append(message)
            self.weigh()
            return
        self.out += self.channel.frame(TEXT, dumps(message).encode())
        self.flush()

    def flush(self):
        if self.sock is None:
            return
        try:
            self.out = push(self.sock, self.out)
        except OSError:
            self.hang_up()
            return
        self.selector.modify(self.sock, READ | WRITE if self.out else READ)
        self.weigh()

    def weigh(self):
        """Leave the program's pipes full while too much waits to be sent."""
        self.output.pause(len(self.out) > HIGH_WATER or (not self.ready and len(self.pending) >= MAX_PENDING))

    def on_channel(self, mask):
        if mask & WRITE:
            self.flush()
        if self.sock is None or not mask & READ:
            return
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.hang_up()
            return
        for kind, value in self.channel.received(data):
            if self.channel is None:  # nobody took the answer to what came just before
                return
            if kind == OPENED:
                self.out += self.channel.frame(TEXT, dumps({"type": "HELLO", "token": self.token}).encode())
            elif kind == TEXT:
                self.on_message(loads(value))
            elif kind == PING:
                self.out += self.channel.frame(PONG, value)
            elif kind == BROKEN:
                self.hang_up()
                return
        self.flush()

    def on_message(self, message):
        kind = message["type"]
        if kind == "WAIT":
            self.token = message["next_token"]
            if self.waiter is None:
                self.start_waiter(message)
        elif kind == "INIT":
            self.token = message.get("next_token", self.token)
            self.ready = True
            self.exit_sent = False  # the platform may not have heard it
            self.out += self.channel.frame(TEXT, b'{"type": "READY"}')
            self.given = message
            pending, self.pending = self.pending, []
            for waiting in pending:
                self.send(**waiting)
            self.weigh()
        elif kind == "START" and self.assignment is None and self.given is not None:
            self.begin(self.given)  # only now: the token that lay in the open is gone
        elif kind == "EXEC" and self.door is not None:
            self.close_door()
            self.start_program()  # nobody is forked in: start it from its files
        elif kind == "TERMINATE":
            self.terminate()
        elif kind == "RESTART" and self.assignment is not None:
            self.kill_all()
            self.reap()
            self.start_program()

    # -- the program

    def begin(self, assignment):
        self.assignment = assignment
        self.grace = assignment.get("grace", 5.0)
        descriptor = os.open(TOKEN_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o400)
        os.write(descriptor, assignment["access_token"].encode())
        os.close(descriptor)
        if assignment.get("configuration") is not None:
            descriptor = os.open(CONFIGURATION_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o400)
            with os.fdopen(descriptor, "w") as file:
                file.write(assignment["configuration"])
        home = assignment["cwd"]
        for path, text in assignment.get("files", {}).items():
            full = os.path.normpath(os.path.join(home, path))
            if not full.startswith(home + "/"):
                continue
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "wb") as file:
                file.write(binascii.a2b_base64(text))
        for port, path in FORWARDS.items():
            if os.path.exists(path):
                self.forwards.listen(port, path)
        if assignment.get("port"):
            self.forwards.listen_for_app(assignment["port"])
        if assignment.get("warm"):
            self.open_door()
        else:
            self.start_program()

    # -- a program that is forked into this sandbox instead of being started here; it starts while we still dial

    def open_door(self):
        """Wait for the zygote's child, which takes its output from us; meanwhile nothing else runs here."""
        self.door = unix()
        listen_on(self.door, WARM_SOCKET, 1)
        self.selector.register(self.door, READ, lambda _mask: self.let_in())
        self.send(type="AWAIT")

    def close_door(self):
        self.selector.unregister(self.door)
        self.door.close()
        self.door = None
        os.unlink(WARM_SOCKET)

    def let_in(self):
        self.guest = accept(self.door)
        self.guest.settimeout(5)
        try:
            read_out, read_err = receive_fds(self.guest, 2)
        except (OSError, ValueError):
            self.guest.close()
            self.guest = None
            return
        self.guest.setblocking(False)
        self.close_door()
        self.output.follow(read_out, read_err)
        self.selector.register(self.guest, READ, lambda _mask: self.on_guest())
        self.send(type="STARTED")

    def on_guest(self):
        try:
            said = self.guest.recv(4096)
        except OSError:
            said = b""
        self.selector.unregister(self.guest)
        self.guest.close()
        self.guest = None
        self.exit = loads(said)["exit"] if said else -9
        self.kill_all()

    def start_waiter(self, wanted):
        """Start the interpreter of whatever will be run here."""
        read_order, write_order = os.pipe()
        pid = self.spawn({**wanted, "cwd": "/"}, read_order)
        os.close(read_order)
        self.waiter = (pid, write_order) if pid is not None else None
        if pid is None:
            os.close(write_order)

    def start_program(self):
        self.child = self.hand_over() or self.spawn(self.assignment, None)
        if self.child is not None:
            self.send(type="STARTED")

    def hand_over(self):
        """Tell the interpreter that waits what to run; return its process id, or None when there is none."""
        if self.waiter is None:
            return None
        (pid, order), self.waiter = self.waiter, None
        told = {name: self.assignment[name] for name in ("command", "cwd", "environ")}
        try:
            os.write(order, dumps(told).encode())  # into a pipe that is empty and larger than this
        except OSError:
            return None  # it is gone
        finally:
            os.close(order)
        return pid

    def spawn(self, wanted, order):
        """Start a command, with its output to us; return its process id, or None when that cannot be."""
        read_out, write_out = os.pipe()
        read_err, write_err = os.pipe()
        try:
            pid = os.fork()
        except OSError as error:
            self.send(type="STATUS", level="ERROR", text=f"cannot start: {error.strerror}\n")
            self.exit = 71
            for descriptor in (read_out, write_out, read_err, write_err):
                os.close(descriptor)
            return None
        if pid == 0:
            self.exec_program(wanted, order, write_out, write_err)
        os.close(write_out)
        os.close(write_err)
        self.output.follow(read_out, read_err)
        return pid

    def exec_program(self, wanted, order, out, err):
        try:
            os.setsid()
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            source = os.open("/dev/null", os.O_RDONLY) if order is None else order
            for given, target in ((source, 0), (out, 1), (err, 2)):
                os.dup2(given, target)
            os.closerange(3, 1024)
            os.chdir(wanted["cwd"])
            command = wanted["command"]
            os.execvpe(command[0], command, {**os.environ, **wanted.get("environ", {})})
        except BaseException as error:
            os.write(2, f"cannot run {wanted['command'][0]!r}: {error}\n".encode())
        os._exit(127)

    def reap(self):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self.waiter is not None and pid == self.waiter[0]:
                os.close(self.waiter[1])
                self.waiter = None
            if pid == self.child:
                self.child = None
                self.exit = os.waitstatus_to_exitcode(status)
                self.kill_all()

    def kill_all(self):
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def terminate(self):
        if self.child is None and self.guest is None:
            self.exit = 0 if self.exit is None else self.exit
            return
        try:
            if self.guest is None:
                os.killpg(self.child, signal.SIGTERM)
            else:
                os.kill(-1, signal.SIGTERM)  # the guest is nobody's child here
        except ProcessLookupError:
            pass
        self.kill_at = time.monotonic() + self.grace

    # -- the loop

    def run(self):
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self.terminate())
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)

        def on_signal(_mask):
            try:
                os.read(wake_read, 512)
            except BlockingIOError:
                pass

        self.selector.register(wake_read, READ, on_signal)
        while True:
            now = time.monotonic()
            if self.sock is None and now >= self.retry_at:
                self.dial()
            if self.kill_at is not None and now >= self.kill_at:
                self.kill_at = None
                self.kill_all()
            waits = [self.retry_at - now] if self.sock is None else []
            waits += [self.kill_at - now] if self.kill_at is not None else []
            self.selector.serve(max(0.0, min(waits)) if waits else None)
            self.reap()
            if self.exit is not None and not self.output.levels and not self.exit_sent and self.ready:
                self.exit_sent = True
                self.send(type="EXIT", code=self.exit)


def main():
    not_dumpable()  # programs of the same user can't look in here
    try:
        Agent().run()
    except OSError as error:
        sys.stderr.write(f"agent: {errno.errorcode.get(error.errno or 0, '?')} {error}\n")
        raise
