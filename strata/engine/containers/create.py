"""Creating a container: image defaults and the user's options become a record, then a dataset.

The plan is pure: `plan_config` merges an image's configuration with what the user asked for. The
act is short: take the name, clone the top layer, make the volumes that do not exist yet, write
the record. An operation journals each step, so a killed ``create`` leaves nothing.
"""

from __future__ import annotations

import os
import time

from strata import command, trace
from strata.engine import events, names, words
from strata.engine.core import ROOTFS, Engine, Record
from strata.engine.identity import identity
from strata.engine.images import layers
from strata.engine.networks import joining as networks
from strata.engine.volumes import making
from strata.engine.volumes.mounting import mount_locked
from strata.errors import AlreadyExists, NoSpace, NotFound, UsageError
from strata.linux.resolve import open_in_root
from strata.linux.signals import parse_signal
from strata.oci.spec import DEFAULT_PATH
from strata.storage import layout, properties
from strata.store import lifecycle
from strata.store.records import SCHEMA, new_id
from strata.times import format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from strata.store.journal import Operation

#: the shape of a record's ``config`` and what holds when neither image nor user says anything
DEFAULTS: Record = {
    "entrypoint": [], "command": [], "env": [], "workdir": "/", "user": "", "tty": False,
    "stdin": False, "hostname": "", "init": False, "read_only": False, "read_only_tmpfs": True,
    "cap_add": [], "cap_drop": [], "privileged": False, "no_new_privileges": False, "seccomp": "",
    "apparmor": "", "label_opts": [], "mask": [], "unmask": [], "ulimits": [], "memory": None,
    "cpus": None, "pids_limit": None, "shm_size": None, "stop_signal": 15, "stop_timeout": 10,
    "network": "bridge", "runtime": "crun", "log_driver": "k8s-file", "log_path": "", "labels": {},
    "annotations": {}, "add_hosts": [], "tmpfs": {}, "mounts": [], "remove": False, "storage": {},
    "networks": [], "ports": [], "expose": [], "publish_all": False, "dns": [], "dns_search": [],
    "dns_option": [], "no_resolv": False, "no_hosts": False, "no_hostname": False, "hosts_file": "",
}  # fmt: skip

#: Keys that a record's ``config`` has only when they were given, and what holds without them.
#: Sizes are bytes, times seconds.
OPTIONAL: Record = {
    # -- limits. memory_swap: memory and swap together, -1 for no limit; oom_score_adj: None keeps
    # the engine's; blkio_throttle: {"read_bps"|"write_bps"|"read_iops"|"write_iops":
    # [{"path", "rate"}]}; blkio_weight_devices: [{"path", "weight"}]
    "memory_swap": None, "memory_reservation": None, "memory_swappiness": None,
    "cpu_shares": None, "cpu_quota": None, "cpu_period": None, "cpu_rt_period": None,
    "cpu_rt_runtime": None, "cpuset_cpus": "", "cpuset_mems": "", "blkio_weight": None,
    "blkio_weight_devices": [], "blkio_throttle": {}, "oom_kill_disable": False,
    "oom_score_adj": None,
    # enabled, disabled or no-conmon; a path below the root of the cgroups; files of v2
    "cgroups": "enabled", "cgroup_parent": "", "cgroup_conf": {},
    # -- namespaces: private, host, container:ID or ns:PATH; ipc also shareable and none; cgroupns
    # "": private with cgroup v2, the host's with v1
    "pid_mode": "private", "ipc_mode": "shareable", "uts_mode": "private", "time_mode": "host",
    "cgroupns": "",
    # what was asked for (auto, private, container:ID, ns:PATH, …), and the maps it led to: first id
    # inside, first on the host, how many
    "userns": "", "uid_map": [], "gid_map": [],
    # -- devices: {"source", "destination", "permissions"}; rules as in "c 189:* rwm"
    # cdi: names as in vendor.com/class=name
    "devices": [], "device_rules": [], "sysctls": {}, "cdi": [],
    # -- the process. group_add: names, numbers or ["keep-groups"]; umask: octal digits; timezone:
    # a name or "local"; unset_env: names, ["*"] for all; timeout: killed after so long, 0 never
    # proc_opts: mount options of /proc
    "proc_opts": [],
    "group_add": [], "umask": "", "timezone": "", "unset_env": [], "timeout": 0, "init_path": "",
    # whether it is prepared for systemd as its first process, and the size of each memory file
    # system made for that; directories in which the generated files of /etc appear as well
    "systemd": False, "shm_size_systemd": 0, "chroot_dirs": [],
    # whether a user or group without an entry in the image gets one, and that line
    "passwd": True, "passwd_entry": "", "group_entry": "",
    # users of the host that the image's passwd gets: {"name", "uid", "gid", "gecos", "home"}
    "host_users": [],
    # LINUX32: the process sees a 32-bit machine; and whether the image goes with the container
    "personality": "", "remove_image": False,
    # {"name", "type": mount|env, "target" ("": the name), "uid", "gid", "mode"}; the values are
    # kept apart (`strata.engine.secrets`)
    "secrets": [],
    # ids of the containers that are started before
    "requires": [],
    # -- files on the host that get a pid at each start; the log's limit and its tag
    "pidfile": "", "conmon_pidfile": "", "log_size": 0, "log_tag": "",
    # -- what happens at its end. policy: no, on-failure, always, unless-stopped; retries: 0 no end
    "restart": {"policy": "no", "retries": 0},
    # {"test" (as in an image), "interval" (0: only by hand), "timeout", "retries", "start_period",
    # "start_interval", "log_count", "log_size" (bytes), "log_to" (local, events_logger, a
    # directory), "on_failure": none|kill|restart|stop, and "startup" where another check comes
    # first: {"test", "interval", "timeout", "retries" (0: no end), "success"}}; {} without
    "health": {},
}  # fmt: skip

#: log drivers that keep a file of the store
LOG_FILES = frozenset(("k8s-file", "json-file"))

_HEALTH: Record = {
    "interval": 30.0, "timeout": 30.0, "retries": 3, "start_period": 0.0, "start_interval": 5.0,
    "on_failure": "none",
}  # fmt: skip
#: and what an image calls them; its durations are nanoseconds
_HEALTH_NAMES = {
    "interval": "Interval", "timeout": "Timeout", "retries": "Retries",
    "start_period": "StartPeriod", "start_interval": "StartInterval",
}  # fmt: skip


def merge_env(*sources: list[str]) -> list[str]:
    """``KEY=value`` lists over each other, the last one wins, first position kept."""
    merged: dict[str, str] = {}
    for source in sources:
        for item in source:
            key, _, value = item.partition("=")
            merged[key] = value
    return [f"{key}={value}" for key, value in merged.items()]


def plan_config(image: Record, options: Mapping[str, Any]) -> Record:
    """A container's ``config`` from an image's defaults and the user's options. Pure.

    ``options`` holds what the user gave, under the names of `DEFAULTS`; ``entrypoint`` None means
    the image's; giving one drops the image's command, as Docker does.
    """
    defaults = image.get("config") or {}
    config: Record = {**DEFAULTS}
    config.update({key: value for key, value in options.items() if key in DEFAULTS})
    entrypoint = options.get("entrypoint")
    arguments = options.get("command") or []
    config["entrypoint"] = entrypoint if entrypoint is not None else defaults.get("Entrypoint", [])
    if arguments:
        config["command"] = list(arguments)
    elif entrypoint is None:
        config["command"] = list(defaults.get("Cmd", []))
    else:
        config["command"] = []
    if not config["entrypoint"] and not config["command"]:
        raise UsageError(
            "no command or entrypoint provided, and no CMD or ENTRYPOINT from image",
            hint="say what to run after the image's name",
        )
    env = merge_env(
        [f"PATH={DEFAULT_PATH}"],
        list(options.get("default_env") or []),
        list(defaults.get("Env", [])),
    )
    if options.get("env_merge") or options.get("unset_env"):
        env = _change_env(env, options)
    config["env"] = merge_env(env, list(options.get("env") or []))
    config["workdir"] = options.get("workdir") or defaults.get("WorkingDir") or "/"
    config["user"] = options.get("user") or defaults.get("User") or ""
    exposed = [*(defaults.get("ExposedPorts") or ()), *(options.get("expose") or ())]
    config["expose"] = list(dict.fromkeys(_with_protocol(text) for text in exposed))
    config["labels"] = {**(defaults.get("Labels") or {}), **(options.get("labels") or {})}
    if options.get("stop_signal") is None:
        config["stop_signal"] = parse_signal(defaults.get("StopSignal") or "SIGTERM")
    if options.get("stop_timeout") is None:
        config["stop_timeout"] = DEFAULTS["stop_timeout"]
    mounts = [dict(item) for item in options.get("mounts") or []]
    taken = {os.path.normpath(m["destination"]) for m in mounts}
    taken |= {os.path.normpath(path) for path in config["tmpfs"]}
    treated = options.get("image_volume") or "anonymous"
    for path in sorted(defaults.get("Volumes") or {}) if treated != "ignore" else ():
        if os.path.normpath(path) in taken:
            continue
        if treated == "tmpfs":
            config["tmpfs"] = {**config["tmpfs"], path: ""}
        else:
            mounts.append({"type": "volume", "source": "", "volume": "", "destination": path,
                           "options": [], "anonymous": True})  # fmt: skip
    config["mounts"] = mounts
    _plan_systemd(config, defaults, options)
    for key, default in OPTIONAL.items():
        if key not in ("health", "systemd") and options.get(key, default) not in (default, None):
            config[key] = options[key]
    health = plan_health(defaults.get("Healthcheck"), options)
    if health:
        config["health"] = health
    return config


def _plan_systemd(config: Record, defaults: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Prepare for systemd when the command is it, or when asked to."""
    wanted = options.get("systemd") or "true"
    argv = [*config["entrypoint"], *config["command"]]
    if wanted == "false" or (wanted == "true" and "init" not in argv[-1] + argv[0]
                             and "systemd" not in argv[-1] + argv[0]):  # fmt: skip
        return
    from strata.oci import systemd

    if wanted != "always" and not systemd.is_init(argv):
        return
    config["systemd"] = True
    if options.get("stop_signal") is None and not defaults.get("StopSignal"):
        config["stop_signal"] = systemd.STOP_SIGNAL


def _change_env(env: list[str], options: Mapping[str, Any]) -> list[str]:
    """The image's environment after ``--env-merge`` and ``--unsetenv``."""
    values = dict(item.partition("=")[::2] for item in env)
    before = dict(values)
    unset = options.get("unset_env") or ()
    for name in list(values) if "*" in unset else unset:
        values.pop(name, None)
    for item in options.get("env_merge") or ():
        name, _, text = item.partition("=")
        for known in sorted(before, key=len, reverse=True):
            text = text.replace(f"${{{known}}}", before[known]).replace(f"${known}", before[known])
        values[name] = text
    return [f"{name}={value}" for name, value in values.items()]


def plan_health(image: object, options: Mapping[str, Any]) -> Record:
    """The health check of a container: the image's with the user's values over it. Pure."""
    given = options.get("health") or {}
    if not isinstance(image, dict):
        image = {}
    if options.get("no_healthcheck") or not (image or given):
        return {}
    found = dict(_HEALTH)
    for key, name in _HEALTH_NAMES.items():
        value = image.get(name)
        if isinstance(value, int) and value > 0:
            found[key] = value if key == "retries" else value / 1e9
    test = image.get("Test")
    whole = isinstance(test, list) and all(isinstance(word, str) for word in test)
    found["test"] = list(test or ()) if whole else []
    found.update(given)
    if "startup" in found and (not found["test"] or found["test"][0] == "NONE"):
        raise UsageError(
            "cannot set a startup healthcheck when there is no regular healthcheck",
            hint="--health-cmd gives one",
        )
    # An empty test, as Docker has it, means that of the image below, which knows none either.
    return {} if not found["test"] or found["test"][0] == "NONE" else found


def _with_protocol(port: str) -> str:
    """An exposed port as ``80/tcp``; images may leave the protocol away."""
    return port if "/" in port else f"{port}/tcp"


def create(e: Engine, options: Mapping[str, Any]) -> Record:
    """Make a container and return its record.

    ``options``: ``image`` (what the user typed), ``pull`` (policy), ``platform``, ``authfile``,
    ``creds``, ``tls_verify``, ``progress``; ``name``, ``replace``, ``cidfile``; and the keys of
    `DEFAULTS`. ``storage`` holds ``--storage-opt`` values. With ``at`` it is made as it was then
    (see `strata.engine.history.past.make`).
    """
    if options.get("at"):
        from strata.engine.history import past

        return past.make(e, options["at"], {**options, "at": ()}, options["changed"])
    image, image_name = find_or_pull(e, options)
    config = plan_config(image, options)
    if config["log_path"] or config["log_driver"] not in (*LOG_FILES, "none"):
        from strata.engine.containers import drivers

        drivers.check(config)
    reserved = None
    if not OPTIONAL.keys().isdisjoint(config):
        from strata.engine.containers import extras

        reserved = extras.resolve(e, config, image)
    try:
        return create_planned(e, options, image, image_name, config)
    finally:
        if reserved is not None:
            reserved.release()


def create_planned(
    e: Engine, options: Mapping[str, Any], image: Record, image_name: str, config: Record
) -> Record:
    """Make a container of an image with these settings, its networks and volumes not yet found.

    ``options`` may say which ``id`` it gets, for a caller who plans what becomes of it.
    """
    if any("O" in mount["options"] for mount in config["mounts"]):
        from strata.engine.containers import overlays

        overlays.check(e, config)
    held_layers: list[str] = []
    if options.get("volumes_from") or any(m["type"] == "image" for m in config["mounts"]):
        from strata.engine.containers import mounts

        mounts.add_others(e, config, options)
        held_layers = mounts.resolve_images(e, config)
    native, _ = properties.plan(options.get("storage") or {}, e.driver.flavour)
    native = properties.drop_unlimited(native)
    name = options.get("name") or ""
    if name:
        names.check_name(name, "container")
        if options.get("replace"):
            _remove_existing(e, name)
    cidfile = options.get("cidfile")
    if cidfile and os.path.exists(cidfile):
        raise AlreadyExists(
            f"container id file exists. Ensure another container is not using it or delete "
            f"{cidfile}", hint="remove the file or name another"
        )  # fmt: skip
    container_id = options.get("id") or new_id()
    layer = image["layers"][-1] if image["layers"] else ""
    keep = [*([layer] if layer else ()), *held_layers] or None
    chosen = name or words.make_name(e)
    e.recover()  # before the lock of the networks, as it may finish removing one
    with (
        networks.settle(e, config),
        making.Held(e) as held,
        e.begin("create", *_plan(chosen, container_id), keep=keep) as operation,
    ):
        for needed in (image["id"], *(m["image"] for m in config["mounts"] if m.get("image"))):
            if not os.path.exists(e.records.path("image", needed)):
                # Removed before its layers were leased to us.
                raise NotFound(f"{options['image']}: image not known", hint="it was just removed")
        name = _claim_name(e, operation, chosen, container_id, is_given=bool(name))
        dataset = layout.container(name, container_id)
        size_base = None
        if "size" in native:
            from strata.engine import limits

            native, size_base = limits.plan_container(e, layer, native)
        record: Record = {
            "schema": SCHEMA, "kind": "container", "id": container_id, "name": name,
            "created": format_time(time.time()), "image": image["id"],
            "image_name": image_name or options["image"], "layer": layer, "dataset": dataset,
            "guid": "", "lineage": container_id, "generation": 1, "branches": [],
            "config": config, "native": native,
            "state": lifecycle.make_state(), "command_line": options.get("command_line") or [],
        }  # fmt: skip
        if size_base is not None:
            record["size_base"] = size_base
        if not config["log_path"] and config["log_driver"] in LOG_FILES:
            config["log_path"] = f"{e.logs}/{container_id}.log"
        make_dataset(e, record, native)
        trace.point("create:dataset-made")
        _make_volumes(e, operation, held, record)
        if "secrets" in config:
            from strata.engine import secrets

            operation.plan(["forget-secrets", container_id])
            secrets.copy_for(e, container_id, config["secrets"])
        if cidfile:
            _write_cidfile(cidfile, container_id)
        try:
            # With its record it is there for all: somebody may have started it when we fail.
            save(e, record)
        except BaseException:
            if cidfile:
                os.unlink(cidfile)
            raise
        trace.point("create:recorded")
    events.emit_container(e, "create", record)
    return record


def find_or_pull(e: Engine, options: Mapping[str, Any]) -> tuple[Record, str]:
    """The image to start from, pulled when the policy says so."""
    text = options["image"]
    policy = options.get("pull") or "missing"
    if policy in ("missing", "never") and options.get("platform") is None:
        found = names.find_image(e, text)
        if found is not None:
            return found
    from strata.engine.images.pull import pull

    image_id = pull(
        e, text, platform=options.get("platform"), authfile=options.get("authfile"),
        creds=options.get("creds"), tls_verify=options.get("tls_verify"), policy=policy,
        retry=options.get("retry"), retry_delay=options.get("retry_delay"),
        progress=options.get("progress"),
    )  # fmt: skip
    return names.find_image(e, text) or (e.records.get("image", image_id), "")


def _remove_existing(e: Engine, name: str) -> None:
    found = e.records.find_name("container", name)
    old = e.records.find("container", found) if found else None
    if old is not None:
        from strata.engine.containers.removal import remove_record

        remove_record(e, old, force=True, volumes=False, verb="replace")


def _plan(name: str, container_id: str) -> list[list[str]]:
    """How to take back that a container gets its name and its dataset."""
    return [
        ["unclaim", "container", name, container_id],
        ["abandon", "container", container_id, layout.container(name, container_id)],
    ]


def _claim_name(
    e: Engine, operation: Operation, name: str, container_id: str, *, is_given: bool
) -> str:
    """Take the name that is planned, or, unless a user gave it, another when it is taken."""
    while True:
        try:
            names.take_name(e, "container", name, container_id)
            return name
        except AlreadyExists:
            if is_given:
                raise
            name = words.make_name(e)
            operation.plan(*_plan(name, container_id))


def make_dataset(e: Engine, record: Record, native: Mapping[str, str]) -> None:
    """Make a container's dataset from its layer, or empty for an image without content.

    One that is removed with its end never gets to where only its dataset could say what it is.
    """
    brief = bool(record["config"]["remove"])
    base = layers.find_base(e, record["layer"])
    if base is not None:
        snapshot = layers.base_snapshot(base)
        made = e.driver.clone(
            snapshot, record["dataset"], identity(record), native, unfinished=brief
        )
    else:
        made = e.driver.create(record["dataset"], identity(record), native, unfinished=brief)
        os.makedirs(f"{e.driver.open(record['dataset'])}/{ROOTFS}", 0o755, exist_ok=True)
    record["guid"] = made.guid


def save(e: Engine, record: Record) -> None:
    """Write a container's record, and its copy beside the root file system."""
    durable = not record["config"]["remove"]
    if durable:
        try:
            e.write_copy(record["dataset"], record)
        except NoSpace:
            from strata.engine import limits

            if not limits.is_limited(record):
                raise
            # Full by a limit of its own, which is there for what others write.
            with limits.Lifted(e, record):
                e.write_copy(record["dataset"], record)
    e.records.save(record, durable=durable)


def _make_volumes(e: Engine, operation: Operation, held: making.Held, record: Record) -> None:
    """Resolve or make the volumes of a container's mounts."""
    wanted = [item for item in record["config"]["mounts"] if item["type"] == "volume"]
    for item in sorted(wanted, key=lambda item: str(item["source"])):
        volume = _get_volume(e, operation, held, item["source"])
        item["source"] = volume["name"]
        item["volume"] = volume["id"]
        item["anonymous"] = volume["anonymous"]
        if volume.get("fresh") and "nocopy" not in item["options"]:
            fill_volume(e, volume, record["dataset"], item["destination"])


def _get_volume(e: Engine, operation: Operation, held: making.Held, name: str) -> Record:
    """The volume of that name, locked; made when there is none. "" makes an anonymous one."""
    names.check_name(name or "anonymous", "volume")
    if not name:
        return making.make(e, operation, held, new_id(), anonymous=True)
    for left in range(10, -1, -1):
        found = e.records.find_name("volume", name)
        volume = held.find(found, name) if found else None
        if volume is not None:
            return volume
        try:
            return making.make(e, operation, held, name)
        except AlreadyExists:
            # Another command is making it, and was not waited for as it came after our look.
            if not left:
                raise
    raise AssertionError


def fill_volume(e: Engine, volume: Record, dataset: str, destination: str) -> None:
    """Copy what the image has at the destination into a new volume, with owner and mode.

    Not over what somebody put there. ``fresh`` says "filling" meanwhile, so that a copy that was
    killed is made again. The caller has the volume's lock.
    """
    rootfs = f"{e.driver.open(dataset)}/{ROOTFS}"
    target = mount_locked(e, volume)
    try:
        source = open_in_root(rootfs, destination, os.O_DIRECTORY | os.O_PATH)
    except OSError:
        source = -1
    if source >= 0:
        try:
            if volume["fresh"] != "filling" and os.listdir(target):
                return
            volume["fresh"] = "filling"
            e.records.save(volume)
            argv = ["cp", "-a", "--reflink=auto", f"/proc/self/fd/{source}/.", f"{target}/"]
            from strata.engine import limits

            with limits.Explained(e, volume):
                command.run(argv, pass_fds=(source,))
        finally:
            os.close(source)
        trace.point("create:volume-filled")
    volume["fresh"] = False
    e.records.save(volume)


def _write_cidfile(path: str, container_id: str) -> None:
    try:
        with open(path, "x") as file:
            file.write(container_id)
    except OSError as error:
        raise UsageError(f"cannot write the container id file {path}: {error.strerror}") from None
