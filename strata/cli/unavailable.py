"""What Podman knows and this version does not, so that the error can say why.

Loaded only to explain an error.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_CERTIFICATES = "certificates are read from /etc/containers/certs.d and /etc/docker/certs.d"
_PODS = "there are no pods"

#: ``--option``, of run, create and exec, or ``command --option`` -> why it is not here
OPTIONS: dict[str, str] = {
    "--rdt-class": "this kernel interface (resctrl) is not used",
    **dict.fromkeys("--pod --pod-id-file --infra".split(), _PODS),
    "--sdnotify": "nobody waits for the container's word that it is ready",
    "--rootfs": "containers start from images; `strata import` makes one of a tree",
    "--init-ctr": _PODS,
    **dict.fromkeys(("--decryption-key", "pull --decryption-key", "image pull --decryption-key"),
                    "there are no encrypted images"),
    "create --preserve-fds": "who starts the container later has other descriptors",
    "exec --preserve-fd": "--preserve-fds hands on all up to a number",
    "rm --depend": "a container that requires another says so at its start",
    **dict.fromkeys(("pull --all-tags", "image pull --all-tags"), "name each tag"),
    "secret create --driver-opts": "secrets are files of the store",
    "system prune --build": "there is no builder",
    "system prune --external": "there are no containers of other programs in the store",
    **{f"container clone {option}": "'strata update' the clone" for option in
       "--blkio-weight --blkio-weight-device --cpu-period --cpu-quota --cpu-rt-period "
       "--cpu-rt-runtime --cpu-shares --cpus --cpuset-cpus --cpuset-mems --device-read-bps "
       "--device-write-bps --memory --memory-reservation --memory-swap --memory-swappiness "
       "--pod".split()},
    **{f"update {option}": "make the container anew with --replace" for option in
       "--blkio-weight-device --device-read-bps --device-read-iops --device-write-bps "
       "--device-write-iops --env --health-cmd --health-interval --health-on-failure "
       "--health-retries --health-start-period --health-timeout --no-healthcheck --ulimit "
       "--unsetenv".split()},
    **dict.fromkeys(("--cert-dir", "pull --cert-dir"), _CERTIFICATES),
    "--seccomp-policy": "the policy is chosen by --security-opt seccomp=",
    "--no-session": "exec sessions leave nothing behind",
    "commit --include-volumes": "a volume is kept by a snapshot or clone of its own",
    "commit --squash": "a commit is a snapshot over the layers it shares",
    "save --uncompressed": "layers are written uncompressed unless --compress is given",
    "image tree --whatrequires": "every layer of the tree names the images that end there",
    "image prune --external": "there are no containers of other programs in the store",
    "container checkpoint --create-image": "an archive is written by --export",
    "container restore --import-previous": "an archive holds what its memory builds on",
    "container restore --pod": _PODS,
    "container exists --external": "there are no containers of other programs in the store",
    "rmi --no-prune": "a layer goes when nothing needs it, by collection",
    "rm --no-prune": "a layer goes when nothing needs it, by collection",
    "--link": "containers of one network know each other's names",
    "--domainname": "give the whole name with --hostname",
    "logs --details": "the driver's options are in `inspect`",
    **dict.fromkeys(("stop --signal", "restart --signal"), "`create --stop-signal` chooses it, "
                    "`kill --signal` sends another"),
    **dict.fromkeys(("import --arch", "import --os", "import --variant", "import --platform"),
                    "the tar's programs are of this machine"),
    **dict.fromkeys(("volume create --uid", "volume create --gid"),
                    "a new volume takes owner and mode of the image's directory"),
    **dict.fromkeys(("system check --quick", "system check --max", "system check --force"),
                    "a check looks at everything; --repair never loses data"),
    **dict.fromkeys(("container cleanup --exec", "container cleanup --rmi",
                     "container cleanup --latest", "container cleanup --all"),
                    "cleaning up is done by whoever sees a container end"),
}  # fmt: skip

_REMOTE = "there is no remote client"
_OWN_STORE = "where things are kept is chosen when the store is made, by `strata system init`"

#: options before the command -> why they are not here
BEFORE: dict[str, str] = {
    **dict.fromkeys("--url --connection -c --host -H --identity --ssh --tls --tlscacert --tlscert "
                    "--tlskey --tlsverify".split(), _REMOTE),
    **dict.fromkeys("--storage-driver --storage-opt --imagestore --transient-store --volumepath "
                    "--network-config-dir --tmpdir".split(), _OWN_STORE),
    "--conmon": "conmon is found on the PATH",
    "--hooks-dir": "hooks of the runtime are not called",
    "--module": "files below /etc/containers/containers.conf.d are read",
    "--network-cmd-path": "pasta is found on the PATH",
    **dict.fromkeys(("--out", "--noout"), "the shell redirects output: > FILE"),
    "--runtime-flag": "--runtime may name a script that adds flags",
}  # fmt: skip

_SIGNING = "there are no signatures"

#: command, or first word of a group of commands -> why it is not here
COMMANDS: dict[str, str] = {
    "artifact": "only images are kept",
    "container runlabel": "a label of an image may not choose what the host runs",
    "generate kube": _PODS,
    "generate spec": "the runtime's specification is made anew at each start",
    "image scp": "save on one host, load on the other",
    "image sign": _SIGNING,
    **dict.fromkeys(("image trust", "image trust set", "image trust show"), _SIGNING),
    "system connection": "there is no remote client",
    "system service": "there is no API socket",
    "unshare": "there are no rootless users",
    **dict.fromkeys(("build", "buildx", "farm"), "there is no builder"),
    **dict.fromkeys(("push", "manifest"), "images are not pushed"),
    **dict.fromkeys(
        ("login", "logout"),
        "credentials are read from files (--authfile, "
        "REGISTRY_AUTH_FILE, ~/.docker/config.json) or given with --creds",
    ),
    "search": "registries are not searched; `pull` takes a whole name",
    "pod": _PODS,
    **dict.fromkeys(("kube", "play"), _PODS),
    **dict.fromkeys(
        ("generate", "quadlet"),
        "units of single containers are not written; strata-restart.service starts "
        "after a boot what --restart wants",
    ),
    **dict.fromkeys(("auto-update", "machine", "compose"), "not implemented"),
    # Docker's
    **dict.fromkeys(("swarm", "service", "stack", "node", "config"), "there is one host"),
    "context": "there is no remote client",
    "plugin": "there are no plug-ins",
    "trust": _SIGNING,
    "builder": "there is no builder",
}


def find_command_reason(path: str) -> str:
    """Why a command of Podman is not here; empty when that is not known."""
    group, _, word = path.rpartition(" ")
    top = path.partition(" ")[0]
    for key in (path, group, top if group not in ("container", "image") else word):
        if key in COMMANDS:
            return COMMANDS[key]
    return ""


def find_option_reason(path: str, name: str) -> str:
    """Why an option of a command that is here is not; empty when that is not known."""
    group, _, verb = path.rpartition(" ")
    if not path:
        return BEFORE.get(name, "")
    found = OPTIONS.get(f"{path} {name}", "")
    if not found and group in ("container", "image"):
        found = OPTIONS.get(f"{verb} {name}", "")
    if not found and verb in ("run", "create", "exec", "init") and group in ("", "container"):
        found = OPTIONS.get(name, "")
    return found


def suggest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word nearest to a mistyped one, or None when none is near."""
    from difflib import get_close_matches

    matches = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None
