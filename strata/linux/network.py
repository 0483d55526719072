"""Network namespaces, made and entered in a child only, and what the kernel says of tables.

netlink(7), setns(2), unshare(2); for tables ``include/uapi/linux/netfilter/nf_tables.h``.
"""

from __future__ import annotations

import _socket
import ctypes
import errno
import os
import struct

from strata import command
from strata.linux import mount
from strata.linux.syscall import check, libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

CLONE_NEWNET = 0x40000000

_NETLINK_NETFILTER = 12
_GET_TABLE = (10 << 8) | 1  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETTABLE
_NEW_TABLE = 10 << 8
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_NFPROTO_INET = 1
_NFTA_TABLE_NAME = 1
_HEADER = struct.Struct("=IHHII")


def find_link(name: str) -> int | None:
    """The index of a link of this namespace, or None. Not from /sys, which shows another's."""
    try:
        return _socket.if_nametoindex(name)
    except OSError:
        return None


def list_links() -> set[str]:
    """The names of all links of this namespace."""
    return {name for _, name in _socket.if_nameindex()}


def has_table(name: str) -> bool:
    """Whether nftables has an ``inet`` table of that name here. OSError when it cannot tell."""
    padded = name.encode() + b"\0"
    attribute = struct.pack("=HH", 4 + len(padded), _NFTA_TABLE_NAME) + padded
    attribute += b"\0" * (-len(attribute) % 4)
    body = struct.pack("=BBH", _NFPROTO_INET, 0, 0) + attribute
    message = _HEADER.pack(_HEADER.size + len(body), _GET_TABLE, _NLM_F_REQUEST, 1, 0) + body
    sock = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW, _NETLINK_NETFILTER)
    try:
        sock.settimeout(5)
        sock.send(message)
        answer = sock.recv(8192)
    finally:
        sock.close()
    kind = _HEADER.unpack_from(answer)[1]
    if kind == _NLMSG_ERROR:
        number = -struct.unpack_from("=i", answer, _HEADER.size)[0]
        if number == errno.ENOENT:
            return False
        raise OSError(number, os.strerror(number), name)
    return bool(kind == _NEW_TABLE)


def spawn_in_network(
    path: str, argv: Sequence[str], *, make: bool, stdin: int, stderr: int,
    settings: Mapping[str, str] | None = None,
) -> int:  # fmt: skip
    """Run a program in the network namespace pinned at ``path``; returns its pid.

    ``make``: the namespace is new and pinned there first (the file exists), and is there when this
    returns. ``settings`` are written below /proc/sys/net in it. OSError when that fails.
    """
    program = command.get_program(argv[0])
    if command.observer is not None:
        command.observer(argv)
    answer, report = os.pipe()
    try:
        pid = os.fork()
    except BaseException:
        os.close(answer)
        os.close(report)
        raise
    if pid == 0:
        _enter(path, program, argv, make, stdin, stderr, report, settings or {})
    os.close(report)
    try:
        text = os.read(answer, 4096)
    finally:
        os.close(answer)
    if text != b"ready":
        os.waitpid(pid, 0)
        number, _, words = text.decode(errors="replace").partition("\0")
        raise OSError(int(number or 0), words or "the child of the network namespace died")
    return pid


def _enter(
    path: str, program: str, argv: Sequence[str], make: bool, stdin: int, stderr: int, report: int,
    settings: Mapping[str, str],
) -> NoReturn:  # fmt: skip
    try:
        if make:
            check(libc().unshare(ctypes.c_int(CLONE_NEWNET)), "unshare")
            mount.mount("/proc/self/ns/net", path, flags=mount.MS_BIND)
        else:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            check(libc().setns(ctypes.c_int(fd), ctypes.c_int(CLONE_NEWNET)), "setns")
        for name, value in settings.items():
            _write_setting(name, value)
        os.write(report, b"ready")
        null = os.open("/dev/null", os.O_RDWR)
        for target, source in ((0, stdin), (1, null), (2, stderr)):
            os.dup2(source, target)
        for fd in command.inherited:
            os.set_inheritable(fd, True)
        os.execve(program, list(argv), dict(command.ENVIRONMENT))
    except BaseException as error:
        number = (error.errno or 0) if isinstance(error, OSError) else 0
        os.write(report, f"{number}\0{error}".encode(errors="replace")[:4000])
    finally:
        os._exit(126)


def _write_setting(name: str, value: str) -> None:
    """A kernel without a protocol has no settings of it."""
    try:
        fd = os.open(f"/proc/sys/net/{name}", os.O_WRONLY)
    except FileNotFoundError:
        return
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def unpin(path: str) -> None:
    """Let a namespace go; with its last process its links go too, some time later. Idempotent.

    The file it was pinned at stays.
    """
    while True:
        try:
            mount.unmount(path, lazy=True)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return
            raise


def is_pinned(path: str) -> bool:
    """Whether a namespace, not just a file, is at ``path``."""
    try:
        return os.stat(path).st_dev == os.stat("/proc/self/ns/net").st_dev
    except FileNotFoundError:
        return False
