"""The driver interface: datasets and snapshots, whatever keeps them.

Words. A *dataset* is a writable tree of files with a name relative to the store's root dataset,
such as ``layers/4f1c`` or ``volumes/_/pgdata.9a3e``. A *snapshot* is a frozen moment of one
dataset, written ``dataset@name``. A *clone* is a dataset that starts as a snapshot. *Identity*
is a small set of properties that say what a dataset is (``id``, ``kind``, ``name``, ``lineage``,
``generation``, ``schema``); every local user may read them, so they never carry configuration.

Story of an image and a container::

    create("layers/a", identity)             the base layer is unpacked into it
    snapshot(["layers/a@layer"])             from now on it never changes
    clone("layers/a@layer", "layers/b", …)   the next layer starts as its parent
    snapshot(["layers/b@layer"])
    clone("layers/b@layer", "containers/c", …)     the container's own file system

Laws, asserted by the contract suite for every driver:

- A dataset is created with its identity in one step: no crash leaves one without an id, unless it
  was made ``unfinished``, and then a journal names it or nobody will ask for it.
- ``guid`` names a dataset or snapshot for its whole life, across renames.
- ``destroy`` of something absent raises `DatasetNotFound`; of something with snapshots or clones
  raises `HasDependants`, and nothing is lost.
- What differs between drivers is a fact in `Facts` and both answers have a defined behaviour.
- Parents of a new name are made as needed; they have no identity of their own.
- Names were checked by `strata.storage.layout` before they come here.
- A name that begins with ``/`` lies outside the root dataset (see there). It is snapshotted,
  cloned, listed, opened and measured like any other; only what Strata made out there is renamed or
  destroyed. A clone lies in the pool of its snapshot.
"""

from __future__ import annotations

from strata.errors import AlreadyExists, NotFound, StorageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from strata.linux.mount import MountStep
    from strata.storage.outside import Outside
    from strata.storage.shares import Shares


class DatasetNotFound(NotFound):
    """No such dataset or snapshot."""

    id = "dataset-not-found"


class DatasetExists(AlreadyExists):
    """The dataset or snapshot name is taken."""

    id = "dataset-exists"


class DatasetBusy(StorageError):
    """Something holds the dataset: a mount, an open file, a running send."""

    id = "dataset-busy"


class HasDependants(StorageError):
    """Clones or snapshots need it; ``dependants`` names them when the driver could tell."""

    id = "has-dependants"

    def __init__(self, message: str, dependants: Sequence[str] = (), *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.dependants = list(dependants)


class Unsupported(StorageError):
    """This driver cannot do it (see its `Facts`)."""

    id = "unsupported"


class StreamBroken(StorageError):
    """A stream ended early or is damaged. What came is kept when the receive was resumable."""

    id = "stream-broken"


class StreamMismatch(StorageError):
    """An increment does not begin where the receiving dataset ends."""

    id = "stream-mismatch"


class Facts:
    """What a driver can do. Each has a defined behaviour for "no".

    ========================  ==========================================================
    ``private_mount``         a dataset can be mounted in one namespace only. No: it is
                              mounted in the home namespace and bound from there.
    ``rename_busy``           a dataset in use can be renamed (trash is a rename). No: the
                              trash is logical, the dataset stays under its name.
    ``atomic_set``            several snapshots of one moment. No: one after another.
    ``properties_at_create``  identity arrives in the creating step. No: a staging name
                              and a rename give the same law.
    ``reports_busy``          destroying a mounted dataset is refused. No: it succeeds
                              under a running user, so the engine must look first.
    ``clones_pin``            a snapshot with clones cannot be destroyed. No: clones are
                              independent from the start.
    ``native_properties``     compression, recordsize, quota … can be set per dataset.
    ``quota``                 a limit on what a dataset refers to can be set.
    ``quota_snapshots``       a limit can count a dataset together with its snapshots.
    ``reservation``           space can be kept free for a dataset.
    ``counts``                the pool knows what each dataset takes. No: it is read when
                              asked (`Driver.measure`, `Driver.survey`).
    ``send``                  send and receive.   ``send_since``  incremental ones.
    ``send_raw``              encrypted datasets are sent as they lie on the disk.
    ``send_resume``           a receive that broke off is continued by a token.
    ``holds``                 a snapshot can be held against destruction.
    ``bookmarks``             a moment can be kept as the start of an increment, without data.
    ``block_clone``           copies between datasets of the pool share their blocks.
    ``idmap``                 idmapped mounts.
    ``shows_snapshots``       a snapshot is mounted as it is. No: a clone shows its files until
                              `Driver.close`, and a journal answers for it.
    ``waits``                 every change waits for a transaction group.
    ========================  ==========================================================
    """

    __slots__ = (
        "atomic_set", "block_clone", "bookmarks", "clones_pin", "counts", "holds", "idmap",
        "native_properties", "private_mount", "properties_at_create", "quota", "quota_snapshots",
        "rename_busy", "reports_busy", "reservation", "send", "send_raw", "send_resume",
        "send_since", "shows_snapshots", "waits",
    )  # fmt: skip

    def __init__(self, **facts: bool) -> None:
        for name in self.__slots__:
            setattr(self, name, facts.pop(name))
        if facts:
            raise TypeError(f"unknown facts: {', '.join(facts)}")

    atomic_set: bool
    block_clone: bool
    bookmarks: bool
    clones_pin: bool
    counts: bool
    holds: bool
    idmap: bool
    native_properties: bool
    private_mount: bool
    properties_at_create: bool
    quota: bool
    quota_snapshots: bool
    rename_busy: bool
    reports_busy: bool
    reservation: bool
    send: bool
    send_raw: bool
    send_resume: bool
    send_since: bool
    shows_snapshots: bool
    waits: bool

    def to_dict(self) -> dict[str, bool]:
        """For ``system info``."""
        return {name: bool(getattr(self, name)) for name in self.__slots__}


class Dataset:
    """What the driver knows about one dataset, read at one moment."""

    __slots__ = ("createtxg", "creation", "guid", "identity", "name", "origin")

    def __init__(
        self, name: str, guid: str, createtxg: int, creation: int, origin: str | None,
        identity: dict[str, str],
    ) -> None:  # fmt: skip
        self.name = name
        self.guid = guid
        #: transaction (zfs) or generation (btrfs) of creation; grows, never reused
        self.createtxg = createtxg
        #: seconds since the epoch
        self.creation = creation
        #: ``dataset@snapshot`` this is a clone of, None for an original or when unknown
        self.origin = origin
        self.identity = identity


class Snapshot:
    """One snapshot. ``clones`` are dataset names, empty where clones do not pin."""

    __slots__ = ("clones", "createtxg", "creation", "dataset", "guid", "name")

    def __init__(
        self, dataset: str, name: str, guid: str, createtxg: int, creation: int,
        clones: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.dataset = dataset
        self.name = name
        self.guid = guid
        self.createtxg = createtxg
        self.creation = creation
        self.clones = list(clones)

    @property
    def full_name(self) -> str:
        return f"{self.dataset}@{self.name}"


class Usage:
    """Space in bytes. None where the driver cannot tell without a quota group."""

    __slots__ = ("compressratio", "logical", "referenced", "used")

    def __init__(
        self, used: int | None, referenced: int | None, logical: int | None,
        compressratio: float | None,
    ) -> None:  # fmt: skip
        self.used = used
        self.referenced = referenced
        self.logical = logical
        self.compressratio = compressratio


class PoolSpace:
    """Size and free bytes of the pool the store lives on."""

    __slots__ = ("free", "size")

    def __init__(self, size: int, free: int) -> None:
        self.size = size
        self.free = free


class Driver:
    """What every storage driver does. All names are relative to the root dataset.

    Methods raise the errors of this module, `NoSpace` when the pool or a quota is full, and
    `CommandFailed` for text nobody could interpret.
    """

    name: str
    #: which properties it honours: ``btrfs``, ``openzfs`` or ``zfs-fuse``
    flavour: str
    facts: Facts
    #: steps so far that waited for the pool to write something down
    changes: int

    # -- changing ------------------------------------------------------------------------------

    def create(
        self, name: str, identity: Mapping[str, str],
        properties: Mapping[str, str] | None = None, *, unfinished: bool = False,
    ) -> Dataset:  # fmt: skip
        """Make an empty dataset. ``properties`` are native ones, already allow-listed.

        ``unfinished``: the caller's journal answers for it until `finish`, or it dies with what it
        was made for; where giving the identity now costs another wait, the driver leaves it out.
        """
        raise NotImplementedError

    def clone(
        self, snapshot: str, name: str, identity: Mapping[str, str],
        properties: Mapping[str, str] | None = None, *, unfinished: bool = False,
    ) -> Dataset:  # fmt: skip
        """Make a dataset that starts as ``dataset@snapshot``; ``unfinished`` as in `create`."""
        raise NotImplementedError

    def finish(
        self, name: str, identity: Mapping[str, str], *, snapshot: str = "", promote: bool = False
    ) -> None:
        """Complete a dataset that was made ``unfinished``: give it its identity, and either
        `promote` it or freeze it as ``name@snapshot``; with one wait where the driver can.

        Errors as those of the single steps; the identity is given before them, and stays.
        """
        if promote:
            self.promote(name)
        if snapshot:
            self.snapshot([f"{name}@{snapshot}"])

    def snapshot(self, names: Sequence[str]) -> None:
        """Freeze each ``dataset@name``; of one moment where ``facts.atomic_set``.

        On failure none of the names exists afterwards.
        """
        raise NotImplementedError

    def rollback(self, snapshot: str) -> None:
        """Put a dataset back to its newest snapshot, losing what came after. For internal use
        (a layer whose unpacking broke off); what users call rollback is a clone."""
        raise NotImplementedError

    def rename(self, name: str, new: str) -> None:
        """Rename a dataset (its snapshots move along) or a snapshot (``d@a`` to ``d@b``)."""
        raise NotImplementedError

    def promote(self, name: str) -> None:
        """Make a clone independent of its origin: the origin's dataset becomes the clone's clone,
        and the origin snapshot (with older ones) moves to ``name``, GUIDs unchanged. Without
        ``facts.clones_pin`` only the snapshots move. `DatasetExists` when ``name`` has a
        snapshot of the same name as one that would move."""
        raise NotImplementedError

    def destroy(self, name: str) -> None:
        """Destroy one dataset without snapshots, or one snapshot without clones."""
        raise NotImplementedError

    def destroy_recursive(self, name: str) -> None:
        """Destroy a dataset with its snapshots; `HasDependants` when clones outside need them."""
        raise NotImplementedError

    def set_properties(self, name: str, properties: Mapping[str, str]) -> None:
        """Set native properties, or identity ones written ``strata:KEY``."""
        raise NotImplementedError

    # -- reading -------------------------------------------------------------------------------

    def get(self, name: str) -> Dataset:
        """Read one dataset now. Identity is believed only when set on the dataset itself; a
        snapshot, written ``dataset@name``, has none."""
        raise NotImplementedError

    def find(self, name: str) -> Dataset | None:
        """Like `get`, None when absent."""
        try:
            return self.get(name)
        except DatasetNotFound:
            return None

    def find_guid(self, name: str) -> str | None:
        """The GUID alone of what `find` gives."""
        found = self.find(name)
        return found.guid if found is not None else None

    def list_datasets(self, parent: str) -> list[Dataset]:
        """The datasets directly below ``parent`` (``layers``, ``volumes/_`` …)."""
        raise NotImplementedError

    def list_snapshots(self, name: str) -> list[Snapshot]:
        """The snapshots of one dataset, oldest first, foreign ones too."""
        raise NotImplementedError

    def find_snapshot(self, name: str, short: str) -> Snapshot | None:
        """The snapshot of one dataset with this name."""
        return next((s for s in self.list_snapshots(name) if s.name == short), None)

    def get_properties(self, name: str, keys: Sequence[str]) -> dict[str, str]:
        """Native properties as text; a key the driver does not have is absent."""
        raise NotImplementedError

    def get_usage(self, name: str) -> Usage:
        """Space of one dataset, as far as the pool knows without being asked to count."""
        raise NotImplementedError

    def measure(self, name: str) -> Usage:
        """Space of one dataset in numbers, also where that means reading all its extents.

        What was written and not brought to the pool yet may be missing; see `sync`.
        """
        return self.get_usage(name)

    def survey(self) -> Shares | None:
        """Who holds which bytes of the whole pool, by reading it; None where ``facts.counts``
        and `estimate_destroy` answer single questions better."""
        return None

    def count_referenced(self, name: str) -> int:
        """Bytes of a dataset or snapshot as its ``refquota`` counts them. Without ``facts.counts``
        this lets the pool begin to count."""
        return self.get_usage(name).referenced or 0

    def is_freeing(self) -> bool:
        """Whether the space of something that was destroyed is still on its way back."""
        return False

    def settle_counting(self) -> bool:
        """After removals: let the pool stop counting for limits when none is left, and count
        anew where its counts cannot be relied on. Whether something had to be done."""
        return False

    def get_written(self, name: str, snapshot: str) -> int | None:
        """Bytes written to a dataset since its snapshot of that name; None when nobody counts."""
        return None

    def estimate_destroy(self, name: str) -> int | None:
        """Bytes that destroying a dataset with its snapshots, or one snapshot, would free, by a
        dry run; None where there is none, or something needs it."""
        return None

    def get_pool_space(self, near: str = "") -> PoolSpace:
        """Size and free space of the store's pool, or of the one a dataset outside lies in."""
        raise NotImplementedError

    # -- files ---------------------------------------------------------------------------------

    def prepare_mount(self, name: str) -> MountStep:
        """How to mount a dataset: a step whose ``target`` is empty and set by the caller.

        With ``facts.private_mount`` this has no effect outside; without, it makes the dataset
        reachable in the home namespace first. ``name`` may be a snapshot; then it is read-only.
        """
        raise NotImplementedError

    def open(self, name: str) -> str:
        """Make the files of a dataset or snapshot reachable in the home namespace; return the
        path of its root. Idempotent; the path is below a directory of mode 0700, and mounted
        nosuid,nodev. `close` undoes it."""
        raise NotImplementedError

    def close(self, name: str) -> None:
        """Undo `open` (and what `prepare_mount` mounted at home). Idempotent."""
        raise NotImplementedError

    # -- outside the root dataset --------------------------------------------------------------

    @property
    def outside(self) -> Outside:
        """Datasets that lie outside the root dataset: adopting them, places for volumes."""
        raise NotImplementedError

    # -- moving --------------------------------------------------------------------------------

    def send(
        self, snapshot: str, output: int, since: str | None = None, *, raw: bool = False
    ) -> None:
        """Write a stream of ``snapshot`` to a descriptor, or of its changes after ``since``, a
        snapshot or bookmark (``dataset#name``) of the same dataset. Properties do not travel.

        ``raw``: encrypted data as it lies on the disk, for a receiver without the key.
        """
        raise self.lacks("send")

    def resume_send(self, token: str, output: int) -> None:
        """Write the rest of a stream from where the receiver's ``token`` says it broke off."""
        raise self.lacks("send_resume")

    def receive(
        self, name: str, input: int, identity: Mapping[str, str] | None = None, *,
        resumable: bool = False,
    ) -> None:  # fmt: skip
        """Make a dataset with an identity from a stream, or bring it forward by an increment
        (without identity). What the stream says about mounting, sharing and identity is dropped.

        `StreamBroken`, `StreamMismatch`. After a broken resumable one `find_resume_token` says how
        to go on; otherwise nothing of the stream stays.
        """
        raise self.lacks("send")

    def find_resume_token(self, name: str) -> str | None:
        """Where a resumable receive into ``name`` broke off, None when there is nothing to resume.

        Also None for a dataset that does not exist.
        """
        raise self.lacks("send_resume")

    def abort_receive(self, name: str) -> None:
        """Throw away what a resumable receive left. `StorageError` when it left nothing."""
        raise self.lacks("send_resume")

    def hold(self, snapshot: str, tag: str) -> None:
        """Keep a snapshot from being destroyed (`DatasetBusy`) until `release`. Idempotent."""
        raise self.lacks("holds")

    def release(self, snapshot: str, tag: str) -> None:
        """Take back one hold. Idempotent."""
        raise self.lacks("holds")

    def list_holds(self, snapshot: str) -> list[str]:
        """The tags that hold a snapshot, foreign ones too, sorted."""
        raise self.lacks("holds")

    def bookmark(self, snapshot: str, bookmark: str) -> None:
        """Keep the moment of a snapshot as ``dataset#name``, which outlives the snapshot."""
        raise self.lacks("bookmarks")

    def list_bookmarks(self, name: str) -> dict[str, str]:
        """The bookmarks of one dataset, oldest first: full name to the GUID of its snapshot."""
        raise self.lacks("bookmarks")

    def destroy_bookmark(self, bookmark: str) -> None:
        """Forget ``dataset#name``. `DatasetNotFound`."""
        raise self.lacks("bookmarks")

    def lacks(self, fact: str) -> Unsupported:
        """The error for a driver whose `Facts` say no."""
        return Unsupported(
            f"the {self.flavour} storage cannot do this ({fact})",
            hint="a store on OpenZFS can" if self.flavour != "openzfs" else "",
        )

    # -- the store -----------------------------------------------------------------------------

    def attach(self) -> None:
        """Make the pool reachable after a reboot (loop device, import, mounts of the root).

        Idempotent and safe under a race; raises `StoreMissing` rather than making anything."""
        raise NotImplementedError

    def detach(self) -> None:
        """Undo `attach`: unmount and free the loop device. Idempotent."""
        raise NotImplementedError

    def sync(self) -> None:
        """Make everything done so far survive a power cut. Nothing where ``facts.waits``: there
        every change is durable when it returns. Elsewhere only `snapshot` is."""

    def collect(self) -> list[str]:
        """Remove what killed commands left behind inside the driver; return what it was."""
        return []

    def describe(self) -> dict[str, object]:
        """Version, features and place for ``system info``."""
        raise NotImplementedError
