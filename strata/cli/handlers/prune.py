"""``system prune``: the prunes of containers, networks, volumes and images in one question."""

from __future__ import annotations

from strata.cli import losses, values
from strata.cli.context import Context, note, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from strata.cli.parse import Options


def prune(context: Context, options: Options, arguments: list[str]) -> int:
    """Remove what nobody uses; containers first, so that what only they used goes as well."""
    from strata.cli.format import human_size
    from strata.engine.containers import removal
    from strata.engine.images import verbs as images
    from strata.engine.losses import list_prunable
    from strata.engine.networks import removal as networks
    from strata.engine.volumes import removal as volumes

    everything = options.flag("all")
    filters = values.parse_filters(options.list("filter"))

    def find() -> list[dict[str, Any]]:
        found = list_prunable(context.engine, "container", filters)
        gone = {row["Id"] for row in found}

        def add(kind: str, *, all: bool = False) -> None:
            found.extend(list_prunable(context.engine, kind, filters, all=all, without=gone))

        add("network")
        if options.flag("volumes"):
            add("volume", all=everything)
        add("image", all=everything)
        return found

    if losses.is_dry(options, find):
        return 0
    if not losses.confirm(context, options, _warn(everything, options.flag("volumes")), find):
        return 0
    e = context.engine
    done = {"Containers": removal.prune(e, filters)}
    done["Networks"] = {"Deleted": networks.prune(e, filters)}
    if options.flag("volumes"):
        done["Volumes"] = volumes.prune(e, filters, all=everything)
    done["Images"] = images.prune(e, all=everything, filters=filters)
    for title, result in done.items():
        if result["Deleted"]:
            say(f"Deleted {title}")
        for name in result["Deleted"]:
            say(name)
        for failure in result.get("Failed") or ():
            note(f"not removed: {failure}")
    freed = sum(result.get("Freed") or 0 for result in done.values())
    say(f"Total reclaimed space: {human_size(freed)}")
    held = done["Images"].get("Trash") or 0
    if held:
        note(f"the trash holds {human_size(held)}")
    losses.show_way_back(context)
    return 0


def _warn(everything: bool, with_volumes: bool) -> str:
    lines = ["This command removes:", "\t- all stopped containers",
             "\t- all networks not used by at least one container"]  # fmt: skip
    if with_volumes:
        what = "volumes" if everything else "anonymous volumes"
        lines.append(f"\t- all {what} not used by at least one container")
    unused = "without at least one container associated to them"
    lines.append(f"\t- all images {unused if everything else 'without a name'}")
    return "\n".join(lines)
