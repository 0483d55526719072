"""Limits, reservations and counting, on every driver: what it can, and what it says when not."""

from __future__ import annotations

import os

import pytest
from helpers.store import wait_until

from strata.errors import NoSpace, UsageError
from strata.storage import layout, properties
from strata.storage.driver import Driver

pytestmark = [pytest.mark.root]

IDENTITY = layout.store_identity("test")
MIB = 1 << 20


def plan(driver: Driver, **options: str) -> dict[str, str]:
    return properties.resolve_size(properties.plan(options, driver.flavour)[0], 0)


def write(driver: Driver, name: str, file: str, size: int) -> None:
    fd = os.open(f"{driver.open(name)}/{file}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        for _ in range(size // MIB):
            os.write(fd, os.urandom(MIB))
        os.fsync(fd)
    finally:
        os.close(fd)


def fill(driver: Driver, name: str, file: str = "full", size: int = 16 * MIB) -> None:
    with pytest.raises(OSError, match=r"[Qq]uota"):
        write(driver, name, file, size)
    driver.sync()


def get_limit(driver: Driver, name: str) -> str:
    return driver.get_properties(name, ["refquota"]).get("refquota", "none")


def test_a_full_dataset_can_be_handled_and_its_copies_are_not_full(
    driver: Driver, name: str
) -> None:
    driver.create(name, IDENTITY, plan(driver, size="8M"))
    fill(driver, name)
    driver.snapshot([f"{name}@a"])
    driver.set_properties(name, {"strata:generation": "2"})
    driver.close(name)
    driver.rename(name, f"{name}-moved")
    name = f"{name}-moved"
    assert driver.get(name).identity["generation"] == "2"
    assert get_limit(driver, name) == str(8 * MIB)
    driver.clone(f"{name}@a", f"{name}-free", IDENTITY)
    assert get_limit(driver, f"{name}-free") in {"none", "0"}
    write(driver, f"{name}-free", "more", 4 * MIB)
    driver.clone(f"{name}@a", f"{name}-limited", IDENTITY, plan(driver, size="9M"))
    with pytest.raises(OSError, match=r"[Qq]uota"):
        write(driver, f"{name}-limited", "more", 4 * MIB)
    driver.set_properties(name, plan(driver, size="20M"))
    write(driver, name, "more", 4 * MIB)


def test_what_counts_for_a_limit_is_told(driver: Driver, name: str) -> None:
    driver.create(name, IDENTITY)
    write(driver, name, "data", 4 * MIB)
    driver.sync()
    assert 4 * MIB <= driver.count_referenced(name) < 5 * MIB
    driver.snapshot([f"{name}@a"])
    assert 4 * MIB <= driver.count_referenced(f"{name}@a") < 5 * MIB


def test_a_quota_counts_snapshots_or_is_refused(driver: Driver, name: str) -> None:
    if not driver.facts.quota_snapshots:
        with pytest.raises(UsageError, match="without its snapshots"):
            plan(driver, quota="24M")
        assert plan(driver, quota="none") == {}
        return
    driver.create(name, IDENTITY, plan(driver, quota="24M"))
    write(driver, name, "data", 14 * MIB)
    driver.snapshot([f"{name}@a"])
    with pytest.raises(OSError, match=r"[Qq]uota"):
        write(driver, name, "data", 14 * MIB)
    with pytest.raises(UsageError, match="less than current"):
        driver.set_properties(name, {"quota": str(MIB)})


def test_a_reservation_keeps_space_free_or_is_refused(driver: Driver, name: str) -> None:
    for kind in ("reservation", "refreservation"):
        if not driver.facts.reservation:
            with pytest.raises(UsageError, match="cannot reserve"):
                plan(driver, **{kind: "32M"})
            continue
        before = driver.get_pool_space().free
        driver.create(f"{name}-{kind}", IDENTITY, plan(driver, **{kind: "32M"}))
        assert before - driver.get_pool_space().free >= 30 * MIB
        with pytest.raises(NoSpace):
            driver.create(f"{name}-too-much", IDENTITY, {kind: str(before * 2)})
        driver.destroy(f"{name}-{kind}")


def test_every_driver_measures(driver: Driver, name: str) -> None:
    driver.create(name, IDENTITY)
    write(driver, name, "data", 4 * MIB)
    driver.snapshot([f"{name}@a"])
    driver.clone(f"{name}@a", f"{name}-clone", IDENTITY)
    write(driver, f"{name}-clone", "own", 2 * MIB)
    driver.sync()
    whole, clone = driver.measure(name), driver.measure(f"{name}-clone")
    for value, expected in ((whole.used, 4), (whole.referenced, 4), (clone.referenced, 6)):
        assert value is not None
        assert expected * MIB <= value < (expected + 1) * MIB
    assert clone.used is not None
    assert 2 * MIB <= clone.used < 3 * MIB
    os.unlink(f"{driver.open(name)}/data")
    driver.sync()
    # ZFS frees behind the call's back.
    wait_until(lambda: (driver.measure(name).referenced or 0) < MIB, "its file is gone", 60)
    assert (driver.measure(name).used or 0) >= 4 * MIB, "its snapshot still holds it"


def test_a_survey_tells_who_holds_what_where_the_pool_does_not(driver: Driver, name: str) -> None:
    driver.create(name, IDENTITY)
    write(driver, name, "kept", 2 * MIB)
    write(driver, name, "gone", 4 * MIB)
    driver.snapshot([f"{name}@a"])
    driver.clone(f"{name}@a", f"{name}-clone", IDENTITY)
    write(driver, f"{name}-clone", "own", MIB)
    os.unlink(f"{driver.open(name)}/gone")
    shares = driver.survey()
    assert (shares is None) == driver.facts.counts
    if shares is None:
        return

    def free(*names: str) -> int:
        return shares.get_free(names) // MIB

    family = (name, f"{name}@a", f"{name}-clone")
    assert shares.list_snapshots(name) == [f"{name}@a"]
    assert [free(one) for one in family] == [0, 0, 1]
    assert free(name, f"{name}@a") == 0
    assert free(f"{name}@a", f"{name}-clone") == 5
    assert free(*family) == 7
    assert shares.get_held([name]) // MIB == 2
    assert shares.packed[f"{name}-clone"] // MIB == 7
    assert shares.get_free(["containers/none"]) == 0
