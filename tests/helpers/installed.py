"""Strata as it is installed: a copy of the package, its bundle, and a launcher."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import sysconfig
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PYTHON = "/usr/bin/python3"
_MAKE = """
import sys
sys.path.insert(0, sys.argv[2])
from strata.bundle import write
from strata.cli.launcher import write_launcher
write(sys.argv[2])
write_launcher(*sys.argv[1:])
"""


@functools.cache
def find_launcher() -> str:
    """The launcher; it and all it needs are made once and go when this process ends."""
    folder = tempfile.mkdtemp(prefix="strata-installed-", dir="/var/tmp")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    shutil.copytree(f"{TOP}/strata", f"{folder}/package/strata",
                    ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
    launcher = f"{folder}/strata"
    site = sysconfig.get_path("purelib")
    subprocess.run([PYTHON, "-IB", "-c", _MAKE, PYTHON, f"{folder}/package", site, launcher],
                   check=True)  # fmt: skip
    return launcher
