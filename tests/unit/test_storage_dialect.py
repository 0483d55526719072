"""What the words of ``zfs`` mean, in the spelling of each program."""

from __future__ import annotations

import pytest

from strata.command import Result
from strata.errors import NoSpace, StorageError, StoreMissing, StrataError, UsageError
from strata.storage.driver import DatasetBusy, DatasetExists, DatasetNotFound, HasDependants
from strata.storage.zfs import parse_values
from strata.storage.zfs_dialect import ParentMissing, classify, parse_version


def meaning(text: str) -> StrataError | None:
    return classify(Result(1, b"", text.encode()))


@pytest.mark.parametrize(("text", "kind"), [
    # OpenZFS and zfs-fuse alike
    ("cannot open 'tank/x': dataset does not exist\n", DatasetNotFound),
    ("cannot create 'tank/a/x': parent does not exist\n", ParentMissing),
    ("cannot create 'tank/x': dataset already exists\n", DatasetExists),
    ("cannot create snapshot 'tank/x@s': dataset already exists\n", DatasetExists),
    ("cannot destroy 'tank/x': dataset is busy\n", DatasetBusy),
    ("cannot create 'tank/x': out of space\n", NoSpace),
    ("cannot promote 'tank/x': not a cloned filesystem\n", StorageError),
    ("cannot create 'tank/x': invalid property 'foo'\n", UsageError),
    # OpenZFS
    ("cannot destroy 'tank/x': pool or dataset is busy\n", DatasetBusy),
    ("could not find any snapshots to destroy; check snapshot names.\n", DatasetNotFound),
    ("cannot create snapshot 'tank/x@s': no space left on device", NoSpace),
    ("cannot receive new filesystem stream: destination 'x' space quota exceeded.", NoSpace),
    ("cannot promote 'tank/c': snapshot name 's' from origin \nconflicts with 's' from target\n",
     DatasetExists),
    ("The ZFS modules are not loaded.\nTry running '/sbin/modprobe zfs' as root.\n", StoreMissing),
    ("cannot open 'tank': no such pool\n", StoreMissing),
    # zfs-fuse
    ("umount: /tank/c: target is busy.\ncannot unmount '/tank/c': umount failed: umount child\n",
     DatasetBusy),
    ("connect: No such file or directory\nPlease make sure that the zfs-fuse daemon is running.\n"
     "internal error: failed to initialize ZFS library\n", StoreMissing),
    ("cannot create 'tank/x': 'compression' must be one of 'on | off | lzjb | gzip'", UsageError),
])  # fmt: skip
def test_texts_become_typed_errors(text: str, kind: type[StrataError]) -> None:
    error = meaning(text)
    assert type(error) is kind
    assert "\n" not in error.message


def test_dependants_are_named() -> None:
    error = meaning("cannot destroy 'tank/a': filesystem has dependent clones\n"
                    "use '-R' to destroy the following datasets:\ntank/b\ntank/c@x\n")  # fmt: skip
    assert isinstance(error, HasDependants)
    assert error.dependants == ["tank/b", "tank/c@x"]
    error = meaning("cannot rollback to 'tank/a@s': more recent snapshots or bookmarks exist\n"
                    "use '-r' to force deletion of the following snapshots and bookmarks:\n"
                    "tank/a@t\n")  # fmt: skip
    assert isinstance(error, HasDependants)
    assert error.dependants == ["tank/a@t"]


def test_unknown_text_stays_unknown() -> None:
    assert meaning("internal error: out of cheese\n") is None
    assert meaning("") is None


@pytest.mark.parametrize(("text", "version"), [
    ("zfs-2.1.11-1\nzfs-kmod-2.1.11-1\n", (2, 1)),
    ("zfs-2.3.2-2~bpo12\nzfs-kmod-2.3.2-2\n", (2, 3)),
    ("zfs-2.4.0-rc1\n", (2, 4)),
    ("zfs-0.8.3-1ubuntu12\n", (0, 8)),
    ("usage: zfs command args ...\n", None),
    ("", None),
])  # fmt: skip
def test_versions(text: str, version: tuple[int, int] | None) -> None:
    assert parse_version(text) == version


def test_values_are_read_with_their_source() -> None:
    text = ("tank/a\tstrata:id\tx y\tlocal\ntank/a\torigin\t-\t-\n"
            "tank/b\tstrata:id\tx\tinherited from tank\nodd line\n")  # fmt: skip
    assert parse_values(text) == {
        "tank/a": {"strata:id": ("x y", "local"), "origin": ("-", "-")},
        "tank/b": {"strata:id": ("x", "inherited from tank")},
    }
