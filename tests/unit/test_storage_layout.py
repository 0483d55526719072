"""Dataset names: the rules of the ZFS kernel, and the names the store gives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.errors import UsageError
from strata.storage import layout


@pytest.mark.parametrize("name", ["layers/4f1c", "volumes/_/pg.9a3e", "records", "a:b/c-d_e.f",
                                  "containers/" + "x" * 180])  # fmt: skip
def test_good_names_pass(name: str) -> None:
    assert layout.check_dataset(name) == name


@pytest.mark.parametrize("name", ["", "/", "a/", "/a/", "/a/../b", "/a@b", "/a\nb", "a//b",
                                  "a/../b", "a/./b", ".a", "-a", "a b",
                                  "a@b", "a#b", "a%b", "a\tb", "ä", "x" * 192])  # fmt: skip
def test_bad_names_have_a_hint(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        layout.check_dataset(name)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["a", "a@", "@b", "a@b@c", "a@b/c", "a@-b", "a@b c", "a/@b"])
def test_bad_snapshot_names(name: str) -> None:
    with pytest.raises(UsageError):
        layout.check_snapshot(name)


@pytest.mark.parametrize("name", ["/tank/photos", "/mnt/my photos", "/a/b.c/ä"])
def test_what_lies_outside_is_named_as_its_owner_named_it(name: str) -> None:
    assert layout.check_dataset(name) == name
    assert layout.check_snapshot(f"{name}@a") == (name, "a")
    assert not layout.is_made(name)
    with pytest.raises(UsageError):
        layout.check_made(name)
    made = layout.successor(name)
    assert made.startswith(f"{name}.strata-")
    assert layout.check_made(made) == made
    assert layout.successor(made).startswith(f"{name}.strata-")
    assert layout.successor(made) != made


@pytest.mark.parametrize("name", ["/a/b.strata-", "/a/b.strata-1234567", "/a/b.strata-1234567g",
                                  "/a.strata-12345678/b"])  # fmt: skip
def test_only_what_ends_as_ours_was_made_by_us(name: str) -> None:
    assert not layout.is_made(name)


def test_snapshot_names_are_split() -> None:
    assert layout.check_snapshot("volumes/_/a.1@tue") == ("volumes/_/a.1", "tue")
    assert layout.base_snapshot("layers/a") == "layers/a@layer"


@pytest.mark.parametrize("name", ["mirror1", "raidz", "draid2", "spare", "log", "c0t0", "1tank", "",
                                  "ta nk", "tank@x"])  # fmt: skip
def test_reserved_pool_names(name: str) -> None:
    with pytest.raises(UsageError):
        layout.check_pool(name)


def test_pool_names_and_roots() -> None:
    assert layout.check_pool("tank") == "tank"
    assert layout.check_pool("cat") == "cat"
    assert layout.check_root("tank/data/strata") == "tank/data/strata"
    for bad in ("tank/../x", "tank//x", "tank/" + "x" * 80, "/tank"):
        with pytest.raises(UsageError):
            layout.check_root(bad)


@given(st.text(max_size=300), st.text("0123456789abcdef", min_size=64, max_size=64))
def test_every_users_name_makes_a_valid_dataset_name(name: str, object_id: str) -> None:
    dataset = layout.check_dataset(layout.container(name, object_id))
    assert dataset.endswith(object_id[:12])
    assert layout.check_dataset(layout.volume(name)) != layout.volume(name)
    assert layout.check_dataset(layout.successor(dataset)) != dataset
    assert layout.check_dataset(layout.trash(dataset)).startswith("trash/")
    longest = f"{'r' * 63}/{dataset}@{'s' * 60}"
    assert len(longest) <= layout.FULL_NAME_LIMIT


def test_a_successor_keeps_the_readable_part() -> None:
    new = layout.successor("volumes/_/pg.data.9a3e1234")
    assert new.startswith("volumes/_/pg.data.")
    assert len(new) == len("volumes/_/pg.data.9a3e1234")


@given(st.text("abc/@.", max_size=20))
def test_flat_names_are_one_component(name: str) -> None:
    assert "/" not in layout.flatten(name)
    assert "~" not in layout.ALLOWED
