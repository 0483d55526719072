"""Strata as it is installed."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import sysconfig
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@functools.cache
def find_launcher() -> str:
    """The launcher; it and all it needs are made once and go when this process ends."""
    folder = tempfile.mkdtemp(prefix="strata-installed-", dir="/var/tmp")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    words = [f"{TOP}/tools/as_installed.py", folder, sysconfig.get_path("purelib")]
    subprocess.run(words, check=True)
    return f"{folder}/strata"
