"""What attacks use inside a sandbox: this file is sent along as ``attack.py``, and never imported by the tests."""

import ctypes
import errno
import json
import os
import sys

libc = ctypes.CDLL(None, use_errno=True)
results = {}


def syscall(number, *arguments):
    """A bare system call; an error is raised as `OSError`."""
    ctypes.set_errno(0)
    result = libc.syscall(
        ctypes.c_long(number), *(a if isinstance(a, bytes) else ctypes.c_ulong(a & (2**64 - 1)) for a in arguments)
    )
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def attempt(name, function, *arguments):
    """Do it, and note ``[True, what came back]`` or ``[False, why not]``."""
    try:
        results[name] = [True, repr(function(*arguments))[:300]]
    except OSError as error:
        results[name] = [False, errno.errorcode.get(error.errno, str(error))]


def in_child(function, *arguments):
    """Do it in a process of its own; return its answer, or raise `OSError` when it fails or is killed."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, json.dumps([0, repr(function(*arguments))[:300]]).encode())
        except OSError as error:
            os.write(write, json.dumps([error.errno, ""]).encode())
        finally:
            os._exit(0)
    os.close(write)
    said = os.read(read, 4096)
    os.close(read)
    _, status = os.waitpid(pid, 0)
    if not said:
        raise OSError(f"ended by signal {-os.waitstatus_to_exitcode(status)}")
    number, answer = json.loads(said)
    if number:
        raise OSError(number, os.strerror(number))
    return answer


def report(**more):
    """Print what happened, as the last line."""
    results.update(more)
    sys.stdout.write("\n" + json.dumps(results) + "\n")
    sys.stdout.flush()
