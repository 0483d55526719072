"""What is too dear to import: for the tests that read the source and those that run it."""

from __future__ import annotations

#: what `strata --version` may never load (each costs a good part of the interpreter, or more)
NEVER_FOR_VERSION = frozenset(
    "argparse ctypes dataclasses email hashlib http isal json logging msgspec pathlib re rich "
    "shutil socket ssl subprocess tempfile threading typing urllib urllib3 yaml zstandard".split()
)

#: what `run`, `exec` and `ps` may never load
NEVER_ON_HOT_PATH = frozenset(
    "argparse asyncio dataclasses email http inspect isal json logging msgspec pathlib re rich "
    "shutil ssl subprocess tempfile typing urllib urllib3 yaml zstandard".split()
)
