"""Network namespaces, and what the kernel says of links. netlink(7), setns(2), unshare(2).

A namespace belongs to a thread: it is made or entered in one of its own, which ends at once. What
stays is a channel, and a pin when it was made.
"""

from __future__ import annotations

import _socket
import _thread
import errno
import os

from strata.linux import mount, netlink
from strata.linux.syscall import call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

CLONE_NEWNET = 0x40000000
#: where the namespace of a thread is found
_OWN = "/proc/thread-self/ns/net"


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
    with netlink.Channel(netlink.NETFILTER) as channel:
        return netlink.has_table(channel, name)


def open_inside(
    path: str, *, make: bool, settings: Mapping[str, str] | None = None
) -> netlink.Channel:
    """A channel for links into the network namespace pinned at ``path``.

    ``make``: the namespace is new and pinned there first (the file exists). ``settings`` are
    written below /proc/sys/net in it. OSError when that fails.
    """
    found: list[netlink.Channel] = []
    failed: list[BaseException] = []
    done = _thread.allocate_lock()
    done.acquire()

    def work() -> None:
        try:
            if make:
                call("unshare", CLONE_NEWNET, what="unshare")
                mount.mount(_OWN, path, flags=mount.MS_BIND)
            else:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    call("setns", fd, CLONE_NEWNET, what="setns")
                finally:
                    os.close(fd)
            for name, value in (settings or {}).items():
                _write_setting(name, value)
            found.append(netlink.Channel(netlink.ROUTE))
        except BaseException as error:
            failed.append(error)
        finally:
            done.release()

    _thread.start_new_thread(work, ())
    try:
        done.acquire()
    except BaseException:  # a signal: what it does meanwhile would be known to nobody
        done.acquire()
        raise
    if failed:
        raise failed[0]
    return found[0]


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
