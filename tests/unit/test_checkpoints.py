"""What is read from CRIU and written for it."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from strata.archive.diff import export_diff
from strata.engine.containers.checkpoints import describe_networks
from strata.errors import ArchiveError, NotFound, RuntimeFailure
from strata.runtime import conmon, criu

LOG = """\
(00.069248) Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self: not permitted
(00.100000) Warn  (criu/image.c:1): nothing
(00.120000) Error (criu/sk-inet.c:200): inet: Connected TCP socket, consider using \
--tcp-established option.
(00.130000) Error (criu/cr-dump.c:1): Dump files (pid: 7) failed with -1
"""


def test_the_first_error_of_a_log_is_the_reason_and_has_a_hint(tmp_path: Path) -> None:
    (tmp_path / "dump.log").write_text(LOG)
    failure = RuntimeFailure("runc: criu failed: type NOTIFY errno 0: OCI runtime error")
    error = criu.explain(failure, str(tmp_path / "dump.log"), "checkpointed")
    assert error.message == (
        "the container cannot be checkpointed: inet: Connected TCP socket, consider using "
        "--tcp-established option."
    )
    assert error.hint == "--tcp-established lets connections be part of the checkpoint"


def test_without_a_log_the_runtimes_own_words_are_shown(tmp_path: Path) -> None:
    error = criu.explain(RuntimeFailure("crun: no"), str(tmp_path / "none"), "restored")
    assert error.message == "the container cannot be restored: crun: no"


def test_a_library_that_is_missing_is_named(tmp_path: Path) -> None:
    failure = RuntimeFailure("crun: could not load `libcriu.so.2`: OCI runtime error")
    error = criu.explain(failure, str(tmp_path / "none"), "checkpointed")
    assert (error.id, error.hint) == ("no-criu", "install the package libcriu2")


def test_statistics_are_read_from_the_messages_that_criu_writes(tmp_path: Path) -> None:
    # Fields 1 to 7 of the first message of the file; 300 and 70000 take two and three bytes.
    inner = b"\x08\x05\x10\xac\x02\x18\xf0\xa2\x04\x20\x00\x28\x09\x30\x01\x38\x02"
    data = b"magicmag" + len(inner).to_bytes(4, "little") + b"\x0a" + bytes([len(inner)]) + inner
    (tmp_path / "stats-dump").write_bytes(data)
    assert criu.read_statistics(str(tmp_path), "stats-dump") == {
        "freezing_time": 5, "frozen_time": 300, "memdump_time": 70000, "memwrite_time": 0,
        "pages_scanned": 9, "pages_skipped_parent": 1, "pages_written": 2,
    }  # fmt: skip
    (tmp_path / "stats-restore").write_bytes(data[:14])
    assert criu.read_statistics(str(tmp_path), "stats-restore")["restore_time"] == 0
    with pytest.raises(NotFound):
        criu.read_statistics(str(tmp_path / "none"), "stats-dump")


def test_the_monitor_is_told_what_to_restore() -> None:
    argv = conmon.conmon_argv(
        container_id="id", name="name", bundle="/b", conmon="/usr/bin/conmon", runtime=["runc"],
        log="none", tty=False, stdin=False, exit_argv=[], procs="",
        restore=("/c", ["--tcp-established", "--file-locks"]),
    )  # fmt: skip
    at = argv.index("--restore")
    assert argv[at : at + 6] == [
        "--restore", "/c", "--runtime-opt", "--tcp-established", "--runtime-opt", "--file-locks",
    ]  # fmt: skip


def test_networks_are_described_as_podman_does() -> None:
    attachment = {"interface": "eth0", "mac": "0a:00", "addresses": ["10.0.0.2/24", "fd00::2/64"]}
    assert describe_networks({"networks": {"front": attachment}}) == {
        "front": {
            "interfaces": {
                "eth0": {
                    "mac_address": "0a:00",
                    "subnets": [{"ipnet": "10.0.0.2/24"}, {"ipnet": "fd00::2/64"}],
                }
            }
        }
    }
    assert describe_networks(None) == {}


def test_a_difference_is_a_plain_tar_and_a_list_of_what_is_gone(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for tree in (old, new):
        (tree / "rootfs/etc").mkdir(parents=True)
        (tree / "rootfs/etc/same").write_text("same")
        os.utime(tree / "rootfs/etc/same", (1, 1))
    (old / "rootfs/etc/gone").write_text("x")
    (old / "rootfs/var/log").mkdir(parents=True)
    (new / "rootfs/etc/new").write_text("new")
    output = io.BytesIO()
    assert sorted(export_diff(str(new), str(old), output.write)) == [b"/etc/gone", b"/var"]
    with tarfile.open(fileobj=io.BytesIO(output.getvalue())) as archive:
        assert archive.getnames() == ["etc", "etc/new"]
    (new / "rootfs/.wh.etc").write_text("means a deletion elsewhere")
    with pytest.raises(ArchiveError, match="reserved"):
        export_diff(str(new), str(old), output.write)
