"""``run --at``: a container as it was, on a clone, without touching what is now.

``--at web@mon`` makes a container like ``web`` on a clone of that snapshot. Its volumes are clones
too: of their own snapshot of the same name, where they have one, else of what they hold now. It
publishes no ports and, unless asked, has no network: it must not meet what it talked to then.
``--at data@mon`` puts a clone of the volume where ``-v data:/path`` says. The clones are anonymous
volumes, so they go with ``--rm``.
"""

from __future__ import annotations

import os

from strata.engine import names
from strata.engine.containers import create
from strata.engine.core import Engine, Record
from strata.engine.history import clones, facts, targets
from strata.engine.volumes import making
from strata.errors import UsageError
from strata.store.records import new_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from strata.store.journal import Operation


def find_container(e: Engine, specs: Sequence[str]) -> Record | None:
    """The container among what ``--at`` names, None when there are only volumes."""
    found = [targets.get_target(e, targets.split(spec)[0]) for spec in specs]
    containers = [record for record in found if record["kind"] == "container"]
    if len(containers) > 1:
        raise UsageError("--at takes one container", hint="`strata fork` copies several")
    return containers[0] if containers else None


def make(e: Engine, specs: Sequence[str], options: Mapping[str, Any], changed: Record) -> Record:
    """Make the container that ``run --at`` asks for; return its record.

    ``options`` are those of `strata.engine.containers.create.create`; ``changed`` holds of them
    what was on the command line. Without a container among ``specs`` it is made of the image.
    """
    moments = dict(targets.split(spec) for spec in specs)
    wanted = {
        record["id"]: (record, moments[text])
        for text in moments for record in [facts.reconcile(e, targets.get_target(e, text))]
    }  # fmt: skip
    container = next((r for r, _ in wanted.values() if r["kind"] == "container"), None)
    if container is None:
        return _make_of_image(e, wanted, options)
    name = wanted[container["id"]][1]
    config = _plan_config(container["config"], changed)
    chosen = options.get("name") or f"{container['name'][:64]}-at-{os.urandom(3).hex()}"
    names.check_name(chosen, "container")
    with making.Held(e) as held, e.begin("run-at") as operation:
        source = targets.get_source(e, container, name)
        for item in config["mounts"]:
            if not item.get("volume"):
                continue
            volume = facts.reconcile(e, e.records.get("volume", item["volume"]))
            moment = wanted.get(volume["id"], (volume, ""))[1]
            if not moment and targets.find_snapshot(e, volume, name) is not None:
                moment = name
            _replace(item, _clone_volume(e, operation, held, volume, moment))
        origin = {"target": container["id"], "name": container["name"], "snapshot": name}
        return clones.copy_container(
            e, operation, container, source, chosen, config=config, cloned=origin
        )


def _plan_config(config: Record, changed: Record) -> Record:
    """Settings of a container for a look at its past: its own, what the user said, no ports."""
    planned: Record = {**config, "mounts": [dict(item) for item in config["mounts"]]}
    planned.update(ports=[], networks=[], network="none", publish_all=False, remove=False)
    for key in ("restart", "requires", "pidfile", "conmon_pidfile"):
        planned.pop(key, None)
    for key in ("tty", "stdin"):
        planned[key] = False
    for key, value in changed.items():
        if key in ("mounts", "image", "name"):
            continue
        if key == "env":
            planned["env"] = create.merge_env(list(config["env"]), list(value))
        elif key in create.DEFAULTS or key in create.OPTIONAL:
            planned[key] = value
    if changed.get("command") and changed.get("entrypoint") is None:
        planned["entrypoint"] = []
    planned["mounts"] += [dict(item) for item in changed.get("mounts") or ()
                          if item["type"] == "bind"]  # fmt: skip
    return planned


def _make_of_image(
    e: Engine, wanted: Mapping[str, tuple[Record, str]], options: Mapping[str, Any]
) -> Record:  # fmt: skip
    mounts = [dict(item) for item in options.get("mounts") or ()]
    for volume, _ in wanted.values():
        if not any(m["type"] == "volume" and m["source"] == volume["name"] for m in mounts):
            raise UsageError(
                f"the volume {volume['name']} of --at is not mounted",
                hint=f"add -v {volume['name']}:/PATH",
            )
    made = []
    try:
        with making.Held(e) as held, e.begin("run-at") as operation:
            for item in mounts:
                for volume, moment in wanted.values():
                    if item["type"] == "volume" and item["source"] == volume["name"]:
                        made.append(_clone_volume(e, operation, held, volume, moment))
                        _replace(item, made[-1])
        return create.create(e, {**options, "mounts": mounts})
    except BaseException:
        from strata.engine.volumes import removal

        for record in made:
            if e.records.find("volume", record["id"]) is not None:
                removal.discard(e, record, verb="volume-rm", keep=False)
        raise


def _clone_volume(
    e: Engine, operation: Operation, held: making.Held, volume: Record, moment: str
) -> Record:  # fmt: skip
    """An anonymous clone of a volume at a moment, or ("") of what it holds now."""
    if moment:
        source = targets.get_source(e, volume, moment)
    else:
        moment, source = clones.freeze(e, operation, volume)
    return making.make(
        e, operation, held, new_id(), native=volume.get("native"), labels=volume["labels"],
        profile=volume["profile"], options=volume["options"], origin=source, anonymous=True,
        cloned={"target": volume["id"], "name": volume["name"], "snapshot": moment},
    )  # fmt: skip


def _replace(item: Record, volume: Record) -> None:
    item.update(source=volume["name"], volume=volume["id"], anonymous=True)
