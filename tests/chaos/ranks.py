"""Two ranks of one training, stopped at moments up to three seconds apart."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from codex_forge.artifact import Checkpoints
from tests.chaos.checks import Broken, left_over
from tests.chaos.crew import all_of
from tests.chaos.draws import RankStop, rank_stops
from tests.chaos.places import Place, Root
from tests.chaos.processes import Process
from tests.chaos.report import finish, print_table, spread
from tests.chaos.world import RUN_SECONDS, World

LAUNCHER = ("jobs.torchrun", "--nproc-per-node", "2", "-m")
EXIT_SECONDS = 90.0
_POLL_SECONDS = 0.02
_COMMIT = re.compile(r"(.*)/step-[^/]+/commit\.json")


@dataclass
class Stop:
    """What came of one order to stop."""

    target: str
    signal: str
    skew: float
    at: float
    """Seconds after the first step was logged."""
    exit_code: int | None = None
    seconds_to_exit: float = 0.0
    """From the first signal."""


@dataclass
class Training:
    """The story of one training."""

    place: str
    number: int
    stops: list[Stop] = field(default_factory=list)
    failure: str = ""


class Ranks:
    """Trainings of two ranks, each stopped up to three times."""

    def __init__(self, world: World, places: Sequence[Place], seed: int) -> None:
        """The world must have pairs and audit in these places."""
        self._world, self._places, self._seed = world, places, seed
        self.digest = ""
        self.seconds = 0.0
        """From the first step of an undisturbed run to its end."""
        self.trainings: list[Training] = []

    def prepare(self) -> None:
        """An undisturbed training of two ranks."""
        root = self._world.before("train", self._places[0])
        job = self._start(root)
        try:
            if not self._has_begun(job):
                raise RuntimeError(f"two ranks, undisturbed, do not train:\n{job.said}")
            began = time.monotonic()
            if (code := job.result(RUN_SECONDS)) != 0:
                raise RuntimeError(f"two ranks, undisturbed, end with {code}:\n{job.said}")
            self.seconds = time.monotonic() - began
            self.digest = self._visible(root)
        finally:
            self._world.processes.end(job)
            self._world.free(self._places[0], root)

    def run(self, total: int, workers: int) -> None:
        """Go on until there were `total` stops."""
        all_of(self._tasks(total), workers, self._world.processes)

    @property
    def stops(self) -> list[Stop]:
        """All that were ordered."""
        return [stop for training in self.trainings for stop in training.stops]

    def _tasks(self, total: int) -> Iterator[Callable[[], None]]:
        for number in range(4 * total):
            if len(self.stops) >= total:
                return
            place = self._places[number % len(self._places)]
            training = Training(place.name, number)
            self.trainings.append(training)
            yield partial(self.play, training, rank_stops(self._seed, number))

    def play(self, training: Training, orders: Sequence[RankStop]) -> None:
        """Stop one training as ordered, then let it finish; what is broken is noted."""
        place = next(place for place in self._places if place.name == training.place)
        root = self._world.before("train", place)
        began = time.monotonic()
        try:
            if not any(self._stop(root, order, training) for order in orders):
                self._finish(root)
            if self._visible(root) != self.digest:
                raise Broken("the digest is not the undisturbed run's")
            if left := left_over(root.store, self._world.path("train")):
                raise Broken(f"the finished artifact's folder still holds {left}")
        except Broken as broken:
            told = "\n".join(map(str, training.stops))
            training.failure = f"training {training.number}: {broken}\nstops:\n{told}"
        finally:
            self._world.free(place, root)
        self._tell(training, time.monotonic() - began)

    def _tell(self, training: Training, seconds: float) -> None:
        told = ", ".join(
            f"{s.target} {s.signal[3:]} at {s.at:.1f} s, skew {s.skew:.1f} s: "
            f"{s.exit_code} in {s.seconds_to_exit:.1f} s"
            for s in training.stops
        )
        state = "FAILED" if training.failure else "ok"
        label = f"{training.place}/{training.number}"
        print(f"{label:<10} {state:<6} {seconds:5.1f} s  {told}", flush=True)
        if training.failure:
            print(training.failure, flush=True)

    def _stop(self, root: Root, order: RankStop, training: Training) -> bool:
        """One run that is stopped; returns whether it had ended on its own before."""
        job = self._start(root)
        try:
            if not self._has_begun(job) or job.is_over_in(order.share * self.seconds):
                if (code := job.result(RUN_SECONDS)) != 0:
                    raise Broken(f"left alone, it ended with {code}:\n{job.said}")
                return True
            at = order.share * self.seconds
            stop = Stop(order.target, order.signal.name, round(order.skew, 2), round(at, 2))
            training.stops.append(stop)
            sent = time.monotonic()
            self._send(job, order)
            stop.exit_code = job.result(EXIT_SECONDS)
            stop.seconds_to_exit = round(time.monotonic() - sent, 2)
            self._check(job, root, order, stop)
            return stop.exit_code == 0
        finally:
            self._world.processes.end(job)

    def _finish(self, root: Root) -> None:
        job = self._start(root)
        try:
            if (code := job.result(RUN_SECONDS)) != 0:
                raise Broken(f"left alone, it ended with {code}:\n{job.said}")
        finally:
            self._world.processes.end(job)

    def _send(self, job: Process, order: RankStop) -> None:
        if order.target == "torchrun":
            job.send(order.signal)
            return
        found = ranks_of(job)
        send(found.get(order.first), order.signal)
        if order.target == "both ranks":
            job.is_over_in(order.skew)
            send(found.get(1 - order.first), order.signal)

    def _check(self, job: Process, root: Root, order: RankStop, stop: Stop) -> None:
        """It ends in time, with 75, leaves a checkpoint and no process."""
        if stop.exit_code is None:
            raise Broken(f"has not ended {EXIT_SECONDS:.0f} s after the signal:\n{job.said}")
        if stop.exit_code not in (0, 75):
            raise Broken(f"exit code {stop.exit_code}:\n{job.said}")
        if "Traceback" in job.said and order.target != "one rank":
            raise Broken(f"a traceback:\n{job.said}")
        deadline = time.monotonic() + 5
        while (left := job.family()) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        if left:
            raise Broken(f"it has left processes {left} behind:\n{job.said}")
        if stop.exit_code == 75 and order.signal != signal.SIGKILL and not self._visible(root):
            self._check_checkpoint(root, job)

    def _check_checkpoint(self, root: Root, job: Process) -> None:
        commits = (_COMMIT.fullmatch(path) for path in root.store.list(self._world.path("train")))
        folders = {found[1] for found in commits if found}
        cache = self._world.cache()
        readers = [Checkpoints(root.store, folder, None, 1) for folder in folders]
        if not any(reader.latest(cache) for reader in readers):
            raise Broken(f"no whole checkpoint is on the store:\n{job.said}")

    def _start(self, root: Root) -> Process:
        return self._world.start("train", root, launcher=LAUNCHER)

    def _has_begun(self, job: Process) -> bool:
        """Wait for the first step; returns whether there is one."""
        while not job.is_over_in(_POLL_SECONDS) and job.age < RUN_SECONDS:
            if "  step " in job.said:
                return True
        return False

    def _visible(self, root: Root) -> str:
        return self._world.visible("train", root)


def ranks_of(job: Process) -> dict[int, int]:
    """Process numbers of the ranks."""
    found: dict[int, int] = {}
    for pid in job.family():
        with suppress(OSError):
            environ = (Path(f"/proc/{pid}/environ").read_bytes()).split(b"\0")
            ranks = [entry for entry in environ if entry.startswith(b"RANK=")]
            if ranks:
                found[int(ranks[0].removeprefix(b"RANK="))] = pid
    return found


def send(pid: int | None, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone."""
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def report(ranks: Ranks, settings: dict[str, Any]) -> int:
    """A table, `build/chaos/ranks.json`, and the exit status."""
    seconds: dict[tuple[str, str, int | None], list[float]] = {}
    for stop in ranks.stops:
        key = (stop.target, stop.signal, stop.exit_code)
        seconds.setdefault(key, []).append(stop.seconds_to_exit)
    print(f"\n{len(ranks.stops)} stops of {len(ranks.trainings)} trainings\n")
    print("from the first signal to torchrun's exit, seconds (with the skew, 3 at most)")
    head = ("target", "signal", "exit", "stops", "p50", "worst")
    rows = sorted(seconds.items(), key=lambda item: str(item[0]))
    print_table(head, ((*key, len(values), *spread(values)) for key, values in rows))
    numbers = {
        **settings,
        "undisturbed_training_seconds": ranks.seconds,
        "stops": len(ranks.stops),
        "trainings": [asdict(training) for training in ranks.trainings],
    }
    return finish("ranks", numbers, [t.failure for t in ranks.trainings if t.failure])
