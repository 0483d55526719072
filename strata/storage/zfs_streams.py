"""Streams, holds and bookmarks of OpenZFS: what moves a dataset to another place and keeps the
moments that later moves begin from.

A stream carries a snapshot's data, never our properties: identity and mounting are the receiving
store's to decide. Sources: zfs-send(8), zfs-receive(8), zfs-hold(8), zfs-bookmark(8) of 2.1 to 2.3.
"""

from __future__ import annotations

import os

from strata import command
from strata.errors import CommandFailed, StorageError, UsageError
from strata.storage import layout
from strata.storage.driver import DatasetExists, DatasetNotFound
from strata.storage.zfs_dialect import classify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from strata.storage.zfs import Zfs

# What a sender may say about its dataset, but not about ours: where it is mounted, that it is
# shared to the network, and who it is.
_REFUSED = (
    "mountpoint", "canmount", "sharenfs", "sharesmb", "overlay", "strata:store", "strata:format",
)  # fmt: skip
# Blocks travel as large and as compressed as they lie on the disk, small ones inside their
# pointers; every pool of 2.1 or later takes them.
_AS_IT_LIES = ("-L", "-e", "-c")


def send(z: Zfs, snapshot: str, output: int, since: str | None, raw: bool) -> None:
    """`Driver.send`."""
    dataset, _ = layout.check_snapshot(snapshot)
    options = ["-w"] if raw else list(_AS_IT_LIES)
    if since is not None:
        start, _ = split_moment(since)
        if start != dataset:
            raise UsageError(f"{since} is not of {dataset}")
        options += ["-i", z.full_name(since)]
    _stream(["zfs", "send", *options, z.full_name(snapshot)], stdout=output)


def resume_send(token: str, output: int) -> None:
    """`Driver.resume_send`."""
    _stream(["zfs", "send", "-t", token], stdout=output)


def receive(
    z: Zfs, name: str, input: int, identity: Mapping[str, str], resumable: bool
) -> None:  # fmt: skip
    """`Driver.receive`."""
    layout.check_dataset(name)
    layout.check_identity(identity)
    options = ["-u", *(["-s"] if resumable else [])]
    for key in (*_REFUSED, *(f"strata:{own}" for own in layout.IDENTITY_KEYS)):
        if key.removeprefix("strata:") not in identity:
            options += ["-x", key]
    for key, value in identity.items():
        options += ["-o", f"strata:{key}={value}"]
    z.changes += 1
    _stream(["zfs", "receive", *options, z.full_name(name)], stdin=input)


def find_resume_token(z: Zfs, name: str) -> str | None:
    """`Driver.find_resume_token`."""
    try:
        values = z.get_properties(name, ["receive_resume_token"])
    except DatasetNotFound:
        return None
    return values.get("receive_resume_token") or None


def abort_receive(z: Zfs, name: str) -> None:
    """`Driver.abort_receive`."""
    layout.check_dataset(name)
    if find_resume_token(z, name) is None:
        raise StorageError(f"{name}: no receive broke off there")
    z.change("receive", "-A", z.full_name(name))


def hold(z: Zfs, snapshot: str, tag: str) -> None:
    """`Driver.hold`."""
    layout.check_snapshot(snapshot)
    layout.check_component(tag, "tag")
    try:
        z.change("hold", tag, z.full_name(snapshot))
    except DatasetExists:
        return


def release(z: Zfs, snapshot: str, tag: str) -> None:
    """`Driver.release`."""
    layout.check_snapshot(snapshot)
    layout.check_component(tag, "tag")
    try:
        z.change("release", tag, z.full_name(snapshot))
    except CommandFailed as error:
        if "no such tag" not in error.stderr:
            raise


def list_holds(z: Zfs, snapshot: str) -> list[str]:
    """`Driver.list_holds`."""
    layout.check_snapshot(snapshot)
    done = command.run(["zfs", "holds", "-H", z.full_name(snapshot)], classify=classify)
    return sorted(line.split("\t")[1] for line in done.text.splitlines() if "\t" in line)


def bookmark(z: Zfs, snapshot: str, bookmark: str) -> None:
    """`Driver.bookmark`."""
    dataset, _ = layout.check_snapshot(snapshot)
    start, _ = split_moment(bookmark)
    if start != dataset or "#" not in bookmark:
        raise UsageError(f"{bookmark!r} is no bookmark of {dataset}",
                         hint="write it as DATASET#NAME")  # fmt: skip
    z.change("bookmark", z.full_name(snapshot), z.full_name(bookmark))


def list_bookmarks(z: Zfs, name: str) -> dict[str, str]:
    """`Driver.list_bookmarks`."""
    layout.check_dataset(name)
    done = command.run(
        ["zfs", "list", "-Hp", "-d", "1", "-t", "bookmark", "-s", "createtxg", "-o", "name,guid",
         z.full_name(name)],
        classify=classify,
    )  # fmt: skip
    top = z.full_name(name)
    found = {}
    for line in done.text.splitlines():
        full, _, guid = line.partition("\t")
        dataset, _, short = full.partition("#")
        if dataset == top:
            found[f"{name}#{short}"] = guid
    return found


def destroy_bookmark(z: Zfs, bookmark: str) -> None:
    """`Driver.destroy_bookmark`."""
    dataset, _ = split_moment(bookmark)
    if "#" not in bookmark:
        raise UsageError(f"{bookmark!r} names no bookmark", hint="write it as DATASET#NAME")
    # OpenZFS destroys an absent bookmark without a word.
    if bookmark not in list_bookmarks(z, dataset):
        raise DatasetNotFound(f"{bookmark}: no such bookmark")
    z.change("destroy", z.full_name(bookmark))


def split_moment(name: str) -> tuple[str, str]:
    """Split ``dataset@snapshot`` or ``dataset#bookmark``; `UsageError` when it is neither."""
    return layout.check_snapshot(name.replace("#", "@", 1) if "@" not in name else name)


def _stream(argv: Sequence[str], *, stdin: int | None = None, stdout: int | None = None) -> None:
    """Run one end of a stream; what it says on stderr becomes the error."""
    read, write = os.pipe()
    try:
        pid = command.spawn(argv, stdin=stdin, stdout=stdout, stderr=write)
    except BaseException:
        os.close(read)
        raise
    finally:
        os.close(write)
    with open(read, "rb") as file:
        said = file.read()
    code = command.wait(pid)
    if code != 0:
        result = command.Result(code, b"", said)
        raise classify(result) or CommandFailed(list(argv), code, said.decode(errors="replace"))
