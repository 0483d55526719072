"""What starting costs, as the interpreter itself reports it; the unit lane reads the source."""

from __future__ import annotations

import os
import subprocess
import sysconfig

import pytest
from helpers.heavy import NEVER_FOR_VERSION

from strata.cli.launcher import write_launcher

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PYTHON = "/usr/bin/python3"


@pytest.fixture
def launcher(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An installed launcher of this checkout."""
    target = str(tmp_path_factory.mktemp("bin") / "strata")
    write_launcher(PYTHON, TOP, sysconfig.get_path("purelib"), target)
    return target


def _list_imported(launcher: str, *words: str) -> set[str]:
    done = subprocess.run(
        [PYTHON, "-IS", "-X", "importtime", launcher, *words],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().split(".")[0] for line in lines}


def test_version_loads_nothing_heavy(launcher: str) -> None:
    assert not NEVER_FOR_VERSION & _list_imported(launcher, "--version")


def test_the_installed_launcher_answers_with_the_version(launcher: str) -> None:
    done = subprocess.run([launcher, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("strata version ")


def test_the_launcher_is_not_led_astray_by_the_environment(
    launcher: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """PYTHONPATH and the working directory are somebody else's; root's command ignores them."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "json.py").write_text("raise SystemExit(42)\n")
    (folder / "strata").mkdir()
    (folder / "strata" / "__init__.py").write_text("raise SystemExit(43)\n")
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "PYTHONSTARTUP": str(folder / "json.py"),
    }
    done = subprocess.run([launcher, "--help"], cwd=folder, env=environment, capture_output=True,
                          text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
