"""Loop devices: a file as a block device, loop(4).

One file is never attached twice: two devices over one file have two caches, and a file system
mounted through both is destroyed. So `find_device` compares device and inode numbers, which see
through other names of the file.
"""

from __future__ import annotations

import fcntl
import os
import struct

_CTL_GET_FREE = 0x4C82
_CONFIGURE = 0x4C0A
_GET_STATUS64 = 0x4C05
_CLR_FD = 0x4C01

_AUTOCLEAR = 4
_DIRECT_IO = 16

_CONFIG_SIZE = 0x130
_INFO_OFFSET = 8
_FLAGS_OFFSET = _INFO_OFFSET + 0x34
_NAME_OFFSET = _INFO_OFFSET + 0x38


def _encode_device(device: int) -> int:
    """A device number as the kernel's huge_encode_dev() writes it."""
    major, minor = os.major(device), os.minor(device)
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)


def find_device(path: str) -> str | None:
    """The loop device that this file is attached to (``/dev/loop3``), or None."""
    there = os.stat(path)
    wanted = (_encode_device(there.st_dev), there.st_ino)
    for name in os.listdir("/sys/block"):
        if not name.startswith("loop") or not os.path.exists(f"/sys/block/{name}/loop"):
            continue
        try:
            fd = os.open(f"/dev/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            status = fcntl.ioctl(fd, _GET_STATUS64, bytes(0xE8))
        except OSError:
            continue  # freed between the listing and now
        finally:
            os.close(fd)
        if struct.unpack_from("=QQ", status) == wanted:
            return f"/dev/{name}"
    return None


def attach(path: str, *, autoclear: bool = True, direct: bool = True) -> tuple[str, int]:
    """Attach a file to a free loop device; return its path and an open descriptor of it.

    With ``autoclear`` the device frees itself when the last user (the descriptor, then the
    mount) is gone, so a killed owner leaves nothing. ``direct`` asks for O_DIRECT on the file,
    which saves caching everything twice; where the file system has none it is left out.
    """
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        while True:
            number = fcntl.ioctl(control, _CTL_GET_FREE, 0)
            device = os.open(f"/dev/loop{number}", os.O_RDWR | os.O_CLOEXEC)
            flags = (_AUTOCLEAR if autoclear else 0) | (_DIRECT_IO if direct else 0)
            config = bytearray(_CONFIG_SIZE)
            struct.pack_into("=II", config, 0, file, 0)
            struct.pack_into("=I", config, _FLAGS_OFFSET, flags)
            name = os.fsencode(path)[-63:]
            config[_NAME_OFFSET : _NAME_OFFSET + len(name)] = name
            try:
                fcntl.ioctl(device, _CONFIGURE, config)
            except OSError as error:
                os.close(device)
                if error.errno == 16:  # EBUSY: another process took this number first
                    continue
                if error.errno == 22 and direct:
                    direct = False
                    continue
                raise
            return f"/dev/loop{number}", device
    finally:
        os.close(control)
        os.close(file)


def release(device: str) -> None:
    """Free a loop device (at its last user's end). Idempotent."""
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _CLR_FD, 0)
    except OSError as error:
        if error.errno != 6:  # ENXIO: nothing attached
            raise
    finally:
        os.close(fd)
