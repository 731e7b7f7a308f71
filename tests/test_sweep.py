"""A sweep over modes without models: gate, states, what is kept, what is said, the leaderboard."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codex_forge.artifact.lease import acquire
from codex_forge.storage import Store
from codex_forge.sweep.plan import plan_of
from tests.kill import killed_at
from tests.sweep_world import (
    GRID,
    QUESTIONS,
    SIX,
    config_of,
    do,
    fake_pairs,
    knock,
    leaderboard,
    make_run,
    opened,
    said_of,
    scores_of,
    start,
    steady,
    words_of,
    write_config,
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The config of a run that has passed its gate."""
    path = write_config(tmp_path / "world")
    make_run(path)
    return path


# --- from nothing to a leaderboard -----------------------------------------------------------


def test_all_trials_one_after_another_then_the_leaderboard(config: Path) -> None:
    assert words_of(config) == ["missing"] * SIX
    assert knock("every", config) == 0
    assert words_of(config) == ["done"] * SIX
    assert knock("board", config) == 0
    board = leaderboard(config)
    assert [trial["index"] for trial in board["trials"]] == list(range(SIX))
    assert sorted(trial["rank"] for trial in board["trials"]) == list(range(1, SIX + 1))
    assert board["missing"] == []
    means = {t["name"]: sum(scores_of(config, t["name"])) / 40 for t in board["trials"]}
    assert board["choice"]["winner"] == max(means, key=means.__getitem__)
    for trial in board["trials"]:
        assert trial["score"] == pytest.approx(means[trial["name"]], abs=1e-6)
    assert board["test"]["winner"]["name"] == board["choice"]["winner"]
    assert board["test"]["baseline"]["name"] == "run-base"
    assert board["test"]["as_it_stands"]["name"] == "run"
    assert board["test"]["scored_before"] == []
    assert (board["baseline"]["name"], board["as_it_stands"]["name"]) == (
        "run-base-dev",
        "run-dev",
    )
    winner = board["choice"]["winner"]
    assert (board["gate"], board["model"]) == ("", f"train/{winner}")
    test = board["test"]
    for key, other in (("gain", "as_it_stands"), ("difference", "baseline")):
        found = test[key]
        between = test["winner"]["score"] - test[other]["score"]
        assert found["difference"] == pytest.approx(between, abs=2e-6)
        assert found["low"] <= found["difference"] <= found["high"]
    assert test["gain"] != test["difference"]
    files = opened(config, "sweep", "run").files
    assert files == ["leaderboard.html", "leaderboard.json", "leaderboard.md", "plan.json"]


def test_a_sweep_on_s3_is_the_same(
    config: Path, tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = write_config(tmp_path / "remote", store=bucket)
    make_run(remote)
    assert start(remote, 0, monkeypatch) == 0
    assert words_of(remote) == ["done"] + ["missing"] * 5
    for path in (config, remote):
        assert knock("every", path) == 0
        assert words_of(path) == ["done"] * SIX
        assert knock("board", path) == 0
    assert steady(leaderboard(remote)) == steady(leaderboard(config))


def test_by_index_is_the_same_as_one_after_another(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert knock("every", config) == 0
    other = write_config(tmp_path / "other")
    make_run(other)
    for index in (3, 0, 5, 1, 4, 2):
        assert start(other, index, monkeypatch) == 0
    for path in (config, other):
        assert knock("board", path) == 0
    assert steady(leaderboard(config)) == steady(leaderboard(other))


def test_trials_share_the_pairs_and_the_audit_of_the_run(config: Path) -> None:
    assert knock("every", config) == 0
    store = Store(config_of(config).store)
    assert {path.split("/")[1] for path in store.list("pairs")} == {"run"}
    assert {path.split("/")[1] for path in store.list("audit")} == {"run"}


def test_a_trial_that_changes_the_pairs_makes_its_own(tmp_path: Path) -> None:
    path = write_config(
        tmp_path / "world",
        sweep={"trials": [{"pairs.split.by": "entity"}, {"audit.worst": 3}, {"seed": 8}]},
    )
    make_run(path)
    assert knock("every", path) == 0
    store = Store(config_of(path).store)
    own = "run-pairs.split.by-entity"
    assert {p.split("/")[1] for p in store.list("pairs")} == {"run", own}
    assert {p.split("/")[1] for p in store.list("audit")} == {"run", own, "run-audit.worst-3"}
    assert knock("board", path) == 0
    first, second, third = leaderboard(path)["trials"]
    assert (first["rank"], first["state"]) == (None, "done")
    assert first["said"] == "scored on other questions than the run's: not ranked"
    assert {second["rank"], third["rank"]} == {1, 2}


def test_a_leaderboard_that_is_there_is_left_alone(config: Path) -> None:
    assert knock("every", config) == 0
    assert knock("board", config) == 0
    before = opened(config, "sweep", "run").manifest
    assert knock("board", config) == 0
    assert opened(config, "sweep", "run").manifest == before


# --- the gate --------------------------------------------------------------------------------


def test_nothing_starts_before_the_run_was_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path / "world")
    assert knock("every", path) == 3
    told = capsys.readouterr().err
    assert "trials start once the run as it stands has beaten its baseline" in told
    assert "there is no compare artifact 'run'" in told
    assert "--no-gate" in told
    assert knock("every", path, "--await-inputs") == 75
    assert not (path.parent / "store").exists()


@pytest.mark.parametrize(
    "verdict, words",
    [
        ({"verdict": "unchanged"}, "the verdict is unchanged"),
        ({"tier": "minimal"}, "tier minimal is below good"),
    ],
)
def test_a_run_that_does_not_pass_stops_the_sweep(
    tmp_path: Path,
    verdict: dict[str, str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write_config(tmp_path / "world")
    make_run(path, **verdict)
    assert start(path, 0, monkeypatch) == 3
    assert f"sweep.gate: {words}" in capsys.readouterr().err
    assert words_of(path) == ["missing"] * SIX
    loose = ("sweep.gate.require_improved=false", "sweep.gate.min_tier=minimal")
    assert start(path, 0, monkeypatch, *loose) == 0
    assert start(path, 1, monkeypatch, "--force") == 3  # to make anew is not to skip the gate
    assert start(path, 1, monkeypatch, door="one_ungated") == 0
    assert words_of(path) == ["done"] * 2 + ["missing"] * 4


def test_a_leaderboard_says_whether_the_gate_was_met(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path / "world")
    make_run(path, tier="minimal")
    assert knock("every_ungated", path) == 0
    capsys.readouterr()
    assert knock("board", path) == 0
    told = capsys.readouterr().out
    board = leaderboard(path)
    assert board["gate"] == "tier minimal is below good"
    said = "has not passed sweep.gate: tier minimal is below good; the trials were started all the"
    assert said in told
    assert f"Its model: {config_of(path).store}/{board['model']}/" in told
    assert " dev questions" in told
    folder = opened(path, "sweep", "run")
    for name in ("leaderboard.html", "leaderboard.md"):
        written = folder.path(name).read_text()
        assert said in written
        assert f"{config_of(path).store}/{board['model']}/" in written
    assert knock("board", path, "sweep.gate.min_tier=minimal") == 0
    assert leaderboard(path)["gate"] == ""
    assert knock("board", path, "sweep.gate.min_tier=superb") == 2
    store = Store(config_of(path).store)
    for each in store.list("compare"):
        store.delete(each)
    assert knock("board", path) == 0
    assert leaderboard(path)["gate"] == "there is no compare artifact 'run'"


def test_a_comparison_of_another_state_of_the_run_does_not_count(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert knock("every", config, "train.batch_size=16") == 3
    told = capsys.readouterr().err
    assert "in train run, train.batch_size was 64, now 16" in told
    assert words_of(config) == ["missing"] * SIX


def test_a_tier_that_is_none_is_named(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert knock("every", config, "sweep.gate.min_tier=superb") == 2
    told = capsys.readouterr().err
    assert "sweep.gate.min_tier: 'superb' is not one of minimal, good, usable, excellent" in told


def test_a_measure_that_is_none_is_named_before_anything_is_trained(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert knock("every", config, "sweep.metric=recall@7") == 2
    told = capsys.readouterr().err
    assert "sweep.metric: there is no measure 'recall@7'; there are rubric, recall@1" in told
    assert words_of(config) == ["missing"] * SIX


# --- what is done stays done -----------------------------------------------------------------


def test_a_trial_that_is_done_is_left_alone(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start(config, 2, monkeypatch) == 0
    name = plan_of(config_of(config)).trials[2].name
    before = [opened(config, kind, name).manifest for kind in ("train", "embed")]
    for more in ((), ("--force",)):
        capsys.readouterr()
        assert start(config, 2, monkeypatch, *more) == 0
        assert f"{name}: already done" in capsys.readouterr().err
    assert [opened(config, kind, name).manifest for kind in ("train", "embed")] == before


def test_more_trials_keep_all_that_is_done_whatever_their_places(config: Path) -> None:
    assert knock("every", config) == 0
    assert knock("board", config) == 0
    names = {trial.name for trial in plan_of(config_of(config)).trials}
    before = {name: opened(config, "train", name).manifest for name in names}
    wider = {"train.epochs": [3, 1, 2], "train.learning_rate": [5e-5, 1e-5, 2e-5]}
    more = f"sweep.grid={json.dumps(wider)}"
    plan = plan_of(config_of(config, more))
    assert names < {trial.name for trial in plan.trials}
    assert words_of(config, more) == ["missing"] * 3 + ["done"] * SIX
    assert knock("board", config, more) == 3  # some are missing; written all the same
    board = leaderboard(config)
    assert (len(board["trials"]), len(board["missing"]), board["test"]) == (9, 3, None)
    assert {name: opened(config, "train", name).manifest for name in names} == before


def test_settings_that_changed_make_trials_stale(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert knock("every", config) == 0
    edited = ("train.batch_size=32", "train.save_minutes=1")
    assert words_of(config, *edited) == ["stale"] * SIX
    said = said_of(config, 0, *edited)[2]
    assert "train was made with other settings: train.batch_size was 64, now 32" in said
    loose = ("--force", *edited)
    name = plan_of(config_of(config)).trials[0].name
    before = opened(config, "train", name).manifest.digest
    assert start(config, 0, monkeypatch, *loose) == 3
    assert start(config, 0, monkeypatch, *loose, door="one_ungated") == 0
    assert words_of(config, *edited) == ["done"] + ["stale"] * 5
    assert opened(config, "train", name).manifest.digest != before
    capsys.readouterr()
    assert knock("missing", config, *edited) == 0
    told = capsys.readouterr()
    assert told.out == "1-5\n"
    assert "stale trials are made anew with --force" in told.err


def test_operational_settings_make_nothing_stale(config: Path) -> None:
    assert knock("every", config) == 0
    assert words_of(config, "evaluate.latency_queries=3", "compare.resamples=300") == ["done"] * SIX


def test_a_trial_that_has_lost_a_file_is_made_whole_by_force(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert start(config, 0, monkeypatch) == 0
    name = plan_of(config_of(config)).trials[0].name
    store = Store(config_of(config).store)
    wanted = scores_of(config, name)
    store.delete(next(p for p in store.list(f"embed/{name}") if p.endswith("/vectors")))
    assert said_of(config, 0) == ("stale", None, f"a file of embed/{name} is gone or not whole")
    assert start(config, 0, monkeypatch) == 2
    assert start(config, 0, monkeypatch, "--force") == 0
    assert words_of(config)[0] == "done"
    assert scores_of(config, name) == wanted


def test_pairs_that_were_made_again_make_trials_stale(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert knock("every", config) == 0
    store = Store(config_of(config).store)
    for path in store.list("pairs/run"):
        store.delete(path)
    monkeypatch.setitem(QUESTIONS, "test", 58)  # of the same settings
    do(config, "pairs", fake_pairs)
    assert said_of(config, 0)[0] == "stale"
    assert said_of(config, 0)[2] == "train was made from other pairs than is there now"


# --- failures --------------------------------------------------------------------------------


def test_a_trial_that_fails_stops_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(
        tmp_path / "world", sweep={"trials": [{"train.scale": s} for s in (13, 20.5, 21)]}
    )
    make_run(path)
    assert knock("every", path) == 1
    told = capsys.readouterr().err
    assert "1 of 3 trials are not done: scale-13: the loss is not a number" in told
    assert said_of(path, 0) == ("failed", 1, "train: the loss is not a number")
    assert words_of(path) == ["failed", "done", "done"]
    assert knock("missing", path) == 0
    assert capsys.readouterr().out == "0\n"
    assert knock("board", path) == 3
    board = leaderboard(path)
    assert [row["index"] for row in board["missing"]] == [0]
    assert board["missing"][0]["said"] == "train: the loss is not a number"
    assert board["choice"]["winner"].startswith("run-scale-2")
    assert board["test"] is None
    assert knock("board_of_what_is_there", path) == 0
    assert leaderboard(path)["test"]["winner"]["name"] == board["choice"]["winner"]


def test_an_error_before_an_artifact_is_begun_leaves_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_config(tmp_path / "world", sweep={"trials": [{"train.margin": 13}, {"seed": 8}]})
    make_run(path)
    assert start(path, 0, monkeypatch, size=2) == 2
    assert said_of(path, 0) == ("failed", 2, "train: train.margin: no pair is so far apart")
    assert words_of(path) == ["failed", "missing"]


def test_a_stop_ends_the_sweep_whatever_became_of_it(tmp_path: Path) -> None:
    """A signal in the first trial: the second must not be started."""
    path = write_config(tmp_path / "world", sweep={"trials": [{"train.margin": 14}, {"seed": 8}]})
    make_run(path)
    assert knock("every", path) == 75
    assert words_of(path) == ["missing", "missing"]
    word, code, said = said_of(path, 0)
    assert (word, code) == ("missing", 75)
    assert said.endswith("it goes on when it is started again")


def test_an_interrupted_trial_goes_on(tmp_path: Path) -> None:
    path = write_config(tmp_path / "world", sweep={"trials": [{"train.margin": 15}]})
    make_run(path)
    assert knock("every", path) == 130
    said = "train was interrupted; it goes on when it is started again"
    assert said_of(path, 0) == ("missing", 130, said)


def test_a_run_without_dev_questions_has_nothing_to_choose_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(QUESTIONS, "dev", 0)
    path = write_config(tmp_path / "world")
    make_run(path)
    assert knock("every", path) == 2
    assert "its dev part is empty" in capsys.readouterr().err


def test_a_run_without_test_questions_has_a_winner_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(QUESTIONS, "test", 0)
    path = write_config(tmp_path / "world")
    make_run(path)
    assert knock("every", path) == 0
    assert knock("board", path) == 0
    board = leaderboard(path)
    assert (board["test"], board["missing"]) == (None, [])
    assert board["choice"]["winner"]
    assert "its test part is empty; the winner is not scored on it" in capsys.readouterr().err


def test_a_leaderboard_of_nothing_says_so(config: Path) -> None:
    assert knock("board", config) == 3
    board = leaderboard(config)
    assert (board["choice"], board["test"]) == (None, None)
    assert [row["state"] for row in board["missing"]] == ["missing"] * SIX
    assert board["baseline"]["name"] == "run-base-dev"


def test_trials_that_were_scored_on_test_before_are_named(config: Path) -> None:
    assert knock("every", config) == 0
    assert knock("board", config) == 0
    first = leaderboard(config)["choice"]["winner"]
    more = 'sweep.grid={"train.learning_rate":[1e-5,2e-5,5e-5],"train.epochs":[1,2,3,4,5,6]}'
    assert knock("every", config, more) == 0
    assert knock("board", config, more) == 0
    board = leaderboard(config)
    second = board["choice"]["winner"]
    assert second != first  # the made-up scores have it so
    assert board["test"]["scored_before"] == [first]


def test_a_winner_with_pairs_of_its_own_stands_beside_the_run(tmp_path: Path) -> None:
    path = write_config(
        tmp_path / "world", sweep={"trials": [{"pairs.split.group_by": ["entity"]}]}
    )
    make_run(path)
    assert knock("every", path) == 0
    assert knock("board", path) == 0
    test = leaderboard(path)["test"]
    assert test["winner"]["name"].startswith("run-pairs.split.group_by-")
    assert (test["baseline"]["name"], test["as_it_stands"]["name"]) == ("run-base", "run")
    apart = test["winner"]["score"] - test["baseline"]["score"]
    assert test["difference"]["difference"] == pytest.approx(apart, abs=2e-6)


def test_pairs_that_trials_share_are_made_once(tmp_path: Path) -> None:
    grid = {"pairs.split.by": ["question", "entity"], "train.epochs": [1, 2]}
    path = write_config(tmp_path / "world", sweep={"grid": grid})
    make_run(path)
    assert knock("every", path) == 0
    store = Store(config_of(path).store)
    own = "run-pairs.split.by-entity"
    for kind in ("pairs", "audit"):
        assert {each.split("/")[1] for each in store.list(kind)} == {"run", own}
        assert len(opened(path, kind, own).manifests) == 1
    assert words_of(path) == ["done"] * 4


def test_what_another_job_has_to_make_is_no_failure_of_a_trial(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(config_of(config).store)
    for path in store.list("audit/run"):
        store.delete(path)
    assert start(config, 0, monkeypatch) == 2
    assert start(config, 0, monkeypatch, "--await-inputs") == 75
    assert said_of(config, 0)[0] == "missing"


def test_a_trial_that_is_being_made_is_running_and_not_to_be_started(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CODEX_FORGE_LEASE_SECONDS", "0.8")
    name = plan_of(config_of(config)).trials[1].name
    store = Store(config_of(config).store)
    lease = acquire(store, f"train/{name}", f"train/{name}")
    try:
        assert words_of(config) == ["missing", "running", *["missing"] * 4]
        assert knock("missing", config) == 0
        assert capsys.readouterr().out == "0,2-5\n"
        assert start(config, 1, monkeypatch) == 75
    finally:
        lease.abandon()
    assert start(config, 1, monkeypatch) == 0


def test_a_number_that_is_not_the_plan_s_is_refused(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start(config, 1, monkeypatch, size=5) == 2
    assert "--shards 5: the sweep has 6 trials; start it with --shards 6" in capsys.readouterr().err


def test_several_processes_train_one_trial_at_a_time(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert knock("every", config) == 2
    assert "start each trial with --shards and its index" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "1")
    assert start(config, 0, monkeypatch) == 0  # it trains, and leaves the rest to the first
    name = plan_of(config_of(config)).trials[0].name
    store = Store(config_of(config).store)
    assert store.list(f"train/{name}")
    assert not store.list(f"embed/{name}")
    monkeypatch.setenv("RANK", "0")
    assert start(config, 0, monkeypatch) == 0
    assert words_of(config)[0] == "done"


# --- killed anywhere -------------------------------------------------------------------------


def test_a_trial_killed_at_any_change_to_the_store_goes_on_to_the_same_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.sweep_world.PAUSE", 0.0)
    path = write_config(tmp_path / "world", sweep={"trials": [{"train.epochs": 2}]})
    make_run(path)
    assert knock("every", path) == 0
    wanted = scores_of(path, "run-epochs-2")
    store = Store(config_of(path).store)
    change = 0
    killed = True
    while killed:
        change += 1
        for kind in ("train", "embed", "evaluate"):
            for each in store.list(kind):
                if "/run-epochs-2" in each:
                    store.delete(each)
        killed = killed_at(change, lambda: _must(knock("every", path)))
        assert words_of(path) == ["missing" if killed and not _is_done(path) else "done"]
        assert knock("every", path) == 0
        assert scores_of(path, "run-epochs-2") == wanted
    assert change > 20


def _is_done(path: Path) -> bool:
    store = Store(config_of(path).store)
    return any(p.endswith("manifest.json") for p in store.list("evaluate/run-epochs-2-dev"))


def _must(code: int) -> None:
    assert code == 0


def test_the_grid_of_these_tests_has_six_points() -> None:
    assert len(GRID["train.learning_rate"]) * len(GRID["train.epochs"]) == SIX
