"""A cage for the process which unpacks what strangers made.

`confine` turns the calling process, which must be a fresh single-threaded child started for this,
into one that sees nothing but one directory: own mount, network, IPC and UTS namespaces, the
directory as root of the mount tree (nodev, nosuid, noexec), six capabilities, no way to gain
more, no core dumps, and no descriptors but those named. What unpacking could still do wrong then
stays inside the directory. Sources: capabilities(7), prctl(2), pivot_root(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import struct

from strata.linux import mount
from strata.linux.syscall import call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUTS = 0x04000000
_CLONE_NEWIPC = 0x08000000
_CLONE_NEWNET = 0x40000000

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_SECUREBITS = 28
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
# NOROOT, NO_SETUID_FIXUP, KEEP_CAPS (only its lock), NO_CAP_AMBIENT_RAISE, each with its lock.
_SECUREBITS = 0b11_10_11_11
_CAPABILITY_VERSION_3 = 0x20080522

_SIGINT, _SIGKILL, _SIG_IGN = 2, 9, 1

CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_MKNOD, CAP_SETFCAP = 0, 1, 3, 4, 27, 31
KEPT = (CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_MKNOD, CAP_SETFCAP)


def confine(root: str, keep: Iterable[int], *, file_size: int, parent: int) -> None:
    """Shut the calling process into ``root``; raises `OSError` and then must not go on.

    ``keep`` are the descriptors that stay open beside 0, 1 and 2. ``file_size`` (bytes) is the
    largest file it may write. When process ``parent`` ends, this one is killed.
    """
    _close_others(keep)
    call("prctl", _PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0, what="prctl")
    if os.getppid() != parent:
        raise OSError(3, "the parent is gone")
    # The terminal's interrupt goes to the parent, which ends us in order.
    ctypes.CDLL(None).signal(_SIGINT, ctypes.c_void_p(_SIG_IGN))
    namespaces = _CLONE_NEWNS | _CLONE_NEWNET | _CLONE_NEWIPC | _CLONE_NEWUTS
    call("unshare", namespaces, what="unshare")
    _change_root(root)
    os.umask(0)
    os.setgroups([])
    _limit(file_size)
    _drop_capabilities()


def _close_others(keep: Iterable[int]) -> None:
    position = 3
    for fd in sorted({fd for fd in keep if fd > 2}):
        os.closerange(position, fd)
        position = fd + 1
    # Larger than any descriptor: becomes one close_range(2).
    os.closerange(position, 1 << 20)


def _change_root(root: str) -> None:
    # Slave, so that unmounts at home still arrive in the moment before the old tree is dropped.
    mount.set_propagation("/", mount.MS_SLAVE)
    mount.bind(
        root, root,
        add=mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV | mount.MOUNT_ATTR_NOEXEC,
    )  # fmt: skip
    os.chdir(root)
    try:
        call("pivot_root", b".", b".", what="pivot_root")
    except OSError:
        # The root of a chroot or an initramfs cannot be pivoted away. Without CAP_SYS_CHROOT and
        # without descriptors outside, a changed root holds as well.
        os.chroot(".")
    else:
        call("umount2", b".", mount.MNT_DETACH, what="umount2")
    os.chdir("/")


def _limit(file_size: int) -> None:
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, file_size),
        (resource.RLIMIT_NOFILE, 1024),
        (resource.RLIMIT_AS, 4 << 30),
    ):
        _, hard = resource.getrlimit(kind)
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(kind, (value, value))


def _drop_capabilities() -> None:
    _prctl("securebits", _PR_SET_SECUREBITS, _SECUREBITS)
    _prctl("ambient capabilities", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in range(64):
        if capability not in KEPT:
            try:
                _prctl("bounding capabilities", _PR_CAPBSET_DROP, capability)
            except OSError as error:
                if error.errno == errno.EINVAL:
                    break  # past the last capability of this kernel
                raise
    low = sum(1 << capability for capability in KEPT)
    header = struct.pack("=2I", _CAPABILITY_VERSION_3, 0)
    # Two rows (capabilities 0-31, 32-63) of effective, permitted, inheritable.
    call("capset", header, struct.pack("=6I", low, low, 0, 0, 0, 0), what="capset")
    _prctl("no_new_privs", _PR_SET_NO_NEW_PRIVS, 1)
    _prctl("dumpable", _PR_SET_DUMPABLE, 0)


def _prctl(what: str, option: int, value: int) -> None:
    call("prctl", option, value, 0, 0, 0, what=what)
