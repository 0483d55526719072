"""The commands on the store, and those on the command line itself."""

from __future__ import annotations

import os
import sys

from strata.cli.context import Context, for_each, note, say, show_each
from strata.errors import NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from strata.cli.parse import Options


def init(context: Context, options: Options, arguments: list[str]) -> int:
    """Make the store and say where it is."""
    context.need_root()
    from strata.engine.system import verbs as system

    size = options.number("size")
    if options.given("pool") and options.given("file"):
        raise UsageError(
            "--pool and --file cannot be used together",
            hint="a store lies in a pool that exists or in a file",
        )
    if size is not None and options.given("pool"):
        raise UsageError("--size is the size of a pool file; it cannot be used with --pool")
    made = system.init(
        context.root,
        context.runroot,
        driver=options.maybe("driver"),
        pool=options.maybe("pool"),
        file=options.maybe("file"),
        size=size,
    )
    _show_tree({key: value for key, value in made.items() if value not in ("", None)})
    return 0


def info(context: Context, options: Options, arguments: list[str]) -> int:
    """Show the engine, its store and this host."""
    from strata.cli.defaults import is_used
    from strata.engine.system.info import info as describe

    found = describe(context.engine)
    for key, entry in found["config"]["values"].items():
        entry["used"] = is_used(key)
    _show_document(
        {**found, **_name_as_docker(found)} if _is_template(options) else found, found, options
    )
    return 0


def _is_template(options: Options) -> bool:
    return "{{" in options.text("format")


def _name_as_docker(found: dict[str, Any]) -> dict[str, Any]:
    """What ``docker info --format`` asks for, by Docker's names."""
    host, store = found["host"], found["store"]
    return {
        "ID": store["id"],
        "Name": host["hostname"],
        "ServerVersion": found["version"]["Version"],
        "Driver": store["graphDriverName"],
        "DockerRootDir": store["graphRoot"],
        "Containers": store["containerStore"]["number"],
        "ContainersRunning": store["containerStore"]["running"],
        "ContainersPaused": store["containerStore"]["paused"],
        "ContainersStopped": store["containerStore"]["stopped"],
        "Images": store["imageStore"]["number"],
        "NCPU": host["cpus"],
        "MemTotal": host["memTotal"],
        "OSType": host["os"],
        "OperatingSystem": f"{host['distribution']['distribution']} "
        f"{host['distribution']['version']}",
        "Architecture": os.uname().machine,
        "KernelVersion": host["kernel"],
        "CgroupDriver": host["cgroupManager"],
        "CgroupVersion": host["cgroupVersion"].removeprefix("v"),
        "DefaultRuntime": host["ociRuntime"]["name"],
        "LoggingDriver": host["logDriver"],
        "Runtimes": {name: {"path": path} for name, path in (
            ("crun", host["ociRuntime"]["path"]), ("runc", host["runc"]["path"])) if path},
        "SecurityOptions": ["name=seccomp,profile=default", "name=cgroupns"],
        "Swarm": {"LocalNodeState": "inactive"},
    }  # fmt: skip


def check(context: Context, options: Options, arguments: list[str]) -> int:
    """Compare records, datasets and processes; 1 when something is wrong and stays so."""
    from strata.engine.system import verbs as system

    found = system.check(context.engine, options.flag("repair"))
    problems = found["Problems"]
    left = [problem for problem in problems if not problem["Repaired"]]
    if options.text("format") == "json":
        from strata.cli.format import show_json

        show_json(found)
        return 1 if left else 0
    for problem in problems:
        state = "repaired" if problem["Repaired"] else "problem"
        say(f"{state}: {problem['Object']}: {problem['Text']}")
    note(f"checked {found['Checked']} objects: {len(problems)} problems, {len(left)} left")
    if left and not options.flag("repair"):
        note("hint: 'strata system check --repair' repairs what it can without loss")
    return 1 if left else 0


def rebuild(context: Context, options: Options, arguments: list[str]) -> int:
    """Write the records anew from the datasets."""
    from strata.engine.system import verbs as system

    context.need_root()
    found = system.rebuild(context.root, context.runroot)
    for text in found.pop("Skipped", None) or ():
        note(f"skipped: {text}")
    for kind, count in found.items():
        say(f"{kind}: {count}")
    return 0


def reset(context: Context, options: Options, arguments: list[str]) -> int:
    """Remove everything, and the store."""
    context.need_root()
    from strata.engine.system import verbs as system

    now, force = options.flag("now"), options.flag("force")
    if options.flag("dry-run"):
        for line in system.list_losses(context.root, context.runroot):
            say(f"would remove {line}")
        return 0
    if not (now and force):
        lines = system.list_losses(context.root, context.runroot)
        losses = "".join(f"\n  {line}" for line in lines)
        how = "without a way back" if now else "and keep it aside for a week"
        if not context.confirm(f"This will remove, {how}:{losses}", force=force):
            return 0
    done = system.reset(context.root, context.runroot, force=True, now=now)
    for place in done["Left"]:
        note(f"{place} could not be reached and stays")
    if done["Place"]:
        from strata.cli.format import go_time

        note(f"the store is kept as {done['Place']} until {go_time(done['Due'])}: 'strata undo' "
             "brings it back, 'strata system reset --now --force' destroys it")  # fmt: skip
    return 0


def inspect(context: Context, options: Options, arguments: list[str]) -> int:
    """Show everything about objects of any kind."""
    names = list(arguments)
    kind = options.text("type")
    if options.flag("latest"):
        if names:
            raise UsageError("--latest and names cannot be used together")
        from strata.engine.containers.listing import list_containers

        names = [row["Id"] for row in list_containers(context.engine, all=True, latest=True)]
        kind = "container"
    if not names:
        raise UsageError("no names or ids specified", hint="name what to inspect, or use --latest")
    return show_each(
        context, names,
        lambda name: _find_object(context, name, kind, size=options.flag("size")),
        options.maybe("format"),
    )  # fmt: skip


def _find_object(context: Context, name: str, kind: str, *, size: bool) -> list[Any]:
    """Return what is known about one object: the first of container, image, volume, network."""
    from strata.engine import names

    if kind in ("all", "container"):
        from strata.engine.containers import verbs as containers

        if kind == "container" or names.exists(context.engine, "container", name):
            return list(containers.inspect(context.engine, [name], size=size))
    if kind in ("all", "image"):
        from strata.engine.images import verbs as images

        if kind == "image" or images.exists(context.engine, name):
            from strata.engine.images.listing import inspect_images

            return list(inspect_images(context.engine, [name]))
    if kind in ("all", "volume"):
        from strata.engine.volumes import listing

        if kind == "volume" or names.exists(context.engine, "volume", name):
            return list(listing.inspect(context.engine, [name]))
    if kind in ("all", "network"):
        from strata.engine.networks import verbs as networks

        if kind == "network" or networks.exists(context.engine, name):
            return list(networks.inspect(context.engine, [name]))
    raise NotFound(f'no such object: "{name}"')


def version(context: Context, options: Options, arguments: list[str]) -> int:
    """Show versions."""
    from strata.engine.system.info import describe_version

    found = describe_version()
    client = {
        **found,
        "PythonVersion": sys.version.partition(" ")[0],
        "Kernel": os.uname().release,
        "Arch": found["OsArch"].partition("/")[2],
    }
    shown = {
        "Client": "Strata Engine",
        "Version": client["Version"],
        "Python Version": client["PythonVersion"],
        "Kernel": client["Kernel"],
        "OS/Arch": client["OsArch"],
    }
    # There is no server; Docker's scripts ask for its version and get the engine's.
    both = {"Client": client, "Server": client}
    _show_document({**client, **both} if _is_template(options) else both, shown, options)
    return 0


def migrate(context: Context, options: Options, arguments: list[str]) -> int:
    """Give all containers another runtime."""
    runtime = options.text("new-runtime")
    if not runtime:
        note("records are brought to this version when they are read; nothing to do")
        return 0
    from strata.engine.containers import verbs as containers

    return for_each(
        context,
        context.engine.records.list_ids("container"),
        lambda name: say(containers.set_runtime(context.engine, name, runtime)),
    )


def renumber(context: Context, options: Options, arguments: list[str]) -> int:
    """Say that there is nothing to renumber."""
    note("locks have no numbers; nothing to do")
    return 0


def completion(context: Context, options: Options, arguments: list[str]) -> int:
    """Print a shell's completion script."""
    from strata.cli.completion import SCRIPTS

    script = SCRIPTS.get(arguments[0])
    if script is None:
        raise UsageError(
            f'unknown shell "{arguments[0]}"', hint=f"known: {', '.join(sorted(SCRIPTS))}"
        )
    sys.stdout.write(script)
    return 0


def complete(context: Context, options: Options, arguments: list[str]) -> int:
    """Print candidates for the last word of an unfinished command line."""
    from strata.cli.completion import list_candidates

    for candidate in list_candidates(arguments, context):
        say(candidate)
    return 0


def help_(context: Context, options: Options, arguments: list[str]) -> int:
    """Show the help of strata, a group or a command."""
    from strata.cli.main import main

    return main([*arguments, "--help"])


def _show_document(found: dict[str, Any], shown: dict[str, Any], options: Options) -> None:
    """Print ``shown`` for people, or ``found`` as ``--format`` asks: JSON or a template."""
    format = options.maybe("format")
    if format is None:
        _show_tree(shown)
        return
    from strata.cli.format import normalise, show_json, show_objects

    if normalise(format) == "json":
        show_json(found)
    else:
        show_objects([found], format)


def _show_tree(value: dict[str, Any], indent: int = 0) -> None:
    """Print nested values the way YAML looks."""
    from strata.cli.messages import clean

    width = max((len(key) for key, item in value.items() if not _is_nested(item)), default=0)
    for key, item in value.items():
        space = " " * indent
        if isinstance(item, dict) and item:
            say(f"{space}{key}:")
            _show_tree(item, indent + 2)
        elif isinstance(item, list) and item:
            say(f"{space}{key}:")
            for entry in item:
                if isinstance(entry, dict):
                    say(f"{space}-")
                    _show_tree(entry, indent + 2)
                else:
                    say(f"{space}- {clean(str(entry))}")
        else:
            text = clean(_plain(item))
            say(f"{space}{key + ':':<{width + 2}}{text}".rstrip())


def _plain(item: Any) -> str:
    if item is None or item in ({}, []):
        return ""
    if isinstance(item, bool):
        return "true" if item else "false"
    return str(item)


def _is_nested(item: Any) -> bool:
    return isinstance(item, (dict, list)) and bool(item)
