"""The commands on images."""

from __future__ import annotations

import sys
import time

from strata.cli import losses, values
from strata.cli.context import Context, for_each, need_names, note, say, show_each
from strata.errors import UsageError
from strata.times import format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from strata.cli.parse import Options


def pull(context: Context, options: Options, arguments: list[str]) -> int:
    """Pull images and print their ids."""
    from strata.cli.process import read_platform
    from strata.cli.progress import make_progress
    from strata.engine.images import pull as pulling

    chosen = read_platform(options)
    if (options.number("retry") or 0) < 0:
        raise UsageError("invalid --retry: must be 0 or more")
    creds = options.maybe("creds")
    if creds == "-":
        # A password on the command line is seen by everybody who lists processes.
        creds = sys.stdin.readline().rstrip("\n")
    quiet = options.flag("quiet")

    def act(name: str) -> None:
        if not quiet:
            note(f"Trying to pull {name}...")
        image_id = pulling.pull(
            context.engine,
            name,
            platform=chosen,
            authfile=options.maybe("authfile"),
            creds=creds,
            tls_verify=options.tristate("tls-verify"),
            policy=options.text("policy"),
            retry=options.number("retry"),
            retry_delay=options.real("retry-delay"),
            progress=make_progress(quiet=quiet),
        )
        say(image_id)

    return for_each(context, arguments, act)


def load(context: Context, options: Options, arguments: list[str]) -> int:
    """Load images from an archive and print their names."""
    from strata.cli.progress import make_progress
    from strata.engine.images import pull as pulling

    path = options.maybe("input")
    if path is None and sys.stdin.isatty():
        raise UsageError(
            "cannot read from terminal, use command-line redirection or the --input flag"
        )
    quiet = options.flag("quiet")
    names = pulling.load(context.engine, path, progress=make_progress(quiet=quiet))
    for name in names:
        say(f"Loaded image: {name}")
    return 0


def save(context: Context, options: Options, arguments: list[str]) -> int:
    """Save images to an archive, or to standard output."""
    from strata.engine.images import save as saving

    output = options.maybe("output")
    format = options.text("format")
    if output is None:
        if format == "oci-dir":
            raise UsageError("--format oci-dir needs --output", hint="name a directory")
        if sys.stdout.isatty():
            raise UsageError("refusing to save to terminal. Use -o flag or redirect")
    compress = options.flag("compress")
    if compress and format == "docker-archive":
        raise UsageError("--compress can only be set when --format is oci-archive or oci-dir")
    saving.save_images(context.engine, arguments, output, format=format, compress=compress)
    return 0


def import_(context: Context, options: Options, arguments: list[str]) -> int:
    """Make an image of a tar archive and print its id."""
    from strata.engine.images import pull as pulling

    image_id = pulling.import_(
        context.engine,
        None if arguments[0] == "-" else arguments[0],
        arguments[1] if len(arguments) > 1 else None,
        changes=options.list("change"),
        message=options.text("message"),
    )
    say(image_id)
    return 0


def bootstrap(context: Context, options: Options, arguments: list[str]) -> int:
    """Make a base image from a distribution's packages and print its id."""
    from strata.engine.images import pull as pulling

    image_id = pulling.bootstrap(
        context.engine,
        arguments[0],
        variant=options.text("variant"),
        include=options.list("include"),
        mirror=options.maybe("mirror"),
        name=options.maybe("name"),
        report=None if options.flag("quiet") else note,
    )
    say(image_id)
    return 0


def images(context: Context, options: Options, arguments: list[str]) -> int:
    """List images, one row for every name."""
    from strata.engine.images.listing import list_images

    filters = values.parse_filters(options.list("filter"))
    if filters and arguments:
        raise UsageError("cannot specify an image and a filter(s)")
    found = list_images(context.engine, filters, all=options.flag("all") or bool(arguments))
    full = options.flag("no-trunc")
    now = time.time()
    rows = [
        row
        for image in found
        for row in describe_images(image, now, full=full)
        if not arguments or is_named(row, arguments[0])
    ]
    keys = {
        "created": lambda row: -row["_created"],
        "id": lambda row: row["_id"],
        "repository": lambda row: row["Repository"],
        "size": lambda row: row["_size"],
        "tag": lambda row: row["Tag"],
    }
    rows.sort(key=keys[options.text("sort")])
    format = options.text("format")
    if options.flag("quiet") and format.strip() != "json":
        for image_id in dict.fromkeys(row["ID"] for row in rows):
            say(image_id)
        return 0
    from strata.cli.format import show_rows

    columns = [("REPOSITORY", "Repository"), ("TAG", "Tag")]
    if options.flag("digests"):
        columns.append(("DIGEST", "Digest"))
    columns += [("IMAGE ID", "ID"), ("CREATED", "Created"), ("SIZE", "Size")]
    if options.flag("history"):
        columns.append(("HISTORY", "History"))
    show_rows(
        rows,
        [*columns, ("R/O", "*ReadOnly"), ("DIGEST", "*Digest"), ("HISTORY", "*History")],
        format=format,
        raw=list({row["_id"]: row["_raw"] for row in rows}.values()),
        heading=not options.flag("noheading"),
        name="images",
    )
    return 0


def describe_images(image: dict[str, Any], now: float, *, full: bool) -> list[dict[str, Any]]:
    """Return one row for each name of an image, with Podman's field names."""
    from strata.cli.format import ago, go_time, human_size, to_seconds

    since = ago(image["Created"], now)
    created = to_seconds(image["Created"]) or 0.0
    moment = go_time(int(created))
    labels = image.get("Labels") or {}
    common = {
        **image,
        "Id": f"sha256:{image['Id']}" if full else image["Id"][:12],
        "ID": f"sha256:{image['Id']}" if full else image["Id"][:12],
        "Digest": image.get("Digest") or "<none>",
        "Created": since,
        "CreatedAt": moment,
        "CreatedSince": since,
        "CreatedTime": moment,
        "History": ", ".join(image.get("History") or ()),
        "Label": lambda key: labels.get(key, ""),
        "Size": human_size(image["Size"]),
        "_created": created,
        "_id": image["Id"],
        "_raw": {**image, "Created": int(created), "CreatedAt": _whole(created)},
        "_size": image["Size"],
    }
    rows = []
    pulled = [digest.partition("@")[0] for digest in image.get("RepoDigests") or ()]
    for name in image["Names"] or pulled[:1] or ["<none>:<none>"]:
        repository, tag = split_name(name)
        rows.append({**common, "Repository": repository, "Tag": tag})
    return rows


def _whole(seconds: float) -> str:
    """Return a moment in RFC 3339 by the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(seconds)))


def split_name(name: str) -> tuple[str, str]:
    """Return repository and tag of a full name."""
    head, colon, tail = name.rpartition(":")
    if not colon or "/" in tail:
        return name, "<none>"
    return head, tail


def is_named(row: dict[str, Any], wanted: str) -> bool:
    """Whether a row's image is meant by ``[REGISTRY/][PATH/]NAME[:TAG]``, a pattern, or an id."""
    from fnmatch import fnmatchcase

    if len(wanted) >= 4 and row["_id"].startswith(wanted.removeprefix("sha256:")):
        return True
    repository, tag = split_name(wanted)
    if tag not in ("<none>", row["Tag"]) and not fnmatchcase(row["Tag"], tag):
        return False
    full = str(row["Repository"])
    return any(
        fnmatchcase(name, repository)
        for name in (full, full.partition("/")[2], full.rpartition("/")[2])
    )


def inspect(context: Context, options: Options, arguments: list[str]) -> int:
    """Show everything about images."""
    from strata.engine.images.listing import inspect_images

    return show_each(
        context, arguments, lambda name: inspect_images(context.engine, [name]),
        options.maybe("format"),
    )  # fmt: skip


def history(context: Context, options: Options, arguments: list[str]) -> int:
    """Show how an image was made."""
    from strata.cli.format import ago, go_time, human_size, show_rows
    from strata.engine.images import verbs as engine_images

    steps = engine_images.history(context.engine, arguments[0])
    full, human = options.flag("no-trunc"), options.flag("human")
    now = time.time()
    rows = []
    for step in steps:
        image_id, text = str(step["Id"]), " ".join(str(step["CreatedBy"]).split())
        moment = go_time(int(step["Created"]))
        rows.append(
            {
                "ID": image_id if full or image_id.startswith("<") else image_id[:12],
                "Created": ago(step["Created"], now) if human else _whole(step["Created"]),
                "CreatedAt": moment,
                "CreatedSince": ago(step["Created"], now),
                "CreatedBy": text if full or len(text) <= 45 else f"{text[:42]}...",
                "Size": human_size(step["Size"]) if human else str(step["Size"]),
                "Comment": step["Comment"],
                "Tags": step["Tags"],
                "_raw": {
                    "id": image_id,
                    "created": format_time(step["Created"]),
                    "CreatedBy": step["CreatedBy"],
                    "tags": step["Tags"],
                    "size": step["Size"],
                    "comment": step["Comment"],
                    "Created": _whole(step["Created"]),
                },
            }
        )
    if options.flag("quiet"):
        for row in rows:
            say(row["ID"])
        return 0
    columns = [("ID", "ID"), ("CREATED", "Created"), ("CREATED BY", "CreatedBy")]
    columns += [("SIZE", "Size"), ("COMMENT", "Comment")]
    show_rows(
        rows,
        columns,
        format=options.text("format"),
        raw=[row["_raw"] for row in rows],
        name="history",
    )
    return 0


def tag(context: Context, options: Options, arguments: list[str]) -> int:
    """Give an image more names."""
    from strata.engine.images import verbs as engine_images

    engine_images.tag(context.engine, arguments[0], arguments[1:])
    return 0


def untag(context: Context, options: Options, arguments: list[str]) -> int:
    """Take names from an image."""
    from strata.engine.images import verbs as engine_images

    engine_images.untag(context.engine, arguments[0], arguments[1:])
    return 0


def remove(context: Context, options: Options, arguments: list[str]) -> int:
    """Remove images."""
    from strata.engine.images import verbs as engine_images

    everything, force = options.flag("all"), options.flag("force")
    need_names(arguments, all=everything)
    names = arguments
    if everything:
        from strata.engine.images.listing import list_images as list_all

        names = [image["Id"] for image in list_all(context.engine)]
    ignore = options.flag("ignore") or everything

    def find() -> list[dict[str, Any]]:
        from strata.engine.losses import list_images

        return list_images(context.engine, names, force=force, ignore=ignore)

    def act(name: str) -> None:
        for step in engine_images.remove(
            context.engine,
            [name],
            force=force,
            tagged=everything,
            ignore=ignore,
        ):
            for what, which in step.items():
                say(f"{what.capitalize()}: {which}")

    return losses.remove_each(context, options, names, act, find)


def exists(context: Context, options: Options, arguments: list[str]) -> int:
    """Say by the exit code whether an image exists."""
    from strata.engine.images import verbs as engine_images

    return 0 if engine_images.exists(context.engine, arguments[0]) else 1


def tree(context: Context, options: Options, arguments: list[str]) -> int:
    """Show the layers of an image."""
    from strata.cli.format import human_size, write_lines
    from strata.engine.images import verbs as engine_images

    image = engine_images.tree(context.engine, arguments[0])
    lines = [
        f"Image ID: {image['Id'][:12]}",
        f"Tags:     [{' '.join(image['Names'])}]",
        f"Size:     {human_size(image['Size'])}",
        "Image Layers" if image["Layers"] else "No Image Layers",
    ]
    last = len(image["Layers"]) - 1
    for number, layer in enumerate(image["Layers"]):
        branch = "└── " if number == last else "├── "
        top = f" Top Layer of: [{' '.join(layer['Names'])}]" if layer["Names"] else ""
        lines.append(f"{branch}ID: {layer['Id'][:12]} Size: {human_size(layer['Size'])}{top}")
    write_lines(lines)
    return 0


def prune(context: Context, options: Options, arguments: list[str]) -> int:
    """Remove images that nobody needs."""
    from strata.cli.handlers.containers import show_pruned
    from strata.engine.images import verbs as engine_images

    everything = options.flag("all")
    what = "without at least one container associated to them" if everything else "without a name"
    return losses.prune(
        context, options, "image", f"This will remove all images {what}.",
        lambda filters: show_pruned(
            engine_images.prune(context.engine, all=everything, filters=filters)
        ),
        all=everything,
    )  # fmt: skip


def mount(context: Context, options: Options, arguments: list[str]) -> int:
    """Show images' files on the host, or list what is shown."""
    from strata.cli.format import show_rows
    from strata.engine.images import mounting

    names = arguments
    if options.flag("all"):
        need_names(arguments, all=True, what="image name")
        names = context.engine.records.list_ids("image")
    elif not arguments:
        rows = mounting.list_mounted(context.engine)
        shown = [
            {**row, "Name": (row["Repositories"] or [row["id"][:12]])[0], "_raw": row}
            for row in rows
        ]
        show_rows(shown, [("IMAGE", "Name"), ("MOUNTPOINT", "mountpoint")],
                  format=options.text("format"), heading=False)  # fmt: skip
        return 0

    def act(name: str) -> None:
        path = mounting.mount_image(context.engine, name)
        say(path if len(names) == 1 else f"{name} {path}")

    return for_each(context, names, act)


def unmount(context: Context, options: Options, arguments: list[str]) -> int:
    """Take images' files away from the host."""
    from strata.engine.images import mounting

    everything = options.flag("all")
    need_names(arguments, all=everything, what="image name")
    names = arguments
    if everything:
        names = [row["id"] for row in mounting.list_mounted(context.engine)]
    return for_each(context, names, lambda name: say(mounting.unmount_image(context.engine, name)))
