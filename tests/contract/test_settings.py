"""containers.conf on disk: which files count, in which order, and that changes are seen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from strata.engine import settings
from strata.errors import UsageError


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host without configuration files; those of the test lie below its directory."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "run").mkdir()
    files = (f"{tmp_path}/usr.conf", f"{tmp_path}/etc.conf")
    monkeypatch.setattr(settings, "FILES", files)
    monkeypatch.setattr(settings, "FOLDER", f"{tmp_path}/conf.d")
    return tmp_path


def load(host: Path, **environment: str) -> dict[str, object]:
    return {key: value for key, (value, _) in settings.load(f"{host}/run", environment).items()}


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_later_files_win_key_by_key(host: Path) -> None:
    write(host / "usr.conf", "[containers]\ninit = true\ntz = 'UTC'\n")
    write(host / "etc.conf", "[containers]\ntz = 'local'\n[engine]\nruntime = 'crun'\n")
    write(host / "conf.d/20-b.conf", "[engine]\nruntime = 'runc'\n")
    write(host / "conf.d/10-a.conf", "[engine]\nruntime = 'other'\n")
    write(host / "conf.d/30-c.conf.off", "[engine]\nruntime = 'off'\n")
    assert load(host) == {"containers.init": True, "containers.tz": "local",
                          "engine.runtime": "runc"}  # fmt: skip


def test_the_environment_replaces_and_overrides(host: Path) -> None:
    write(host / "etc.conf", "[containers]\ninit = true\n")
    own = write(host / "own.conf", "[containers]\ntz = 'UTC'\n")
    over = write(host / "over.conf", "[containers]\ntz = 'local'\n")
    assert load(host, CONTAINERS_CONF=own) == {"containers.tz": "UTC"}
    assert load(host, CONTAINERS_CONF_OVERRIDE=over) == {"containers.init": True,
                                                         "containers.tz": "local"}  # fmt: skip
    assert load(host, CONTAINERS_CONF=own, CONTAINERS_CONF_OVERRIDE=over) == {
        "containers.tz": "local"
    }


def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not(host: Path) -> None:
    path = write(host / "etc.conf", "[containers]\ntz = 'UTC'\n")
    assert load(host) == {"containers.tz": "UTC"}
    kept = (host / "run" / settings.CACHE).read_bytes()
    times = os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns
    assert load(host) == {"containers.tz": "UTC"}
    assert (host / "run" / settings.CACHE).read_bytes() == kept
    write(host / "etc.conf", "[containers]\ntz = 'CET'\n")
    os.utime(path, ns=(times[0], times[1] + 1))
    assert load(host) == {"containers.tz": "CET"}


def test_without_files_there_is_nothing_to_read(host: Path) -> None:
    assert load(host) == {}
    assert os.listdir(host / "run") == []


@pytest.mark.parametrize("text", ["[containers", "x x", "\x00"])
def test_a_broken_file_is_named(host: Path, text: str) -> None:
    path = write(host / "etc.conf", text)
    with pytest.raises(UsageError) as caught:
        load(host)
    assert path in caught.value.message


def test_a_file_that_is_no_text_is_named(host: Path) -> None:
    path = host / "etc.conf"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot read "):
        load(host)


def test_a_value_that_json_lacks_is_passed_on(host: Path) -> None:
    write(host / "etc.conf", "[containers]\nday = 2026-01-31\ninit = true\n")
    assert load(host)["containers.init"] is True


def test_a_file_that_is_not_there_is_named(host: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load(host, CONTAINERS_CONF="/nowhere.conf")
    assert "/nowhere.conf" in caught.value.message
