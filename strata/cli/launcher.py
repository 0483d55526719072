"""How strata is started, and how it names itself to programs that call it back.

The installed launcher is a tiny script for an isolated interpreter (``python3 -IS``): no user
site, no ``.pth`` files, no ``PYTHON*`` variables, which also is what makes it start fast and safe
to run as root. The package comes first on the path and the third-party modules last, so that they
are looked at only when something needs them. Modules come from the bundle (`strata.bundle`).
"""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper

from strata import command
from strata.cli.main import main

TEMPLATE = """\
#!{python} -IS
import gc
import marshal
import sys
from _frozen_importlib_external import MAGIC_NUMBER
gc.set_threshold({threshold})
sys.path.insert(0, {package!r})
sys.path.append({site!r})
try:
    with open({package!r} + "/strata.bundle", "rb", 0) as file:
        if file.read(4) == MAGIC_NUMBER:
            size = int.from_bytes(file.read(4), "little")
            code, *tables = marshal.loads(file.read(size))
            bundle = {{"__name__": "strata.bundle"}}
            exec(code, bundle)
            bundle["use"]({package!r}, 8 + size, *tables)
except (OSError, EOFError, ValueError, TypeError):
    pass
from strata.cli.launcher import start
start(__file__)
"""


#: objects made before garbage is first looked for: loading makes some ten thousand, none of them
#: garbage, and looking takes a tenth of what a short command takes
GC_THRESHOLD = 100_000


def start(path: str | None = None) -> None:
    """Run the command line of this process and end it. ``path`` is the launcher's own file.

    Ends without the interpreter's tear-down, which would only free memory: every file is closed
    by the kernel and both streams are flushed here.
    """
    if path is not None:
        path = os.path.abspath(path)  # the working directory may be another by then
    command.find_own_argv = lambda: find_own_argv(path)
    _open_standard_streams()
    # Names on disk need not be text, and what is printed does not depend on the locale.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    code = main()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            code = code or 1
    os._exit(code)


def _open_standard_streams() -> None:
    """Put /dev/null where a standard descriptor is closed: no other file may take its place."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # The lowest free number is taken, which is this one.
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)


def find_own_argv(path: str | None) -> list[str]:
    """Return the words that start strata again from anywhere: launcher, or interpreter and file."""
    if path is not None:
        return [os.path.realpath(path)]
    import strata

    return [
        sys.executable,
        "-I",
        f"{os.path.dirname(os.path.realpath(strata.__file__))}/__main__.py",
    ]


def render_launcher(python: str, package_parent: str, site_packages: str) -> str:
    """Return the text of a launcher.

    ``python`` is the absolute path of the interpreter (at most 120 characters, without spaces: it
    goes into a ``#!`` line), ``package_parent`` the directory that holds the package ``strata``,
    ``site_packages`` the directory of third-party modules.
    """
    for what in (python, package_parent, site_packages):
        if not what.startswith("/"):
            raise ValueError(f"{what!r} is not an absolute path")
    if len(python) > 120 or any(letter.isspace() for letter in python):
        raise ValueError(f"{python!r} cannot stand in a '#!' line")
    return TEMPLATE.format(
        python=python, package=package_parent, site=site_packages, threshold=GC_THRESHOLD
    )


def write_launcher(
    prefix_python: str, package_parent: str, site_packages: str, target: str
) -> None:
    """Write an executable launcher to ``target`` in one step (see `render_launcher`)."""
    text = render_launcher(prefix_python, package_parent, site_packages)
    staging = f"{target}.{os.getpid()}"
    fd = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o755)
    try:
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(fd, 0o755)
        os.rename(staging, target)
    except BaseException:
        os.unlink(staging)
        raise
