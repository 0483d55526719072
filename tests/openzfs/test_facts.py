"""What the storage driver believes about OpenZFS in the kernel, asserted.

Each test is a fact the zfs driver is built on; when one fails on a new version, the driver is
wrong there. Verified with OpenZFS 2.3.9 on Linux 6.12.
"""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path

import pytest
from zfs_tools import elsewhere, zfs, zfs_error

from strata.linux import mount
from strata.linux.mount import MS_NODEV, MS_NOSUID, MS_RDONLY

pytestmark = pytest.mark.openzfs


def options_of(target: Path | str) -> set[str]:
    """The per-mount options at ``target``."""
    found = mount.find_mount(str(target))
    assert found is not None
    return set(found.options.split(","))


def fill(path: Path) -> None:
    """Write 64 MiB that do not compress."""
    with open(path, "wb", buffering=0) as file:
        for _ in range(64):
            file.write(os.urandom(1 << 20))
            os.fsync(file.fileno())


def wait_destroyed(name: str) -> None:
    """Destroy a dataset whose last namespace just ended, which the kernel frees a little later."""
    deadline = time.monotonic() + 20
    while True:
        try:
            zfs("destroy", "-r", name)
            return
        except AssertionError as error:
            if "busy" not in str(error) or time.monotonic() > deadline:
                raise


# -- mounting --------------------------------------------------------------------------------------


def test_mount2_mounts_a_legacy_dataset_with_flags(base: str, tmp_path: Path) -> None:
    """No helper, no option string: mount(dataset, target, "zfs", flags)."""
    mount.mount(base, str(tmp_path), "zfs", MS_NOSUID | MS_NODEV)
    try:
        assert {"nosuid", "nodev"} <= options_of(tmp_path)
        found = mount.find_mount(str(tmp_path))
        assert found is not None
        assert (found.fstype, found.source) == ("zfs", base)
        (tmp_path / "file").write_text("x")
        assert zfs("get", "-Hp", "-o", "value", "mounted", base) == "yes"
    finally:
        mount.unmount(str(tmp_path))


def test_mount2_ignores_mountpoint_none_and_canmount_off(base: str, tmp_path: Path) -> None:
    """The properties only bind the zfs command, not the kernel."""
    zfs("create", "-o", "mountpoint=none", "-o", "canmount=off", f"{base}/off")
    mount.mount(f"{base}/off", str(tmp_path), "zfs")
    mount.unmount(str(tmp_path))


def test_a_dataset_is_mounted_twice_and_flags_belong_to_each_mount(
    base: str, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    mount.mount(base, str(one), "zfs", MS_NOSUID | MS_NODEV)
    mount.mount(base, str(two), "zfs")
    try:
        assert {"nosuid", "nodev"} <= options_of(one)
        assert not {"nosuid", "nodev"} & options_of(two)
        (two / "file").write_text("seen by both")
        assert (one / "file").read_text() == "seen by both"
        assert os.stat(one).st_dev == os.stat(two).st_dev
    finally:
        mount.unmount(str(two))
        mount.unmount(str(one))


def test_a_read_only_second_mount_of_a_writable_one_is_refused(base: str, tmp_path: Path) -> None:
    """MS_RDONLY is the file system's, so it must agree: bind and set the attribute instead."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    mount.mount(base, str(one), "zfs")
    try:
        with pytest.raises(OSError) as caught:
            mount.mount(base, str(two), "zfs", MS_RDONLY)
        assert caught.value.errno == errno.EBUSY
        mount.bind(str(one), str(two), add=mount.MOUNT_ATTR_RDONLY)
        with pytest.raises(OSError) as caught:
            (two / "file").write_text("x")
        assert caught.value.errno == errno.EROFS
        (one / "file").write_text("x")
        mount.unmount(str(two))
    finally:
        mount.unmount(str(one))


def test_a_snapshot_is_mounted_by_its_name_and_is_read_only(base: str, tmp_path: Path) -> None:
    mount.mount(base, str(tmp_path), "zfs")
    (tmp_path / "file").write_text("then")
    zfs("snapshot", f"{base}@s")
    (tmp_path / "file").write_text("now")
    mount.unmount(str(tmp_path))
    mount.mount(f"{base}@s", str(tmp_path), "zfs", MS_NOSUID | MS_NODEV | MS_RDONLY)
    try:
        assert (tmp_path / "file").read_text() == "then"
        with pytest.raises(OSError) as caught:
            (tmp_path / "file").write_text("x")
        assert caught.value.errno == errno.EROFS
    finally:
        mount.unmount(str(tmp_path))
    # Without MS_RDONLY too; the kernel makes it read-only.
    mount.mount(f"{base}@s", str(tmp_path), "zfs")
    try:
        with pytest.raises(OSError) as caught:
            (tmp_path / "file").write_text("x")
        assert caught.value.errno == errno.EROFS
    finally:
        mount.unmount(str(tmp_path))


def test_mounting_what_does_not_exist_is_enoent(base: str, tmp_path: Path) -> None:
    for name in (f"{base}/absent", f"{base}@absent"):
        with pytest.raises(OSError) as caught:
            mount.mount(name, str(tmp_path), "zfs")
        assert caught.value.errno == errno.ENOENT


def test_unmounting_with_an_open_file_is_ebusy_and_lazy_keeps_it_busy(
    base: str, tmp_path: Path
) -> None:
    mount.mount(base, str(tmp_path), "zfs")
    with open(tmp_path / "file", "w"):
        with pytest.raises(OSError) as caught:
            mount.unmount(str(tmp_path))
        assert caught.value.errno == errno.EBUSY
        mount.unmount(str(tmp_path), lazy=True)
        zfs("snapshot", f"{base}@s")
        zfs("create", f"{base}/child")


def test_inode_numbers_and_times_survive_cloning(base: str, tmp_path: Path) -> None:
    mount.mount(base, str(tmp_path), "zfs")
    (tmp_path / "file").write_text("x")
    before = os.stat(tmp_path / "file")
    mount.unmount(str(tmp_path))
    zfs("snapshot", f"{base}@s")
    zfs("clone", f"{base}@s", f"{base}/clone")
    mount.mount(f"{base}/clone", str(tmp_path), "zfs")
    after = os.stat(tmp_path / "file")
    mount.unmount(str(tmp_path))
    assert (before.st_ino, before.st_mtime_ns, before.st_ctime_ns) == (
        after.st_ino,
        after.st_mtime_ns,
        after.st_ctime_ns,
    )


def test_root_may_set_trusted_attributes_and_whiteout_devices(base: str, tmp_path: Path) -> None:
    mount.mount(base, str(tmp_path), "zfs", MS_NOSUID | MS_NODEV)
    try:
        os.mkdir(tmp_path / "d")
        os.setxattr(tmp_path / "d", "trusted.strata.test", b"v")
        os.setxattr(tmp_path / "d", "security.capability", bytes.fromhex("01000002") + bytes(16))
        assert os.getxattr(tmp_path / "d", "trusted.strata.test") == b"v"
        os.mknod(tmp_path / "null", 0o20666, os.makedev(1, 3))
        assert os.stat(tmp_path / "null").st_rdev == os.makedev(1, 3)
    finally:
        mount.unmount(str(tmp_path))


# -- foreign namespaces ----------------------------------------------------------------------------


def test_a_dataset_pinned_elsewhere_is_busy_yet_moves_to_the_trash_and_frees_its_name(
    base: str, tmp_path: Path
) -> None:
    name, trash = f"{base}/c", f"{base}/trash"
    zfs("create", name)
    zfs("create", trash)
    with elsewhere(lambda: mount.mount(name, str(tmp_path), "zfs")) as pid:
        assert zfs_error("destroy", name) == f"cannot destroy '{name}': dataset is busy"
        assert zfs_error("destroy", "-f", name) == f"cannot destroy '{name}': dataset is busy"
        zfs("rename", "-u", name, f"{trash}/c")
        # The name is free at once, and the old mount works on under the new name.
        zfs("create", name)
        entry = next(e for e in mount.list_mounts(pid) if e.target == str(tmp_path))
        assert entry.source == f"{trash}/c"
        Path(f"/proc/{pid}/root{tmp_path}/file").write_text("still writable")
        # It may also be mounted here meanwhile.
        mount.mount(f"{trash}/c", str(tmp_path), "zfs")
        assert (tmp_path / "file").read_text() == "still writable"
        mount.unmount(str(tmp_path))
        assert zfs_error("destroy", f"{trash}/c").endswith("dataset is busy")
        # Busy-ness does not keep from looking, snapshotting, cloning, or setting properties.
        zfs("snapshot", f"{trash}/c@s")
        zfs("clone", f"{trash}/c@s", f"{base}/again")
        zfs("set", "strata:k=v", f"{trash}/c")
        zfs("destroy", f"{base}/again")
        zfs("destroy", f"{trash}/c@s")
    wait_destroyed(f"{trash}/c")


def test_rename_without_u_also_works_for_legacy_while_pinned_elsewhere(
    base: str, tmp_path: Path
) -> None:
    name = f"{base}/c"
    zfs("create", name)
    with elsewhere(lambda: mount.mount(name, str(tmp_path), "zfs")):
        zfs("rename", name, f"{base}/moved")
    wait_destroyed(f"{base}/moved")


def test_a_dataset_mounted_at_home_is_renamed_without_losing_its_mount(
    base: str, tmp_path: Path
) -> None:
    name = f"{base}/c"
    zfs("create", name)
    mount.mount(name, str(tmp_path), "zfs")
    try:
        zfs("rename", "-u", name, f"{base}/moved")
        found = mount.find_mount(str(tmp_path))
        assert found is not None
        assert found.source == f"{base}/moved"
    finally:
        mount.unmount(str(tmp_path))


def test_destroy_unmounts_what_is_mounted_in_its_own_namespace(base: str, tmp_path: Path) -> None:
    """The zfs command sees our mounts and takes them away unasked, unless they are in use."""
    name = f"{base}/c"
    zfs("create", name)
    mount.mount(name, str(tmp_path), "zfs")
    with open(tmp_path / "file", "w"):
        text = zfs_error("destroy", name)
        assert "busy" in text
    zfs("destroy", name)
    assert mount.find_mount(str(tmp_path)) is None


def test_rollback_works_while_mounted_elsewhere(base: str, tmp_path: Path) -> None:
    name = f"{base}/c"
    zfs("create", name)
    mount.mount(name, str(tmp_path), "zfs")
    (tmp_path / "file").write_text("then")
    mount.unmount(str(tmp_path))
    zfs("snapshot", f"{name}@s")
    with elsewhere(lambda: mount.mount(name, str(tmp_path), "zfs")) as pid:
        file = Path(f"/proc/{pid}/root{tmp_path}/file")
        file.write_text("now")
        zfs("rollback", f"{name}@s")
        assert file.read_text() == "then"


def test_a_snapshot_mounted_elsewhere_is_busy_and_can_be_destroyed_deferred(
    base: str, tmp_path: Path
) -> None:
    zfs("snapshot", f"{base}@s")
    with elsewhere(lambda: mount.mount(f"{base}@s", str(tmp_path), "zfs")):
        assert zfs_error("destroy", f"{base}@s") == (
            f"cannot destroy snapshot {base}@s: dataset is busy"
        )


# -- names, identity -------------------------------------------------------------------------------


def test_user_properties_arrive_with_create_clone_and_snapshot(base: str) -> None:
    name = f"{base}/a"
    zfs("create", "-o", "strata:id=1", "-o", "strata:kind=layer", name)
    zfs("snapshot", "-o", "strata:snap=s", f"{name}@s")
    zfs("clone", "-o", "strata:id=2", f"{name}@s", f"{base}/b")
    zfs("create", f"{name}/child")
    columns = ("get", "-Hp", "-o", "name,property,value,source")
    assert zfs(*columns, "strata:id,strata:kind,strata:none", name) == (
        f"{name}\tstrata:id\t1\tlocal\n{name}\tstrata:kind\tlayer\tlocal\n{name}\tstrata:none\t-\t-"
    )
    # A clone has its own values only; nothing is copied from the origin.
    assert zfs(*columns, "strata:id,strata:kind", f"{base}/b") == (
        f"{base}/b\tstrata:id\t2\tlocal\n{base}/b\tstrata:kind\t-\t-"
    )
    # Children and snapshots inherit: only "local" and "received" are somebody's own.
    assert zfs(*columns, "strata:id", f"{name}/child", f"{name}@s") == (
        f"{name}@s\tstrata:id\t1\tinherited from {name}\n"
        f"{name}/child\tstrata:id\t1\tinherited from {name}"
    )
    assert zfs(*columns, "strata:snap", f"{name}@s") == f"{name}@s\tstrata:snap\ts\tlocal"


def test_user_property_limits(base: str) -> None:
    zfs("set", f"strata:long={'v' * 8190}", base)
    assert len(zfs("get", "-H", "-o", "value", "strata:long", base)) == 8190
    assert "too long" in zfs_error("set", f"strata:long={'v' * 8192}", base, status=255)
    zfs("inherit", "strata:long", base)


def test_list_depth_one_gives_children_with_their_properties(base: str) -> None:
    zfs("create", "-o", "strata:id=1", f"{base}/a")
    zfs("create", f"{base}/a/deeper")
    zfs("snapshot", f"{base}/a@s")
    zfs("clone", f"{base}/a@s", f"{base}/b")
    rows = [
        line.split("\t")
        for line in zfs(
            "list", "-Hp", "-d1", "-t", "filesystem", "-o",
            "name,guid,createtxg,creation,origin,strata:id", base,
        ).splitlines()
    ]  # fmt: skip
    assert [row[0] for row in rows] == [base, f"{base}/a", f"{base}/b"]
    assert [row[4] for row in rows] == ["-", "-", f"{base}/a@s"]
    assert [row[5] for row in rows] == ["-", "1", "-"]
    for row in rows:
        assert all(field.isdecimal() for field in row[1:4])
    snapshots = zfs(
        "list", "-Hp", "-d1", "-t", "snapshot", "-s", "createtxg", "-o", "name,clones", f"{base}/a"
    )
    assert snapshots == f"{base}/a@s\t{base}/b"


def test_guid_survives_rename_and_createtxg_too(base: str) -> None:
    zfs("create", f"{base}/a")
    columns = ("get", "-Hp", "-o", "value", "guid,createtxg")
    before = zfs(*columns, f"{base}/a")
    zfs("rename", "-u", f"{base}/a", f"{base}/b")
    assert zfs(*columns, f"{base}/b") == before


def test_json_output_exists(base: str) -> None:
    answer = json.loads(zfs("list", "-j", "-p", base))
    assert answer["datasets"][base]["name"] == base


# -- several at once -------------------------------------------------------------------------------


def test_several_snapshots_are_one_moment_and_all_or_nothing(base: str) -> None:
    names = [f"{base}/{letter}" for letter in "abc"]
    for name in names:
        zfs("create", name)
    zfs("snapshot", *[f"{name}@s" for name in names])
    moments = zfs("get", "-Hp", "-o", "value", "createtxg", *[f"{name}@s" for name in names])
    assert len(set(moments.splitlines())) == 1
    zfs("snapshot", f"{names[2]}@t")
    text = zfs_error("snapshot", *[f"{name}@t" for name in names])
    assert text == (
        f"cannot create snapshot '{names[2]}@t': dataset already exists\nno snapshots were created"
    )
    assert "@t" not in zfs("list", "-H", "-o", "name", "-t", "snapshot", names[0])
    text = zfs_error("snapshot", f"{names[0]}@u", f"{base}/absent@u", status=2)
    assert text.startswith(f"cannot open '{base}/absent': dataset does not exist\n")
    assert "@u" not in zfs("list", "-H", "-o", "name", "-t", "snapshot", names[0])


# -- refusals: the texts the driver's classify reads -----------------------------------------------


def test_texts_for_absent_and_taken_names(base: str) -> None:
    absent = f"{base}/absent"
    missing = "dataset does not exist"
    assert zfs_error("list", absent) == f"cannot open '{absent}': {missing}"
    assert zfs_error("get", "-Hp", "guid", f"{base}@absent") == (
        f"cannot open '{base}@absent': {missing}"
    )
    assert zfs_error("destroy", absent) == f"cannot open '{absent}': {missing}"
    assert zfs_error("destroy", f"{base}@absent") == (
        "could not find any snapshots to destroy; check snapshot names."
    )
    assert zfs_error("rename", absent, f"{base}/x") == f"cannot open '{absent}': {missing}"
    # Status 2, and the usage follows: only the first line is the reason.
    assert zfs_error("snapshot", f"{absent}@s", status=2).splitlines()[:2] == [
        f"cannot open '{absent}': {missing}",
        "usage:",
    ]
    assert zfs_error("clone", f"{base}@absent", f"{base}/x") == (
        f"cannot open '{base}@absent': {missing}"
    )
    assert zfs_error("create", f"{absent}/child") == (
        f"cannot create '{absent}/child': parent does not exist"
    )
    zfs("create", f"{base}/a")
    zfs("snapshot", f"{base}/a@s")
    taken = "dataset already exists"
    assert zfs_error("create", f"{base}/a") == f"cannot create '{base}/a': {taken}"
    assert zfs_error("clone", f"{base}/a@s", f"{base}/a") == (f"cannot create '{base}/a': {taken}")
    zfs("create", f"{base}/b")
    assert zfs_error("rename", f"{base}/b", f"{base}/a") == (f"cannot rename '{base}/b': {taken}")
    # One that exists among several adds "no snapshots were created".
    assert zfs_error("snapshot", f"{base}/a@s") == f"cannot create snapshot '{base}/a@s': {taken}"


def test_texts_for_dependants(base: str) -> None:
    a, b = f"{base}/a", f"{base}/b"
    zfs("create", a)
    zfs("snapshot", f"{a}@s")
    zfs("clone", f"{a}@s", b)
    assert zfs_error("destroy", f"{a}@s") == (
        f"cannot destroy '{a}@s': snapshot has dependent clones\n"
        f"use '-R' to destroy the following datasets:\n{b}"
    )
    assert zfs_error("destroy", "-r", a) == (
        f"cannot destroy '{a}': filesystem has dependent clones\n"
        f"use '-R' to destroy the following datasets:\n{b}"
    )
    assert zfs_error("destroy", a) == (
        f"cannot destroy '{a}': filesystem has children\n"
        f"use '-r' to destroy the following datasets:\n{a}@s"
    )
    zfs("create", f"{b}/child")
    assert zfs_error("destroy", b) == (
        f"cannot destroy '{b}': filesystem has children\n"
        f"use '-r' to destroy the following datasets:\n{b}/child"
    )
    zfs("snapshot", f"{a}@t")
    assert zfs_error("rollback", f"{a}@s").startswith(
        f"cannot rollback to '{a}@s': more recent snapshots or bookmarks exist"
    )


def test_promote_moves_the_origin_and_older_snapshots(base: str) -> None:
    a, b = f"{base}/a", f"{base}/b"
    zfs("create", a)
    for name in ("one", "two", "three"):
        zfs("snapshot", f"{a}@{name}")
    zfs("clone", f"{a}@two", b)
    zfs("promote", b)
    listed = zfs("list", "-H", "-o", "name", "-t", "snapshot", "-s", "createtxg", "-r", base)
    assert listed.splitlines() == [f"{b}@one", f"{b}@two", f"{a}@three"]
    assert zfs("get", "-H", "-o", "value", "origin", a, b) == f"{b}@two\n-"
    assert zfs_error("promote", b) == f"cannot promote '{b}': not a cloned filesystem"
    zfs("snapshot", f"{a}@one")
    assert "conflicting snapshot" in zfs_error("promote", a)


def test_texts_for_holds(base: str) -> None:
    zfs("snapshot", f"{base}@s")
    zfs("hold", "strata", f"{base}@s")
    text = zfs_error("destroy", f"{base}@s")
    assert text.startswith(f"cannot destroy snapshot {base}@s: it's being held.")
    zfs("release", "strata", f"{base}@s")


def test_quota_is_edquot_and_its_texts(base: str, tmp_path: Path) -> None:
    name = f"{base}/q"
    zfs("create", "-o", "refquota=4M", "-o", "compression=off", name)
    mount.mount(name, str(tmp_path), "zfs")
    try:
        with pytest.raises(OSError) as caught:
            fill(tmp_path / "file")
        assert caught.value.errno == errno.EDQUOT
        assert "size is less than current used or reserved space" in zfs_error(
            "set", "refquota=1M", name, status=255
        )
        # A snapshot and a clone of the full dataset are still possible under a refquota.
        zfs("snapshot", f"{name}@s")
        os.unlink(tmp_path / "file")
    finally:
        mount.unmount(str(tmp_path))
    assert zfs_error("set", "quota=nonsense", name, status=255) == (
        "cannot set property for '" + name + "': bad numeric value 'nonsense'"
    )


def test_a_full_quota_above_refuses_changes_as_no_space(base: str, tmp_path: Path) -> None:
    """Below an exhausted ``quota`` writing is EDQUOT; zfs says "out of space" or "quota"."""
    top = f"{base}/q"
    zfs("create", "-o", "quota=8M", "-o", "compression=off", top)
    zfs("create", f"{top}/a")
    zfs("snapshot", f"{top}/a@s")
    mount.mount(f"{top}/a", str(tmp_path), "zfs")
    try:
        with pytest.raises(OSError) as caught:
            fill(tmp_path / "file")
        assert caught.value.errno == errno.EDQUOT
        text = zfs_error("create", "-o", "reservation=16M", f"{top}/b")
        assert text == f"cannot create '{top}/b': out of space"
    finally:
        mount.unmount(str(tmp_path))


# -- waiting ---------------------------------------------------------------------------------------


def groups_of(pool: str, *arguments: str) -> int:
    """Run zfs; how many transaction groups its changes went into."""
    before = zfs("history", "-i", pool, program="zpool").count("[txg:")
    zfs(*arguments)
    lines = zfs("history", "-i", pool, program="zpool").splitlines()
    new = [entry.split()[1] for entry in lines if "[txg:" in entry][before:]
    return len(set(new))


def test_a_change_is_one_transaction_group_but_properties_at_birth_are_a_second(
    pool: str, base: str
) -> None:
    """`create -o` and `clone -o` are one call but two groups: a power failure may fall between.

    `snapshot -o` and a `set` of many properties are one. A channel program is one, whatever it
    does, but those of 2.3 can neither create nor clone.
    """
    assert groups_of(pool, "create", f"{base}/a") == 1
    assert groups_of(pool, "create", "-o", "strata:id=1", "-o", "strata:kind=x", f"{base}/b") == 2
    assert groups_of(pool, "snapshot", "-o", "strata:x=1", f"{base}/a@s", f"{base}/b@s") == 1
    assert groups_of(pool, "clone", f"{base}/a@s", f"{base}/c") == 1
    assert groups_of(pool, "clone", "-o", "strata:id=1", f"{base}/a@s", f"{base}/d") == 2
    assert groups_of(pool, "set", "strata:id=2", "strata:kind=y", f"{base}/c") == 1
    assert groups_of(pool, "rename", "-u", f"{base}/c", f"{base}/e") == 1
    assert groups_of(pool, "promote", f"{base}/d") == 1


def test_a_channel_program_is_one_transaction_group(
    pool: str, base: str, tmp_path: Path
) -> None:  # fmt: skip
    zfs("create", f"{base}/a")
    zfs("snapshot", f"{base}/a@s")
    zfs("clone", f"{base}/a@s", f"{base}/b")
    program = tmp_path / "program"
    program.write_text(
        "argv = (...)['argv']\n"
        "assert(zfs.sync.set_prop(argv[1], 'strata:id', '1') == 0)\n"
        "assert(zfs.sync.set_prop(argv[1], 'strata:kind', 'x') == 0)\n"
        "assert((zfs.sync.promote(argv[1])) == 0)\n"
        "assert(zfs.sync.snapshot(argv[1] .. '@t') == 0)\n"
    )
    assert groups_of(pool, "program", pool.partition("/")[0], str(program), f"{base}/b") == 1
    assert zfs("get", "-H", "-o", "value,source", "strata:id,origin", f"{base}/b") == (
        "1\tlocal\n-\t-"
    )
    program.write_text("return zfs.sync.clone == nil and zfs.sync.create == nil\n")
    answer = zfs("program", "-j", pool.partition("/")[0], str(program))
    assert json.loads(answer) == {"return": True}


def test_destroy_may_follow_the_end_of_a_namespace_at_once(base: str, tmp_path: Path) -> None:
    """The kernel frees the file system when its last mount goes, soon but not synchronously."""
    name = f"{base}/c"
    zfs("create", name)
    with elsewhere(lambda: mount.mount(name, str(tmp_path), "zfs")):
        pass
    wait_destroyed(name)
