"""Hostile layers and archives: one clear error, or contained, and never a trace outside."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import tarfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zstandard
from helpers.layers import (
    Workshop,
    archive,
    digest_of,
    entry,
    folder,
    hardlink,
    patch,
    symlink,
    workshop,
)

from strata.archive import tar
from strata.archive.apply import Limits, apply_stream
from strata.archive.images import open_archive
from strata.archive.layers import reassemble, verify
from strata.errors import ArchiveError, DigestMismatch, StrataError
from strata.linux import locks

pytestmark = pytest.mark.root
__all__ = ["workshop"]

NOISE = random.Random(3).randbytes(9000)

REFUSED: dict[str, tuple[bytes, str]] = {
    "parent": (archive(entry("../outside/secret", b"x")), "outside of its root"),
    "parent inside": (archive(entry("a/../../outside/secret", b"x")), "outside of its root"),
    "parent after slash": (archive(entry("/../outside/secret", b"x")), "outside of its root"),
    "parent as directory": (archive(folder("..")), "outside of its root"),
    "parent in a pax path": (archive(entry("../" + "x" * 200, b"x")), "outside of its root"),
    "hard link to a parent": (archive(hardlink("a", "../outside/secret")), "outside of its root"),
    "hard link through a link": (
        archive(symlink("up", "../../outside"), hardlink("a", "up/secret")), "not there",
    ),
    "absolute hard link": (archive(hardlink("a", "/etc/shadow")), "not there"),
    "hard link to itself": (archive(hardlink("a", "a")), "not there"),
    "hard link to a directory": (archive(folder("d"), hardlink("a", "d")), "cannot unpack"),
    "symlink chain": (
        archive(symlink("a", "/proc/self/root"), entry("a/outside", b"x")), "cannot unpack",
    ),
    "symlink loop": (archive(symlink("a", "b"), symlink("b", "a"), entry("a/x")), "cannot unpack"),
    "file as directory": (archive(entry("a"), entry("a/b")), "cannot unpack"),
    "root replaced": (archive(symlink("./", "/etc")), "replaces its root"),
    "whiteout of the root": (archive(entry(".wh..")), "malformed whiteout"),
    "whiteout of the parent": (archive(folder("d"), entry("d/.wh...")), "malformed whiteout"),
    "whiteout of nothing": (archive(entry(".wh.")), "malformed whiteout"),
    "whiteout with a slash": (archive(entry("d/.wh.x/../../y")), "outside of its root"),
    "inside a whiteout": (archive(entry(".wh.x/y")), "inside a whiteout"),
    "empty name": (archive(patch(entry("a"), 0, b"\0")), "empty name"),
    "unknown type": (archive(patch(entry("a"), 156, b"Z")), "unknown type"),
    "our own attribute": (
        archive(entry("a", xattrs={b"trusted.strata.id": b"1"})), "reserved attribute",
    ),
    "too deep": (archive(entry("d/" * 300 + "x")), "components"),
    "component too long": (archive(entry("x" * 256)), "cannot unpack"),
    "owner out of range": (archive(entry("a", uid=2**32 - 1)), "out of range"),
    "device out of range": (
        archive(entry("a", kind=tar.BLOCKDEV, major=2**20, minor=1)), "out of range",
    ),
    "truncated body": (archive(entry("a", b"x" * 9000))[:4000], "truncated"),
    "truncated header": (archive(entry("a"))[:100], "truncated"),
    "bad checksum": (b"b" + archive(entry("a"))[1:], "checksum"),
    "truncated gzip": (gzip.compress(archive(entry("a", os.urandom(9000))))[:-200], "truncated"),
    "damaged gzip": (
        gzip.compress(archive(entry("a", NOISE)))[:2000] + bytes(200)
        + gzip.compress(archive(entry("a", NOISE)))[2200:], "damaged",
    ),
    "gzip with garbage": (gzip.compress(archive(entry("a"))) + b"garbage", "gzip stream"),
    "truncated zstd": (
        zstandard.ZstdCompressor().compress(archive(entry("a", os.urandom(9000))))[:-3],
        "truncated",
    ),
    "zstd cut before its checksum": (
        zstandard.ZstdCompressor(write_checksum=True).compress(archive(entry("a")))[:-4],
        "truncated",
    ),
    "not an archive": (b"#!/bin/sh\n" * 100, "damaged"),
    "sparse map beyond the file": (
        archive(patch(patch(patch(entry("a", b"x" * 10), 156, b"S"), 386, b"77777777777\0"
                            b"00000000012\0"), 483, b"00000001000\0")), "sparse map",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_layer_gives_one_line_and_touches_nothing(workshop: Workshop, name: str) -> None:
    data, words = REFUSED[name]
    with pytest.raises(ArchiveError, match=words) as caught:
        workshop.apply(data)
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 125
    assert not os.path.exists(f"{workshop.tree}/.strata/tar-split.zst")
    assert not os.path.exists(f"{workshop.tree}/.strata/bodies")
    workshop.assert_outside_is_untouched()


def test_absolute_names_land_inside(workshop: Workshop) -> None:
    """Buildpacks make such layers, and Docker and Podman read them this way."""
    outside = f"{workshop.outside}/secret"
    data = archive(entry(outside, b"mine"), entry("//etc//passwd", b"inside"))
    workshop.apply(data)
    verify(workshop.tree, digest_of(data))
    assert workshop.read(outside.lstrip("/")) == b"mine"
    assert workshop.read("etc/passwd") == b"inside"
    workshop.assert_outside_is_untouched()


def test_symbolic_links_to_the_outside_lead_nowhere(workshop: Workshop) -> None:
    outside = workshop.outside
    data = archive(
        symlink("absolute", outside), symlink("relative", "../outside"),
        folder(outside), folder("outside"),
        entry("absolute/secret", b"inside"), entry("relative/secret", b"inside too"),
        entry("absolute/.wh.secret"), entry("relative/.wh..wh..opq"),
    )  # fmt: skip
    workshop.apply(data)
    verify(workshop.tree, digest_of(data))
    assert workshop.read(f"{outside.lstrip('/')}/secret") == b"inside"
    assert workshop.read("outside/secret") == b"inside too"
    workshop.assert_outside_is_untouched()


def test_a_link_left_by_one_layer_does_not_lead_the_next_one_out(workshop: Workshop) -> None:
    workshop.apply(archive(symlink("door", workshop.outside)))
    with pytest.raises(ArchiveError):
        workshop.apply(archive(entry("door/secret", b"x")))
    with pytest.raises(ArchiveError):
        workshop.apply(archive(entry("door/.wh.secret"), entry("door/x")))
    with pytest.raises(ArchiveError):
        workshop.apply(archive(hardlink("grab", "door/secret")))
    # An entry of the same name replaces the link and never writes through it.
    workshop.apply(archive(entry("door", b"file")))
    assert workshop.read("door") == b"file"
    workshop.assert_outside_is_untouched()


def test_a_layer_that_holds_pythons_library_is_not_imported(workshop: Workshop) -> None:
    import sys

    library = os.path.dirname(os.__file__)
    evil = b"import os\nos.mkdir('/owned')\n"
    modules = ("base64", "urllib/parse", "traceback", "linecache", "encodings/idna", "json/tool")
    planted = [entry(f"{library}/{name}.py", evil) for name in modules]
    planted += [entry(f"{path}/base64.py", evil) for path in sys.path if path.startswith("/")]
    body = tar._pax_record(b"LIBARCHIVE.xattr.user.x", b"aGk=")
    planted += [patch(entry("x", body), 156, b"x") + entry("attributed")]
    with pytest.raises(ArchiveError):
        workshop.apply(archive(*planted, entry("../out")))
    assert "owned" not in workshop.names()


def test_the_cage_has_six_capabilities_and_no_way_out(workshop: Workshop) -> None:
    """Look at the child while it waits for the rest of its layer."""
    seen: dict[str, str] = {}
    own = {name: os.readlink(f"/proc/self/ns/{name}") for name in ("mnt", "net", "ipc", "uts")}

    def pieces() -> Iterator[bytes]:
        data = archive(entry("a", b"x" * 100_000))
        yield data[:50_000]
        pid = find_child()
        wait_until(lambda: os.path.exists(f"{workshop.root}/a"))
        with open(f"/proc/{pid}/status") as file:
            for line in file:
                key, _, value = line.partition(":")
                seen[key] = value.strip()
        for name in own:
            seen[name] = os.readlink(f"/proc/{pid}/ns/{name}")
        seen["fds"] = " ".join(sorted(os.listdir(f"/proc/{pid}/fd"), key=int))
        with open(f"/proc/{pid}/mountinfo") as file:
            seen["mounts"] = file.read()
        seen["root"] = str(os.path.samefile(f"/proc/{pid}/root/", workshop.root))
        yield data[50_000:]

    apply_stream(pieces(), workshop.tree)
    expected = sum(1 << number for number in (0, 1, 3, 4, 27, 31))
    for key in ("CapPrm", "CapEff", "CapBnd"):
        assert int(seen[key], 16) == expected, key
    assert int(seen["CapInh"], 16) == int(seen["CapAmb"], 16) == 0
    assert seen["NoNewPrivs"] == "1"
    assert seen["Groups"] == ""
    for name, before in own.items():
        assert seen[name] != before, name
    # The standard three, the spill file, the directory and the file being written.
    assert len(seen["fds"].split()) <= 6
    assert len(seen["mounts"].splitlines()) == 1
    assert {"nosuid", "nodev", "noexec"} <= set(seen["mounts"].split()[5].split(","))
    assert seen["root"] == "True"


def find_child() -> int:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        children = [int(pid) for pid in file.read().split()]
    # Threads have children of their own.
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/children") as file:
            children += [int(pid) for pid in file.read().split()]
    for pid in children:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            if b"strata.archive.unpack" in file.read():
                return pid
    raise AssertionError("no child")


def wait_until(condition: Callable[[], object]) -> None:
    import time

    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_killed_child_is_reported(workshop: Workshop) -> None:
    def pieces() -> Iterator[bytes]:
        data = archive(entry("a", b"x" * 100_000))
        yield data[:50_000]
        os.kill(find_child(), 9)
        yield data[50_000:]

    with pytest.raises(ArchiveError, match="killed by signal 9"):
        apply_stream(pieces(), workshop.tree)
    assert os.listdir(f"{workshop.tree}/.strata") == []


def test_a_failing_source_ends_the_child(workshop: Workshop) -> None:
    child = []

    def pieces() -> Iterator[bytes]:
        yield archive(entry("a", b"x" * 100_000))[:50_000]
        child.append(find_child())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply_stream(pieces(), workshop.tree)
    assert not os.path.exists(f"/proc/{child[0]}")
    assert os.listdir(f"{workshop.tree}/.strata") == []


def test_held_locks_stay_until_the_child_ends(workshop: Workshop) -> None:
    """When the command is killed, nobody may touch the tree before its child is gone too."""
    held = locks.lock(f"{workshop.tree}/lock")

    def pieces() -> Iterator[bytes]:
        data = archive(entry("a", b"x" * 100_000))
        yield data[:50_000]
        wait_until(lambda: os.path.exists(f"{workshop.root}/a"))
        held.release()
        assert locks.try_lock(f"{workshop.tree}/lock") is None
        yield data[50_000:]

    try:
        apply_stream(pieces(), workshop.tree)
    finally:
        held.release()
    free = locks.try_lock(f"{workshop.tree}/lock")
    assert free is not None
    free.release()


def test_a_layer_that_is_another_one_is_refused(workshop: Workshop) -> None:
    with pytest.raises(DigestMismatch, match="diffID mismatch") as caught:
        workshop.apply(archive(entry("a")), expected_diff_id="sha256:" + "0" * 64)
    assert "\n" not in caught.value.message
    assert os.listdir(f"{workshop.tree}/.strata") == []


BOMBS: dict[str, tuple[Callable[[], bytes], Limits]] = {
    "gzip": (lambda: gzip.compress(bytes(64 << 20), 9), Limits(size=8 << 20)),
    "zstd": (lambda: zstandard.ZstdCompressor().compress(bytes(256 << 20)), Limits(size=8 << 20)),
    "ratio": (
        lambda: zstandard.ZstdCompressor().compress(archive(entry("a", bytes(256 << 20)))),
        Limits(ratio=100, ratio_floor=1 << 20),
    ),
    "claimed size": (lambda: patch(entry("a"), 124, b"77777777777\0"), Limits(size=1 << 30)),
    "entries": (lambda: archive(*[entry(f"f{i}") for i in range(300)]), Limits(entries=200)),
    "headers for nothing": (
        lambda: archive(*[patch(entry("g", b"9 a=bcd\n\n"), 156, b"g")] * 300), Limits(entries=200),
    ),
    "depth": (lambda: archive(folder("d/" * 20)), Limits(depth=10)),
    "long path": (lambda: archive(entry("x" * 5000)), Limits()),
    "pax header": (lambda: archive(patch(entry("p"), 124, b"00100000000\0")), Limits(size=1 << 20)),
    "sparse size": (
        lambda: archive(patch(patch(entry("a"), 156, b"S"), 483, b"77777777777\0")),
        Limits(size=1 << 30),
    ),
    "sparse size in pax": (
        lambda: archive(
            patch(entry("x", tar._pax_record(b"GNU.sparse.map", b"0,0")
                        + tar._pax_record(b"GNU.sparse.size", b"9" * 18)), 156, b"x"), entry("a"),
        ), Limits(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_meets_its_limit(workshop: Workshop, name: str) -> None:
    make, limits = BOMBS[name]
    with pytest.raises(ArchiveError) as caught:
        workshop.apply(make(), limits=limits)
    assert "\n" not in caught.value.message
    used = sum(
        os.lstat(os.path.join(place, file)).st_blocks * 512
        for place, _, files in os.walk(workshop.tree) for file in files
    )  # fmt: skip
    assert used < 64 << 20
    workshop.assert_outside_is_untouched()


def test_mutated_layers_give_one_kind_of_error(workshop: Workshop) -> None:
    whole = archive(
        folder("d"), entry("d/file", b"content" * 300, xattrs={b"user.x": b"1"}),
        symlink("s", "d"), hardlink("h", "d/file"), entry("s/through", b"1"), entry("d/.wh.x"),
        entry("d/file", b"again"), entry("n", kind=tar.FIFO), entry("d/.wh..wh..opq"),
    )  # fmt: skip
    chance = random.Random(11)
    for number in range(60):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            position = chance.randrange(len(data))
            data[position] = chance.choice([0, 47, 46, 48, 55, 120, chance.randrange(256)])
            block = position // 512 * 512
            if chance.random() < 0.9:
                data[block : block + 512] = patch(bytes(data[block : block + 512]), 0, b"")
        tree = f"{workshop.path}/tree/{number}"
        os.makedirs(f"{tree}/rootfs")
        try:
            applied = workshop.apply(bytes(data), tree=tree, limits=Limits(size=1 << 24))
        except ArchiveError as error:
            if "process failed" in error.message:
                raise AssertionError(error.message) from None
        else:
            assert b"".join(reassemble(tree)) == bytes(data)
            assert applied.diff_id == digest_of(bytes(data))
    workshop.assert_outside_is_untouched()


# -- archives of images ------------------------------------------------------------------------

LAYER = archive(entry("file", b"content"))
CONFIG = json.dumps({
    "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers",
                                                       "diff_ids": [digest_of(LAYER)]},
}).encode()  # fmt: skip


def docker_archive(
    *extra: bytes, config: bytes = CONFIG, layer: bytes | None = None, **fields: Any
) -> bytes:
    document = [{"Config": "config.json", "RepoTags": ["x:1"], "Layers": ["layer.tar"], **fields}]
    middle = entry("layer.tar", LAYER) if layer is None else layer
    return archive(entry("config.json", config), middle,
                   entry("manifest.json", json.dumps(document).encode()), *extra)  # fmt: skip


def oci_archive(**fields: Any) -> bytes:
    """An OCI archive with one manifest; ``fields`` replace those of its descriptor in the index."""
    config_digest, layer_digest = digest_of(CONFIG), digest_of(LAYER)
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                   "digest": config_digest, "size": len(CONFIG)},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar",
                    "digest": layer_digest, "size": len(LAYER)}],
    }).encode()  # fmt: skip
    descriptor = {"mediaType": "application/vnd.oci.image.manifest.v1+json",
                  "digest": digest_of(manifest), "size": len(manifest), **fields}  # fmt: skip
    index = json.dumps({"schemaVersion": 2, "manifests": [descriptor]}).encode()
    blobs = [entry(f"blobs/sha256/{digest_of(b)[7:]}", b) for b in (CONFIG, LAYER, manifest)]
    return archive(entry("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
                   entry("index.json", index), *blobs)  # fmt: skip


def load(workshop: Workshop, data: bytes) -> None:
    """What loading an archive does with its first image, up to the layers in the tree."""
    from strata.oci import manifest as manifests

    path = f"{workshop.path}/blob"
    with open(path, "wb") as file:
        file.write(data)
    with open_archive(path, spool=workshop.path) as opened:
        for _, source in opened.images:
            manifest = manifests.parse_manifest(*source.get_manifest())
            config = manifests.parse_config(source.get_config(manifest.config))
            manifests.check_layers(manifest, config)
            for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True):
                blob = f"{workshop.tree}/blob"
                source.fetch(layer, blob)
                with open(blob, "rb") as file:
                    workshop.apply(file.read(), expected_diff_id=diff_id)


def test_good_archives_load(workshop: Workshop) -> None:
    for data in (docker_archive(), oci_archive(), gzip.compress(docker_archive())):
        load(workshop, data)
        assert workshop.read("file") == b"content"
        workshop.assert_outside_is_untouched()


def test_a_layer_that_is_a_link_inside_the_archive_is_followed(workshop: Workshop) -> None:
    """Old versions of Docker save a repeated layer as a link to the first."""
    layer = entry("abc/layer.tar", LAYER) + symlink("layer.tar", "./abc/../abc/layer.tar")
    load(workshop, docker_archive(layer=layer))
    assert workshop.read("file") == b"content"


HOSTILE_ARCHIVES: dict[str, bytes] = {
    "link out": docker_archive(layer=symlink("layer.tar", "../../../../etc/shadow")),
    "absolute link": docker_archive(layer=symlink("layer.tar", "/etc/shadow")),
    "hard link out": docker_archive(layer=hardlink("layer.tar", "../outside/secret")),
    "link to itself": docker_archive(layer=symlink("layer.tar", "layer.tar")),
    "layer out": docker_archive(Layers=["../outside/secret"]),
    "config out": docker_archive(Config="/../../etc/passwd"),
    "layer missing": docker_archive(Layers=["nothing.tar"]),
    "layer a directory": docker_archive(layer=folder("layer.tar")),
    "too many layers": docker_archive(Layers=["layer.tar"] * 3),
    "layers of numbers": docker_archive(Layers=[1]),
    "tags of objects": docker_archive(RepoTags=[{}]),
    "other layer": docker_archive(layer=entry("layer.tar", archive(entry("other")))),
    "member twice": docker_archive(entry("config.json", b"{}")),
    "member outside": docker_archive(entry("../../x", b"")),
    "manifest no list": archive(entry("manifest.json", b"{}")),
    "manifest no json": archive(entry("manifest.json", b"[" * 100_000)),
    "huge manifest": archive(entry("manifest.json", b" " * (5 << 20))),
    "huge config": docker_archive(config=b" " * (9 << 20)),
    "no image": archive(entry("readme", b"")),
    "no archive": b"#!/bin/sh\nexit 0\n" * 100,
    "empty": b"",
    "truncated": docker_archive()[:2000],
    "wrong size in index": oci_archive(size=7),
    "huge size in index": oci_archive(size=1 << 40),
    "foreign blob": oci_archive(digest="sha256:" + "a" * 64, urls=["https://example.invalid/x"]),
    "digest as a path": oci_archive(digest="sha256:../../../../etc/passwd"),
    "unknown digest": oci_archive(digest="md5:" + "a" * 32),
    "wrong digest": oci_archive(digest=digest_of(CONFIG), size=len(CONFIG)),
    "layout of the future": archive(entry("oci-layout", b'{"imageLayoutVersion":"9.0"}'),
                                    entry("index.json", b"{}")),
    "index missing": archive(entry("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE_ARCHIVES)
def test_a_hostile_archive_gives_one_line(workshop: Workshop, name: str) -> None:
    with pytest.raises(StrataError) as caught:
        load(workshop, HOSTILE_ARCHIVES[name])
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 125
    assert workshop.names() == []
    workshop.assert_outside_is_untouched()


def test_links_in_a_layout_directory_are_not_followed(workshop: Workshop) -> None:
    layout = f"{workshop.tree}/layout"
    with tarfile.open(fileobj=io.BytesIO(oci_archive())) as file:
        for member in file:
            path = f"{layout}/{member.name}"
            os.makedirs(os.path.dirname(path), exist_ok=True)
            content = file.extractfile(member)
            assert content is not None
            with open(path, "wb") as out:
                out.write(content.read())
    name = f"{layout}/blobs/sha256/{digest_of(LAYER)[7:]}"
    os.rename(name, f"{workshop.tree}/moved")
    os.symlink(f"{workshop.tree}/moved", name)
    with open_archive(layout) as opened:
        [(_, source)] = opened.images
        from strata.oci import manifest as manifests

        manifest = manifests.parse_manifest(*source.get_manifest())
        with pytest.raises(ArchiveError, match="cannot open"):
            source.fetch(manifest.layers[0], f"{workshop.tree}/fetched")
    assert not os.path.exists(f"{workshop.tree}/fetched")
