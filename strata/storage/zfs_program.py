"""Several changes in one transaction group: OpenZFS runs a channel program in the kernel.

The functions of 2.1 to 2.3 suffice for what completes a dataset; none makes or clones one. Source:
zfs-program(8). A program changes all or stops where it fails, without taking back.
"""

from __future__ import annotations

from strata import command
from strata.errors import CommandFailed
from strata.storage import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from strata.storage.zfs import Zfs

# Arguments: the dataset, "promote" or "", the snapshot or "", then keys and values.
_FINISH = b"""\
local argv = (...)["argv"]
local function must(number)
  if number ~= 0 then error("error " .. number) end
end
for i = 4, #argv, 2 do
  must(zfs.sync.set_prop(argv[1], argv[i], argv[i + 1]))
end
if argv[2] ~= "" then must((zfs.sync.promote(argv[1]))) end
if argv[3] ~= "" then must(zfs.sync.snapshot(argv[3])) end
"""


def finish(
    z: Zfs, name: str, identity: Mapping[str, str], snapshot: str, promote: bool
) -> bool:  # fmt: skip
    """`Driver.finish` in one transaction group. False when it failed: the single steps tell why,
    and repeat what was done."""
    layout.check_identity(identity)
    full = z.full_name(layout.check_dataset(name))
    frozen = ""
    if snapshot:
        layout.check_snapshot(f"{name}@{snapshot}")
        frozen = f"{full}@{snapshot}"
    words = [full, "promote" if promote else "", frozen]
    for key, value in identity.items():
        words += [f"strata:{key}", value]
    z.changes += 1
    pool = z.dataset.partition("/")[0]
    try:
        command.run(["zfs", "program", pool, "-", *words], input=_FINISH)
    except CommandFailed:
        z.changes -= 1
        return False
    return True
