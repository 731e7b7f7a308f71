"""SIGKILL and SIGTERM at random moments of every mode, on every place."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from tests.chaos.campaign import Campaign, Conductor, Kill
from tests.chaos.crew import all_of
from tests.chaos.draws import kill_points
from tests.chaos.places import Place
from tests.chaos.report import finish, print_table, spread
from tests.chaos.world import World


class Kills:
    """A number of kill points, the same number for every place and mode."""

    def __init__(
        self, world: World, places: Sequence[Place], modes: Sequence[str], seed: int
    ) -> None:
        """The world must be prepared for these places."""
        self._world, self._seed = world, seed
        self._cells = [(place, mode) for mode in modes for place in places]
        self.campaigns: list[Campaign] = []

    def run(self, total: int, workers: int) -> None:
        """Go on until there were at least `total` kills, equally many in every cell."""
        each = -(-total // len(self._cells))
        all_of(self._tasks(each), workers, self._world.processes)

    def repeat(self, label: str) -> None:
        """One campaign again, such as `s3/train/3`."""
        name, mode, number = label.split("/")
        place = next(place for place, _ in self._cells if place.name == name)
        self._one(place, Campaign(name, mode, int(number)))

    @property
    def kills(self) -> list[tuple[Campaign, Kill]]:
        """All that were done."""
        return [(campaign, kill) for campaign in self.campaigns for kill in campaign.kills]

    @property
    def failures(self) -> list[str]:
        """Of all campaigns, with what repeats them."""
        again = f"python -m tests.chaos kills --seed {self._seed} --campaign"
        return [f"{again} {c.label}: {f}" for c in self.campaigns for f in c.failures]

    def _tasks(self, each: int) -> Iterator[Callable[[], None]]:
        """Campaigns in turn over the cells, as long as a cell has too few kills."""
        number = 0
        while number <= 4 * each:
            short = [cell for cell in self._cells if self._count(*cell) < each]
            if not short:
                return
            for place, mode in short:
                if self._count(place, mode) < each:
                    campaign = Campaign(place.name, mode, number)
                    self.campaigns.append(campaign)
                    yield partial(self._one, place, campaign)
            number += 1

    def _count(self, place: Place, mode: str) -> int:
        mine = (c for c in self.campaigns if (c.place, c.mode) == (place.name, mode))
        return sum(len(campaign.kills) for campaign in mine)

    def _one(self, place: Place, campaign: Campaign) -> None:
        if campaign not in self.campaigns:
            self.campaigns.append(campaign)
        began = time.monotonic()
        points = kill_points(self._seed, place.name, campaign.mode, campaign.number)
        Conductor(self._world, place, campaign).run(points)
        told = ", ".join(
            f"{k.signal[3:]} {k.phase} at {k.at:.1f} s: {k.exit_code} in {k.seconds_to_exit:.1f} s"
            for k in campaign.kills
        )
        state = "FAILED" if campaign.failures else "ok"
        print(
            f"{campaign.label:<20} {state:<6} {time.monotonic() - began:5.1f} s  {told}", flush=True
        )
        for failure in campaign.failures:
            print(failure, flush=True)


def report(kills: Kills, settings: dict[str, Any]) -> int:
    """Tables, `build/chaos/kills.json`, and the exit status."""
    done = kills.kills
    print(f"\n{len(done)} kills in {len(kills.campaigns)} campaigns\n")
    counts = Counter((c.mode, c.place, k.signal) for c, k in done)
    print_table(
        ("mode", "place", "signal", "kills"), ((*key, n) for key, n in sorted(counts.items()))
    )
    print("from SIGTERM to the exit, seconds")
    phases = _seconds_by_phase(done)
    rows = ((*key, len(v), *spread(v)) for key, v in sorted(phases.items()))
    print_table(("mode", "phase", "stops", "p50", "worst"), rows)
    print("done again after a kill: steps of train, blocks of embed")
    again = _repeated(done)
    head = ("mode", "signal", "kills", "p50", "worst")
    print_table(head, ((*key, len(v), *spread(v)) for key, v in sorted(again.items())))
    debris = sum(campaign.cut_off_writes for campaign in kills.campaigns)
    print(f"{debris} cut-off writes were left for `python -m jobs gc`")
    numbers = {
        **settings,
        "kills": len(done),
        "counts": {"/".join(key): n for key, n in sorted(counts.items())},
        "seconds_to_exit": {"/".join(key): v for key, v in sorted(phases.items())},
        "repeated": {"/".join(key): v for key, v in sorted(again.items())},
        "cut_off_writes": debris,
        "campaigns": [asdict(campaign) for campaign in kills.campaigns],
    }
    return finish("kills", numbers, kills.failures)


def _seconds_by_phase(done: Sequence[tuple[Campaign, Kill]]) -> dict[tuple[str, str], list[float]]:
    found: dict[tuple[str, str], list[float]] = {}
    for campaign, kill in done:
        if kill.signal == "SIGTERM":
            found.setdefault((campaign.mode, kill.phase), []).append(kill.seconds_to_exit)
    return found


def _repeated(done: Sequence[tuple[Campaign, Kill]]) -> dict[tuple[str, str], list[int]]:
    found: dict[tuple[str, str], list[int]] = {}
    for campaign, kill in done:
        if kill.repeated is not None:
            found.setdefault((campaign.mode, kill.signal), []).append(kill.repeated)
    return found
