"""The seccomp profile: deny by default. What is not named here answers EPERM, or ENOSYS where programs probe.

Every argument that the kernel reads as 32 bits is compared under a mask, so that junk in a register's upper half can
neither pass nor wrongly fail a comparison. libseccomp takes one comparison per argument in a rule; sets are spelled
as many rules. Docker's default profile was the starting point; unlike it (and Debian's) this one lets nobody make
namespaces, trace, load BPF, use io_uring, keyrings or raw sockets.
"""

import platform
from typing import Any

Rule = dict[str, Any]

EPERM, ENOSYS = 1, 38
U32 = 0xFFFFFFFF
CLONE_NEW = 0x7E020000  # NEWNS|NEWCGROUP|NEWUTS|NEWIPC|NEWUSER|NEWPID|NEWNET

ALLOW = [
    "accept", "accept4", "access", "alarm", "arch_prctl", "bind", "brk", "capget", "capset", "chdir", "chmod",
    "chown", "clock_getres", "clock_gettime", "clock_nanosleep", "close", "close_range", "connect",
    "copy_file_range", "creat", "dup", "dup2", "dup3", "epoll_create", "epoll_create1", "epoll_ctl",
    "epoll_pwait", "epoll_pwait2", "epoll_wait", "eventfd", "eventfd2", "execve", "execveat", "exit",
    "exit_group", "faccessat", "faccessat2", "fadvise64", "fallocate", "fchdir", "fchmod", "fchmodat",
    "fchmodat2", "fchown", "fchownat", "fcntl", "fdatasync", "fgetxattr", "flistxattr", "flock", "fork",
    "fremovexattr", "fsetxattr", "fstat", "fstatfs", "fsync", "ftruncate", "futex", "futex_waitv", "futex_wait",
    "futex_wake", "futex_requeue", "futimesat", "getcpu", "getcwd", "getdents", "getdents64", "getegid",
    "geteuid", "getgid", "getgroups", "getitimer", "getpeername", "getpgid", "getpgrp", "getpid", "getppid",
    "getpriority", "getrandom", "getresgid", "getresuid", "getrlimit", "get_robust_list", "getrusage", "getsid",
    "getsockname", "getsockopt", "gettid", "gettimeofday", "getuid", "getxattr", "inotify_add_watch",
    "inotify_init", "inotify_init1", "inotify_rm_watch", "ioprio_get", "ioprio_set", "kill", "lchown",
    "lgetxattr", "link", "linkat", "listen", "listxattr", "llistxattr", "lremovexattr", "lseek", "lsetxattr",
    "lstat", "madvise", "membarrier", "memfd_create", "mincore", "mkdir", "mkdirat", "mlock", "mlock2",
    "mlockall", "mmap", "mprotect", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedsend",
    "mq_unlink", "mremap", "msgctl", "msgget", "msgrcv", "msgsnd", "msync", "munlock", "munlockall", "munmap",
    "nanosleep", "newfstatat", "open", "openat", "openat2", "pause", "pidfd_open", "pidfd_send_signal", "pipe",
    "pipe2", "pkey_alloc", "pkey_free", "pkey_mprotect", "poll", "ppoll", "pread64", "preadv", "preadv2",
    "prlimit64", "pselect6", "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat",
    "readv", "recvfrom", "recvmmsg", "recvmsg", "removexattr", "rename", "renameat", "renameat2",
    "restart_syscall", "rmdir", "rseq", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo",
    "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_tgsigqueueinfo", "sched_get_priority_max",
    "sched_get_priority_min", "sched_getaffinity", "sched_getattr", "sched_getparam", "sched_getscheduler",
    "sched_rr_get_interval", "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler",
    "sched_yield", "select", "semctl", "semget", "semop", "semtimedop", "sendfile", "sendmmsg", "sendmsg",
    "sendto", "setfsgid", "setfsuid", "setgid", "setgroups", "setitimer", "setpgid", "setpriority", "setregid",
    "setresgid", "setresuid", "setreuid", "setrlimit", "set_robust_list", "setsid", "setsockopt",
    "set_tid_address", "setuid", "setxattr", "shmat", "shmctl", "shmdt", "shmget", "shutdown", "sigaltstack",
    "signalfd", "signalfd4", "socketpair", "splice", "stat", "statfs", "statx", "symlink", "symlinkat", "sync",
    "sync_file_range", "syncfs", "sysinfo", "tee", "tgkill", "time", "timer_create", "timer_delete",
    "timer_getoverrun", "timer_gettime", "timer_settime", "timerfd_create", "timerfd_gettime", "timerfd_settime",
    "times", "tkill", "truncate", "umask", "uname", "unlink", "unlinkat", "utime", "utimensat", "utimes", "vfork",
    "wait4", "waitid", "write", "writev",
]  # fmt: skip

# Probed by programs which fall back on ENOSYS only (never allowed).
NOSYS = [
    "clone3", "io_setup", "io_submit", "io_getevents", "io_pgetevents", "io_cancel", "io_destroy",
    "get_mempolicy", "set_mempolicy", "mbind", "move_pages", "landlock_create_ruleset", "landlock_add_rule",
    "landlock_restrict_self", "memfd_secret", "cachestat", "statmount", "listmount", "map_shadow_stack",
    "process_mrelease",
]  # fmt: skip

# Terminals (asking and setting, not injecting), files, reading of interfaces: asm-generic/ioctls.h, linux/sockios.h.
IOCTL = [
    0x5401, 0x5402, 0x5403, 0x5404, 0x5405, 0x5406, 0x5407, 0x5408, 0x802C542A, 0x402C542B, 0x402C542C,
    0x402C542D, 0x5409, 0x540A, 0x540B, 0x5425, 0x540C, 0x540D, 0x540E, 0x5422, 0x540F, 0x5410, 0x5429, 0x5411,
    0x5413, 0x5414, 0x541B, 0x5420, 0x80045430, 0x40045431, 0x5441, 0x80045438, 0x80045439, 0x80045440, 0x5421,
    0x5450, 0x5451, 0x5452, 0x5460, 0x2, 0x40049409, 0x4020940D, 0xC020660B, 0x80086601, 0x801C581F, 0x8910,
    0x8912, 0x8913, 0x8915, 0x8919, 0x891B, 0x8921, 0x8927, 0x8933, 0x8905, 0x8906, 0x80045200,
]  # fmt: skip
# Deliberately absent: TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD.

PRCTL = [1, 2, 3, 4, 7, 8, 15, 16, 21, 23, 27, 29, 30, 34, 36, 37, 38, 39, 40, 41, 42, 47, 0x53564D41]
# absent: PR_SET_SECCOMP 22, PR_SET_MM 35, PR_SET_PTRACER, PR_CAPBSET_DROP, PR_SET_SECUREBITS ...

PERSONALITY = [0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF]
S_IFMT, S_IFIFO, S_IFREG, S_IFSOCK = 0o170000, 0o010000, 0o100000, 0o140000
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
STREAM, DGRAM, RAW, SEQPACKET = 1, 2, 3, 5
SOCKET = [
    (AF_UNIX, STREAM, 0),
    (AF_UNIX, DGRAM, 0),
    (AF_UNIX, SEQPACKET, 0),
    (AF_NETLINK, RAW, 0),
    (AF_NETLINK, DGRAM, 0),
]  # NETLINK_ROUTE only
SOCKET += [(f, t, p) for f in (AF_INET, AF_INET6) for t, p in ((STREAM, 0), (STREAM, 6), (DGRAM, 0), (DGRAM, 17))]


def _masked(index: int, value: int, mask: int = U32) -> dict[str, Any]:
    return {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}


def _allow(names: list[str], *arguments: dict[str, Any]) -> Rule:
    rule: Rule = {"names": names, "action": "SCMP_ACT_ALLOW"}
    return {**rule, "args": list(arguments)} if arguments else rule


def profile() -> dict[str, Any]:
    """The ``linux.seccomp`` object of an OCI bundle, for this machine's architecture alone (it compiles faster)."""
    architecture = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}[platform.machine()]
    rules = [_allow(sorted(ALLOW)), _allow(["clone"], _masked(0, 0, CLONE_NEW))]
    rules += [_allow(["personality"], _masked(0, value)) for value in PERSONALITY]
    rules += [
        _allow(["socket"], _masked(0, family), _masked(1, kind, 0xF), _masked(2, protocol))
        for family, kind, protocol in SOCKET
    ]
    rules += [_allow(["ioctl"], _masked(1, request)) for request in IOCTL]
    rules += [_allow(["prctl"], _masked(0, option)) for option in PRCTL]
    for name, index in (("mknod", 1), ("mknodat", 2)):
        rules += [_allow([name], _masked(index, kind, S_IFMT)) for kind in (0, S_IFIFO, S_IFREG, S_IFSOCK)]
    rules.append({"names": sorted(NOSYS), "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS})
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": EPERM,
        "architectures": [architecture],
        "syscalls": rules,
    }
