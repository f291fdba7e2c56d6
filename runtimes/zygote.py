"""The zygote: a process that has imported what a Jupyter server needs, and is forked into prepared sandboxes.

It runs trusted code only: the platform's own, pinned set of Jupyter packages, never an environment that somebody
declared, and it is given no secret and no byte of anybody's. It keeps the few capabilities that entering a sandbox
takes, has no network, and sees no file but those packages. A child enters all of the sandbox's namespaces, gives up
every capability for good, loads the same seccomp filter that the runtime loads, and only then reads anything there.
"""

import base64
import ctypes
import gc
import json
import os
import random
import resource
import signal
import socket
import struct
import sys
import time
import traceback

CONTROL = int(os.environ.get("CLOISTER_ZYGOTE_SOCKET", "3"))
WARM_SOCKET = "/dev/shm/cloister-warm"
AGENT_SECONDS = 20.0
USER = 1000
START = "/opt/cloister/jupyter/start.py"

LIBC = ctypes.CDLL(None, use_errno=True)
NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = (
    0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE, MS_REMOUNT = 1, 2, 4, 4096, 16384, 1 << 18, 32
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAP_AMBIENT = 24, 38, 4, 22, 47
CAPABILITIES = 41
KEPT = {6, 7, 8, 18, 19, 21}  # SETGID SETUID SETPCAP SYS_CHROOT SYS_PTRACE SYS_ADMIN
SYS_KEYCTL = 250 if os.uname().machine == "x86_64" else 219
SYS_CAPSET = 126 if os.uname().machine == "x86_64" else 91


def check(result, what):
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def capset(kept):
    """Keep these capabilities and no others (effective and permitted; nothing is inheritable)."""
    low = sum(1 << c for c in kept if c < 32)
    high = sum(1 << (c - 32) for c in kept if c >= 32)
    header = struct.pack("=Ii", 0x20080522, 0)
    check(LIBC.syscall(SYS_CAPSET, header, struct.pack("=6I", low, low, 0, high, high, 0)), "capset")


def drop_bounding(kept):
    for capability in range(CAPABILITIES):
        if capability not in kept:
            LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


# -- making the place that it lives in


def mount(source, target, kind=None, flags=0, data=None):
    encode = lambda text: None if text is None else text.encode()  # noqa: E731
    check(LIBC.mount(encode(source), encode(target), encode(kind), flags, encode(data)), f"mount {target}")


def settle(plan):
    """Leave the host's files, network and capabilities, and begin anew with the trusted interpreter."""
    check(LIBC.unshare(NEWNS | NEWNET | NEWIPC | NEWUTS), "unshare")
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    root = plan["root"]
    mount(plan["rootfs"], root, None, MS_BIND)
    for source, inside in plan["binds"]:
        target = f"{root}/{inside}"
        mount(source, target, None, MS_BIND | MS_REC)
        mount(None, target, None, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID)
    for inside in ("tmp", "home/user", "dev"):
        mount("tmpfs", f"{root}/{inside}", "tmpfs", MS_NOSUID, "size=64m,mode=1777")
    os.mkdir(f"{root}/dev/shm")
    for device in ("null", "zero", "urandom"):
        with open(f"{root}/dev/{device}", "w"):
            pass
        mount(f"/dev/{device}", f"{root}/dev/{device}", None, MS_BIND)
    os.chroot(root)
    os.chdir("/")
    drop_bounding(KEPT)
    capset(KEPT)
    environ = {**plan["environ"], "CLOISTER_ZYGOTE": "1", "CLOISTER_ZYGOTE_SOCKET": str(CONTROL)}
    os.execve(plan["python"], [plan["python"], "-S", "/opt/cloister/zygote.py"], environ)


# -- warming up


def load_start():
    import importlib.util

    spec = importlib.util.spec_from_file_location("cloister_start", START)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rehearse(start):
    """Boot once in a child, and do here ahead what that took, for all who come."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        code = 1
        try:
            took = json.dumps(start.rehearsal()).encode()
            with os.fdopen(write, "wb") as file:
                file.write(took)
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        data = file.read()
    os.waitpid(child, 0)
    if data:
        start.learn(json.loads(data))


# -- forks


def enter(order, bpf):
    """Become a process of a sandbox like any other there, in everything but where the memory came from."""
    descriptor = os.pidfd_open(order["pid"])
    LIBC.syscall(SYS_KEYCTL, 1, None)  # a session keyring of its own
    for kind, value in ((resource.RLIMIT_NOFILE, order["files"]), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(kind, (value, value))
    everything = NEWUSER | NEWNS | NEWPID | NEWNET | NEWIPC | NEWUTS | NEWCGROUP
    check(LIBC.setns(descriptor, everything), "setns")
    os.close(descriptor)
    os.chdir("/")
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    LIBC.prctl(PR_CAP_AMBIENT, 4, 0, 0, 0)
    drop_bounding(set())
    capset(set())
    check(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    check(LIBC.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), "dumpable")
    os.umask(0o027)
    program = ctypes.create_string_buffer(bpf, len(bpf))
    fprog = struct.pack("=HxxxxxxQ", len(bpf) // 8, ctypes.addressof(program))
    check(LIBC.prctl(PR_SET_SECCOMP, 2, ctypes.c_char_p(fprog), 0, 0), "seccomp")


def become(order, out, err, start, booted):
    """The program itself: the second child, inside the sandbox's process namespace."""
    os.setsid()
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as the interpreter itself does
    signal.signal(signal.SIGINT, signal.default_int_handler)
    null = os.open("/dev/null", os.O_RDONLY)
    for source, target in ((null, 0), (out, 1), (err, 2)):
        os.dup2(source, target)
    os.closerange(3, 256)
    sys.stdout.reconfigure(line_buffering=True)
    os.environ.clear()
    os.environ.update(order["environ"])
    random.seed()
    os.chdir(order["cwd"])
    sys.argv = list(order["argv"])
    code = 0
    try:
        start.main(order["token"], booted)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def find_agent():
    """The sandbox's first process, which is being prepared while the program already starts."""
    end = time.monotonic() + AGENT_SECONDS
    while True:
        agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            agent.connect(WARM_SOCKET)
            return agent
        except OSError:
            agent.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.003)


def fork(order, bpf, start, booted, go):
    """The first child: enters the sandbox, forks the program there, and tells the agent how it ended."""
    child = None
    try:
        os.read(go, 1)  # the platform has put this process into the sandbox's control groups
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        enter(order, bpf)
        (out, out_end), (err, err_end) = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            become(order, out_end, err_end, start, booted)
        os.write(CONTROL, json.dumps({"id": order["id"], "running": True}).encode())
        os.close(CONTROL)
        os.close(out_end)
        os.close(err_end)
        agent = find_agent()
        socket.send_fds(agent, [b"."], [out, err])
        os.close(out)
        os.close(err)
        _, status = os.waitpid(child, 0)
        agent.sendall(json.dumps({"exit": os.waitstatus_to_exitcode(status)}).encode())
    except BaseException as error:
        if child is None:
            os.write(CONTROL, json.dumps({"id": order["id"], "error": f"{type(error).__name__}: {error}"}).encode())
        else:
            os.kill(child, signal.SIGKILL)
    os._exit(0)


def serve():
    sys.path[:0] = ["/opt/jupyter/lib"]
    start = load_start()
    control = socket.socket(fileno=CONTROL)
    setup = json.loads(control.recv(1 << 20))
    bpf = base64.b64decode(setup["bpf"])
    start.preload()
    rehearse(start)
    booted = start.boot_ahead()
    gc.collect()
    gc.freeze()
    control.send(json.dumps({"ready": True, "modules": len(sys.modules)}).encode())
    waiting = {}
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody here waits for the first children
    while True:
        data = control.recv(1 << 20)
        if not data:
            return
        order = json.loads(data)
        if "go" in order:
            write = waiting.pop(order["go"], None)
            if write is not None:
                os.write(write, b"g")
                os.close(write)
            continue
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(write)
            for other in waiting.values():
                os.close(other)
            fork(order, bpf, start, booted, read)
        os.close(read)
        waiting[order["id"]] = write
        control.send(json.dumps({"id": order["id"], "forked": child}).encode())


if __name__ == "__main__":
    if os.environ.get("CLOISTER_ZYGOTE") == "1":
        serve()
    else:
        settle(json.loads(sys.argv[1]))
