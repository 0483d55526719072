"""The allow-list of native properties, profiles, and what each driver makes of them."""

from __future__ import annotations

import pytest

from strata.errors import UsageError
from strata.storage import properties
from strata.storage.properties import BTRFS, OPENZFS, ZFS_FUSE, plan

FLAVOURS = (BTRFS, OPENZFS, ZFS_FUSE)


@pytest.mark.parametrize(("text", "size"), [
    ("0", 0), ("512", 512), ("16K", 16384), ("16k", 16384), ("10G", 10 << 30),
    ("1.5T", 1649267441664), ("64KiB", 65536), ("2MB", 2 << 20), (" 8M ", 8 << 20), ("10B", 10),
])  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert properties.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1G", "1X", "1GG", "nan", "1e3", "0x10", "1 000", "inf",
                                  "1.2.3M", "١K", "1_000"])  # fmt: skip
def test_nonsense_sizes_have_a_hint(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        properties.parse_size(text)
    assert caught.value.hint


@pytest.mark.parametrize("name", [
    "mountpoint", "canmount", "sharenfs", "sharesmb", "sharefuture", "keylocation", "keyformat",
    "encryption", "strata:id", "com.sun:auto-snapshot", "exec", "setuid", "devices", "readonly",
    "xattr", "acltype", "volsize", "zoned", "snapdir", "", "Compression",
])  # fmt: skip
def test_dangerous_and_unknown_properties_are_refused(name: str) -> None:
    for flavour in FLAVOURS:
        with pytest.raises(UsageError) as caught:
            plan({name: "on"}, flavour)
        assert caught.value.hint


@pytest.mark.parametrize(("name", "value"), [
    ("recordsize", "15K"), ("recordsize", "256"), ("recordsize", "32M"), ("recordsize", "x"),
    ("compression", "brotli"), ("compression", "zstd-20"), ("compression", "gzip-0"),
    ("compression", "lz4-1"), ("quota", "-1"), ("quota", "100"), ("atime", "yes"),
    ("copies", "4"), ("checksum", "off"), ("sync", "never"), ("primarycache", "some"),
    ("compression", "zstd\n-o exec=on"), ("logbias", ""),
])  # fmt: skip
def test_bad_values_are_refused_with_the_choices(name: str, value: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan({name: value}, OPENZFS)
    assert caught.value.hint


def test_size_is_a_refquota_above_what_does_not_count() -> None:
    for flavour in FLAVOURS:
        for name in ("size", "refquota"):
            assert plan({name: "10G"}, flavour) == ({name: str(10 << 30)}, [])
        with pytest.raises(UsageError) as caught:
            plan({"size": "10G", "refquota": "20G"}, flavour)
        assert caught.value.hint
    resolve = properties.resolve_size
    assert resolve({"size": "100", "sync": "always"}, 7) == {"refquota": "107", "sync": "always"}
    assert resolve({"size": "none"}, 7) == {"refquota": "none"}
    assert resolve({"refquota": "100"}, 7) == {"refquota": "100"}


def test_a_limit_that_counts_snapshots_and_reservations_are_openzfs_words() -> None:
    for name in ("quota", "reservation", "refreservation"):
        for flavour in (OPENZFS, ZFS_FUSE):
            assert plan({name: "1G"}, flavour)[0] == {name: str(1 << 30)}
        with pytest.raises(UsageError, match="btrfs") as caught:
            plan({name: "1G"}, BTRFS)
        assert caught.value.hint
        assert plan({name: "none"}, BTRFS) == ({}, [])


def test_openzfs_gets_what_was_asked() -> None:
    asked = {"recordsize": "16K", "compression": "zstd-3", "atime": "off", "sync": "always"}
    assert plan(asked, OPENZFS) == ({**asked, "recordsize": "16384"}, [])


def test_btrfs_refuses_what_was_asked_and_drops_what_a_profile_says() -> None:
    with pytest.raises(UsageError) as caught:
        plan({"recordsize": "16K"}, BTRFS)
    assert "no record size" in caught.value.message
    native, notes = plan({}, BTRFS, "postgres")
    assert native == {"compression": "lzo"}
    assert any("recordsize" in note for note in notes)
    with pytest.raises(UsageError):
        plan({"recordsize": "16K"}, BTRFS, "postgres")  # now the user asked


def test_btrfs_takes_the_nearest_compression_and_says_so() -> None:
    assert plan({"compression": "zstd"}, BTRFS) == ({"compression": "zstd"}, [])
    assert plan({"compression": "on"}, BTRFS) == ({"compression": "zstd"}, [])
    assert plan({"compression": "off"}, BTRFS) == ({"compression": "none"}, [])
    native, notes = plan({"compression": "lz4"}, BTRFS)
    assert native == {"compression": "lzo"}
    assert notes
    assert plan({"atime": "off"}, BTRFS) == ({}, [])
    with pytest.raises(UsageError):
        plan({"atime": "on"}, BTRFS)


def test_zfs_fuse_knows_old_things_only() -> None:
    native, notes = plan({"compression": "zstd"}, ZFS_FUSE)
    assert native == {"compression": "on"}
    assert notes
    with pytest.raises(UsageError):
        plan({"recordsize": "1M"}, ZFS_FUSE)
    native, notes = plan({}, ZFS_FUSE, "minio")
    assert "recordsize" not in native
    with pytest.raises(UsageError):
        plan({"sync": "disabled"}, ZFS_FUSE)


def test_profiles_are_overridden_documented_and_allowed() -> None:
    assert plan({"recordsize": "8K"}, OPENZFS, "postgres")[0]["recordsize"] == "8192"
    for name, profile in properties.PROFILES.items():
        assert profile.name == name
        assert len(profile.reason) > 20
        assert properties.parse_options(profile.properties) == profile.properties
    with pytest.raises(UsageError) as caught:
        plan({}, OPENZFS, "oracle")
    assert "postgres" in caught.value.hint
