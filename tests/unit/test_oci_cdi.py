"""Specifications of devices, and what they change in a runtime spec."""

from __future__ import annotations

from typing import Any

import pytest

from strata.errors import UsageError
from strata.oci import cdi


def make_document() -> dict[str, Any]:
    return {
        "process": {"env": ["PATH=/bin", "A=old"], "user": {"uid": 7, "gid": 0}},
        "mounts": [{"destination": "/etc/deep/place", "source": "x"}, {"destination": "/proc"}],
        "linux": {"resources": {"devices": [{"allow": False}]}},
    }


def make_spec(**edits: Any) -> cdi.Specification:
    document = {
        "cdiVersion": "0.6.0", "kind": "vendor.com/card", "containerEdits": {"env": ["ALL=1"]},
        "devices": [{"name": "0", "containerEdits": edits}, {"name": "1"}],
    }  # fmt: skip
    return cdi.Specification(document, "/etc/cdi/vendor.json")


def test_all_kinds_of_edits_arrive_in_the_spec() -> None:
    spec = make_spec(
        env=["A=new"], additionalGids=[0, 44],
        deviceNodes=[{"path": "/dev/card0", "hostPath": "/dev/real", "permissions": "rw"},
                     {"path": "/dev/pipe", "type": "p", "major": 1, "uid": 3}],
        mounts=[{"hostPath": "/lib/v.so", "containerPath": "/v.so", "options": ["ro"]}],
        hooks=[{"hookName": "createContainer", "path": "/bin/h", "args": ["h", "x"]}],
    )  # fmt: skip
    document = make_document()
    edits = cdi.choose([spec], ["vendor.com/card=0", "vendor.com/card=1", "vendor.com/card=0"])
    cdi.apply(document, edits, lambda path: ("c", 10, len(path)))
    assert document["process"]["env"] == ["PATH=/bin", "ALL=1", "A=new"]
    assert document["process"]["user"]["additionalGids"] == [44]
    assert document["linux"]["devices"] == [
        {"path": "/dev/card0", "type": "c", "major": 10, "minor": 9, "uid": 7},
        {"path": "/dev/pipe", "type": "p", "major": 1, "minor": 0, "uid": 3},
    ]
    assert document["linux"]["resources"]["devices"] == [
        {"allow": False}, {"allow": True, "type": "c", "major": 10, "minor": 9, "access": "rw"},
    ]  # fmt: skip
    assert [mount["destination"] for mount in document["mounts"]] == [
        "/proc", "/v.so", "/etc/deep/place"
    ]  # fmt: skip
    assert document["mounts"][1]["options"] == ["ro", "bind"]
    assert document["hooks"] == {"createContainer": [{"path": "/bin/h", "args": ["h", "x"]}]}


def test_the_later_file_counts_and_unknown_devices_are_named() -> None:
    first, second = make_spec(env=["A=1"]), make_spec(env=["A=2"])
    second.path = "/var/run/cdi/vendor.json"
    assert cdi.list_environment(cdi.choose([first, second], ["vendor.com/card=0"])) == [
        "ALL=1", "A=2"
    ]  # fmt: skip
    with pytest.raises(UsageError) as caught:
        cdi.choose([first], ["vendor.com/card=0", "vendor.com/card=9"])
    assert caught.value.message == "unresolvable CDI devices vendor.com/card=9"
    assert "vendor.com/card=1" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("vendor.com/class=name", True), ("v/c=0:1.2_x-y", True), ("v/c", False), ("v/c=", False),
        ("/dev/x=y", False), ("v.c=x", False), ("1v/c=x", False), ("v/c.d=x", False),
        ("v/c=-x", False), ("", False),
    ],
)  # fmt: skip
def test_names(name: str, good: bool) -> None:
    assert cdi.is_name(name) is good


@pytest.mark.parametrize(
    "edits",
    [
        {"deviceNodes": [{"path": "dev/x", "type": "c", "major": 1}]},
        {"mounts": [{"hostPath": "", "containerPath": "/x"}]},
        {"hooks": [{"hookName": "never", "path": "/bin/x"}]},
        {"intelRdt": {"closID": "x"}},
    ],
)
def test_edits_that_cannot_be_made_are_refused(edits: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        cdi.apply(make_document(), cdi.choose([make_spec(**edits)], ["vendor.com/card=0"]),
                  lambda path: ("c", 1, 1))  # fmt: skip


@pytest.mark.parametrize(
    "document",
    [
        None, [], {"kind": 3}, {"kind": "v/c", "devices": [{}]},
        {"kind": "v/c", "containerEdits": []},
        {"kind": "v/c", "containerEdits": {"mounts": ["x"]}},
    ],
)  # fmt: skip
def test_documents_that_are_no_specification(document: Any) -> None:
    with pytest.raises(UsageError):
        cdi.Specification(document, "/etc/cdi/x.json")
