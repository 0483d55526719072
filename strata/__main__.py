"""Run the command line: ``python -m strata``, or this file itself.

Started as a file (the way the engine has itself called back), only the interpreter's own library
is on the path; the package's parent is put first and the site directory, if known, last.
"""

from __future__ import annotations

import sys

if not __package__:
    sys.path.insert(0, __file__.rpartition("/")[0].rpartition("/")[0] or "/")

from strata.cli.launcher import start

if __name__ == "__main__":
    start()
