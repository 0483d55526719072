"""Checkpoints of containers, with the CRIU, the crun and the kernel of the lane's machine.

Two more tests of them are in test_systemd_life.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from checkpoint_story import COUNTER, Counter, Story
from helpers import kill
from helpers.store import open_store, wait_until

pytestmark = pytest.mark.openzfs


@pytest.fixture(scope="module")
def story(pool: str) -> Iterator[Story]:
    """On a store that ends here: tests that come after may leave this mount namespace."""
    with open_store(pool=pool, networks=True) as store:
        store.add_busybox()
        yield Story(store)


def test_a_start_begins_anew_and_drops_the_checkpoint(story: Story) -> None:
    counter = story.count("counter")
    story("container", "checkpoint", "counter")
    story("start", "counter")
    counter.wait_for(1, times=2)
    story("stop", "counter")
    told = story.refused("container", "restore", "counter").err
    assert "a complete checkpoint for this container cannot be found" in told
    story("rm", "counter")


def test_what_is_killed_leaves_a_container_that_can_be_used(story: Story) -> None:
    counter = story.count("killed")
    take, give = ("container", "checkpoint", "killed"), ("container", "restore", "killed")
    taking = kill.list_points(story.store, *take)
    giving = kill.list_points(story.store, *give)
    kill.kill_at(story.store, taking.index("checkpoint:dumped"), *take)
    # Nobody has written down that it ended; the next command does.
    last = counter.numbers[-1]
    kill.kill_at(story.store, giving.index("start:created"), *give)
    # It ran, and no record says so: these processes end, and the checkpoint is still there.
    story("system", "check", "--repair")
    assert story.status_of("killed")[:2] == ("exited", True)
    story(*give)
    counter.goes_on(last)
    assert counter.numbers.count(1) == 1
    story("rm", "-f", "killed")


def test_an_archive_makes_another_container_with_files_and_volumes(story: Story) -> None:
    archive = f"{story.store.base}/counter.tar.zst"
    script = f"busybox rm /bin/true; echo kept >/etc/new; echo own >/other/f; {COUNTER}"
    counter = story.count("origin", "-v", "numbers:/data", "-v", "/other", script=script)
    story("container", "checkpoint", "--pre-checkpoint", "origin")
    story("container", "checkpoint", "--with-previous", "--export", archive, "origin")
    last = counter.numbers[-1]
    assert os.stat(archive).st_mode & 0o777 == 0o600
    restore = ("container", "restore", "--import", archive, "--name", "copy")
    assert "volume with name numbers already exists" in story.refused(*restore).err
    story("rm", "--volumes", "origin")
    story("volume", "rm", "numbers")
    story(*restore)
    copy = Counter(story, "copy")
    copy.wait_for(last + 2)
    assert copy.numbers[0] == last + 1
    look = "cat /etc/new /other/f /data/n; [ -e /bin/true ] || echo gone"
    shown = story("exec", "copy", "sh", "-c", look).split()
    assert shown[:2] + shown[3:] == ["kept", "own", "gone"]
    assert int(shown[2]) > last


def test_a_running_container_is_copied_with_its_memory(story: Story) -> None:
    archive = f"{story.store.base}/live.tar"
    counter = Counter(story, "copy")
    story("container", "checkpoint", "-R", "-e", archive, "--compress", "none", "copy")
    seen = counter.numbers[-1]
    counter.goes_on(seen)
    story("container", "restore", "--import", archive, "--name", "twin", "--ignore-volumes")
    wait_until(lambda: Counter(story, "twin").numbers, "does not count on")
    assert counter.numbers[0] < Counter(story, "twin").numbers[0] <= seen + 1
    story("rm", "-f", "copy", "twin")
    story("system", "check")
