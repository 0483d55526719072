#!/usr/bin/python3 -IB
"""Make a copy of this checkout as it is installed: the package, its bundle, and a launcher.

    as_installed.py FOLDER SITE

The launcher is FOLDER/strata; SITE is the directory of third-party modules.
"""

from __future__ import annotations

import os
import shutil
import sys


def main() -> None:
    folder, site = sys.argv[1:]
    top = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    package = f"{folder}/package"
    shutil.copytree(f"{top}/strata", f"{package}/strata",
                    ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
    sys.path.insert(0, package)
    from strata import bundle
    from strata.cli.launcher import write_launcher

    bundle.write(package)
    write_launcher(sys.executable, package, site, f"{folder}/strata")


if __name__ == "__main__":
    main()
