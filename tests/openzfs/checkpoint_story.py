"""Containers that count, to see whether they go on where they were."""

from __future__ import annotations

from pathlib import Path

from helpers.store import BUSYBOX, Outcome, Store, wait_until

#: counts in memory, and says so in a file and in its log
COUNTER = "n=0; while :; do n=$((n+1)); echo $n >/data/n; echo $n; sleep 0.2; done"


class Story:
    """The store, and the counters in it."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __call__(self, *words: str) -> str:
        return self.store.ok(*words).line

    def refused(self, *words: str) -> Outcome:
        """Run what must fail as strata's own errors do."""
        done = self.store.strata(*words)
        assert done.rc == 125, repr(done)
        return done

    def inspect(self, name: str) -> dict[str, dict[str, object]]:
        (found,) = self.store.ok("inspect", name).json
        assert isinstance(found, dict)
        return found

    def status_of(self, name: str) -> tuple[object, object, object]:
        """Status, and whether it was checkpointed, and restored."""
        state = self.inspect(name)["State"]
        return state["Status"], state["Checkpointed"], state["Restored"]

    def count(self, name: str, *words: str, script: str = COUNTER) -> Counter:
        """Start a container that counts, and wait until it does."""
        self("run", "-d", "--name", name, "--network", "none", "--stop-timeout", "0", *words,
             BUSYBOX, "sh", "-c", script)  # fmt: skip
        counter = Counter(self, name)
        counter.wait_for(2)
        return counter


class Counter:
    """A container that counts, and what it has said in all its runs."""

    def __init__(self, story: Story, name: str) -> None:
        config = story.inspect(name)["HostConfig"]["LogConfig"]
        assert isinstance(config, dict)
        self._log = Path(str(config["Path"]))

    @property
    def numbers(self) -> list[int]:
        said = [line.split()[-1] for line in self._log.read_text().splitlines()]
        # One that ends while nobody reads its output any more complains of that.
        return [int(word) for word in said if word.isdecimal()]

    def wait_for(self, number: int, times: int = 1) -> None:
        """Wait until it has said a number so many times."""
        wait_until(lambda: self.numbers.count(number) >= times, f"does not count to {number}")

    def goes_on(self, last: int) -> None:
        """Check that it counts on after ``last``, without a gap and not from the start."""
        self.wait_for(last + 2)
        numbers = self.numbers
        new = sorted(set(numbers[numbers.index(last) :]))
        assert new == list(range(last, new[-1] + 1))
