"""A short part of the fault suite (`make chaos` is all of it), in real processes."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from functools import partial

import pytest
from s3fs import S3FileSystem

from tests.chaos.campaign import Campaign, Conductor
from tests.chaos.checks import left_over, work_of
from tests.chaos.crew import all_of
from tests.chaos.draws import Point, RankStop
from tests.chaos.places import Place, local_place, s3_place
from tests.chaos.processes import Processes
from tests.chaos.ranks import Ranks, Training
from tests.chaos.theatre import Case, Theatre
from tests.chaos.world import Size, World
from tests.servers.s3 import S3Server, make_bucket

SIZE = Size(model="cut-out", entities=60, rows=8, retriever="bm25")
KILL, TERM = signal.SIGKILL, signal.SIGTERM
LATE_KILL, LATE_TERM = Point(0.8, False, KILL), Point(0.75, False, TERM)
AIMED_KILL, AIMED_TERM = Point(0.3, True, KILL), Point(0.3, True, TERM)
"""While it publishes."""


class Stage:
    """A world that is prepared in both places, and for two ranks in the local one."""

    def __init__(self, world: World, places: dict[str, Place], ranks: Ranks) -> None:
        self.world, self.places, self.ranks = world, places, ranks


@pytest.fixture(scope="module")
def stage(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("chaos")
    with pytest.MonkeyPatch.context() as patch, Processes() as processes:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            patch.delenv(name, raising=False)
        for name, value in s3.environment().items():
            patch.setenv(name, value)
        S3FileSystem.clear_instance_cache()
        local = local_place(folder / "local")
        remote = s3_place(s3, make_bucket(s3, "chaos"), folder)
        world = World(folder, SIZE, processes)
        world.prepare(local, ("pairs", "audit"))
        ranks = Ranks(world, [local], seed=1)
        rest = partial(world.prepare, local, ("train", "embed", "evaluate"))
        all_of([rest, partial(ranks.prepare)], 2, processes)
        world.copy(local, remote)
        yield Stage(world, {"local": local, "s3": remote}, ranks)
    S3FileSystem.clear_instance_cache()


def killed(stage: Stage, place: str, mode: str, points: list[Point]) -> Campaign:
    """The story of an artifact whose job is killed at these points."""
    campaign = Campaign(place, mode, 0)
    Conductor(stage.world, stage.places[place], campaign).run(points)
    return campaign


@pytest.mark.parametrize(
    ("mode", "points"),
    [
        ("pairs", {"local": [LATE_TERM, AIMED_KILL], "s3": [LATE_KILL, AIMED_TERM]}),
        ("train", {"local": [LATE_TERM], "s3": [AIMED_KILL]}),
        ("embed", {"local": [LATE_KILL], "s3": [LATE_TERM]}),
        ("evaluate", {"local": [LATE_KILL, AIMED_TERM], "s3": [LATE_TERM, AIMED_KILL]}),
    ],
)
def test_a_killed_job_goes_on_and_makes_the_same(
    stage: Stage, mode: str, points: dict[str, list[Point]]
) -> None:
    tasks = [partial(killed, stage, place, mode, points[place]) for place in points]
    campaigns = all_of(tasks, 2, stage.world.processes)
    assert [failure for campaign in campaigns for failure in campaign.failures] == []
    assert any(campaign.kills for campaign in campaigns)


def test_signals_during_start_up_end_the_job_cleanly(stage: Stage) -> None:
    shares = (0.05, 0.1, 0.2)
    campaign = killed(stage, "local", "pairs", [Point(share, False, TERM) for share in shares])
    assert campaign.failures == []
    assert len(campaign.kills) == 3


def test_bad_weather_is_waited_out(stage: Stage) -> None:
    theatre = Theatre(stage.world, stage.places["s3"], patience=20)
    cases = [Case("weather", mode, (0, 75)) for mode in ("pairs", "embed")]
    tasks = [partial(theatre.weather, case, 7, 0.15) for case in cases]
    played = all_of(tasks, 2, stage.world.processes)
    assert [case.failure for case in played if case.failure] == []
    assert sum(case.struck for case in played) > 0


@pytest.mark.parametrize(
    "stop",
    [
        RankStop(0.0, "both ranks", TERM, first=1, skew=0.3),
        RankStop(0.0, "torchrun", signal.SIGUSR1, first=0, skew=0.0),
    ],
    ids=["ranks", "torchrun"],
)
def test_two_ranks_stopped_apart_go_on_together(stage: Stage, stop: RankStop) -> None:
    training = Training("local", 0)
    stage.ranks.play(training, [stop])
    assert training.failure == ""
    assert [stop.exit_code for stop in training.stops] == [75]


def test_one_of_two_processes_works_and_the_other_takes_over_when_it_is_killed(
    stage: Stage,
) -> None:
    world, place = stage.world, stage.places["local"]
    root = world.before("train", place)
    folder = world.path("train")
    first = world.start("train", root)
    while not work_of(root.store, folder).leases:
        assert not first.is_over_in(0.02), first.said
    second = world.start("train", root)
    assert second.result(60) == 75, second.said
    assert f"is being made by process {first.pid} on " in second.said
    first.send(KILL)
    assert first.result(10) == -KILL
    assert world.visible("train", root) == ""
    third = world.start("train", root)
    assert third.result(120) == 0, third.said
    assert f"taking over from process {first.pid} on " in third.said
    assert world.visible("train", root) == world.digests["train"]
    assert left_over(root.store, folder) == []
    for process in (first, second, third):
        world.processes.end(process)


def test_processes_end_with_the_block(stage: Stage) -> None:
    root = stage.places["local"].root()
    with Processes() as processes:
        folder = stage.world.folder / "ended"
        process = processes.start(["jobs.pairs", str(stage.world.config)], root.environment, folder)
    deadline = time.monotonic() + 10
    while process.family():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.end()
