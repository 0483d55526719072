"""diff and export: what a container changed, and all it holds."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.store import BUSYBOX, Store

pytestmark = pytest.mark.btrfs

SCRIPT = (
    "mkdir -p /new/dir; echo x >/new/dir/file; echo '#' >>/etc/passwd; rm -r /data; rm /bin/nc; "
    "touch /bin/.wh.odd; ln -s nowhere /new/link; echo done; sleep 1000"
)
CHANGES = """\
C /bin
A /bin/.wh.odd
D /bin/nc
D /data
C /etc
C /etc/passwd
A /new
A /new/dir
A /new/dir/file
A /new/link
"""


@pytest.fixture(scope="module")
def changed(busybox_store: Store) -> Iterator[str]:
    """A running container that changed files."""
    s = busybox_store
    s.ok("run", "-d", "--stop-signal", "KILL", "--name", "changed", BUSYBOX, "sh", "-c", SCRIPT)
    s.wait_for_log("changed", "done")
    yield "changed"
    s.ok("rm", "--force", "--time", "0", "changed")


def test_diff_tells_changed_added_and_deleted(busybox_store: Store, changed: str) -> None:
    s = busybox_store
    assert s.ok("diff", changed).out == CHANGES
    assert s.ok("container", "diff", changed).out == CHANGES
    found = s.ok("diff", "--format", "json", changed).json
    assert found["deleted"] == ["/bin/nc", "/data"]
    assert "/etc/passwd" in found["changed"]
    assert s.strata("diff", "--format", "xml", changed).rc == 125


def test_diff_of_a_new_container_is_empty_and_of_an_image_its_top_layer(
    busybox_store: Store, changed: str
) -> None:
    s = busybox_store
    s.ok("create", "--name", "fresh", BUSYBOX, "true")
    try:
        assert s.ok("diff", "fresh").out == ""
        assert "D /new\n" in s.ok("diff", "fresh", changed).out
    finally:
        s.ok("rm", "fresh")
    assert "A /bin/busybox\n" in s.ok("image", "diff", BUSYBOX).out
    unknown = s.strata("diff", "nothing")
    assert (unknown.rc, "layer not known" in unknown.err) == (125, True)
    assert s.strata("image", "diff", changed).rc == 125
    assert s.strata("diff").rc == 125


def test_an_exported_archive_holds_every_file(
    busybox_store: Store, changed: str, tmp_path: Path
) -> None:
    s = busybox_store
    target = tmp_path / "files.tar"
    s.ok("export", "--output", str(target), changed)
    with tarfile.open(target) as archive:
        names = set(archive.getnames())
        assert {"bin/busybox", "new/dir/file", "bin/.wh.odd", "etc/passwd"} <= names
        assert "data" not in names
        assert archive.getmember("new/link").linkname == "nowhere"
        file = archive.extractfile("new/dir/file")
        assert file is not None
        assert file.read() == b"x\n"
    assert os.listdir(tmp_path) == ["files.tar"]
    piped = subprocess.run(s.argv("export", changed), capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(piped.stdout)) as archive:
        assert set(archive.getnames()) == names


def test_an_archive_is_not_written_to_a_terminal(busybox_store: Store, changed: str) -> None:
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(busybox_store.argv("export", changed), stdout=theirs,
                              stderr=subprocess.PIPE, check=False)  # fmt: skip
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 125
    assert b"refusing to export to terminal" in done.stderr


def test_an_export_that_fails_leaves_no_file(busybox_store: Store, tmp_path: Path) -> None:
    refused = busybox_store.strata("export", "-o", str(tmp_path / "x.tar"), "nobody")
    assert refused.rc == 125
    assert os.listdir(tmp_path) == []
    full = busybox_store.strata("export", "-o", "/nonexistent/x.tar", "nobody")
    assert full.rc == 125
