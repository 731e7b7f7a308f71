"""Trials are what they are called: pairs, audits and files of the run must be the config's."""

from __future__ import annotations

from pathlib import Path

import pytest

from codex_forge.errors import Held, TryAgain
from codex_forge.job import Job
from codex_forge.storage import Store
from codex_forge.sweep.plan import plan_of
from codex_forge.sweep.steps import before_training
from codex_forge.sweep.trial import _is_as_said, run_trial
from tests.sweep_world import (
    FAKES,
    QUESTIONS,
    config_of,
    do,
    fake_audit,
    fake_compare,
    fake_embed,
    fake_evaluate,
    fake_pairs,
    fake_train,
    knock,
    leaderboard,
    make_run,
    opened,
    said_of,
    scores_of,
    start,
    words_of,
    write_config,
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The config of a run that has passed its gate; two trials."""
    path = write_config(tmp_path / "world", sweep={"grid": {"train.epochs": [1, 2]}})
    make_run(path)
    return path


@pytest.fixture
def no_training(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on nothing may be trained."""
    for mode in ("train", "embed"):
        monkeypatch.setitem(FAKES, mode, lambda job: pytest.fail(f"{job.mode} was run"))


# --- what the run has made, and what its config says ------------------------------------------


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    "override, said",
    [
        (
            "pairs.negatives.num=2",
            "pairs of the run: made with other settings: pairs.negatives.num was 3, now 2",
        ),
        ("pairs.near_duplicate=0.6", "pairs.near_duplicate was 0.7, now 0.6"),
        ("audit.worst=3", "audit of the run: made with other settings: audit.worst"),
    ],
)
@pytest.mark.parametrize("door", ["every", "every_ungated"])
def test_pairs_of_other_settings_than_the_config_s_train_nothing(
    config: Path, override: str, said: str, door: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert knock(door, config, override) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "--force and the modes after it, or change the config back" in told


def test_a_trial_that_only_seems_to_be_the_run_s_is_refused(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The pairs have 3 negatives; the config says 2, and so does a trial."""
    said = ("pairs.negatives.num=2", "sweep.grid={pairs.negatives.num: [2, 4]}")
    assert knock("every", config, *said) == 2
    assert "pairs of the run: made with other settings" in capsys.readouterr().err
    assert not [p for p in Store(config_of(config).store).list("train") if "negatives" in p]


def test_done_trials_are_stale_once_the_config_tells_of_other_pairs(config: Path) -> None:
    assert knock("every", config) == 0
    assert words_of(config) == ["done"] * 2
    assert words_of(config, "pairs.near_duplicate=0.6") == ["stale"] * 2
    assert (
        "pairs.near_duplicate was 0.7, now 0.6" in said_of(config, 0, "pairs.near_duplicate=0.6")[2]
    )


def test_trials_with_another_seed_read_the_run_s_pairs(tmp_path: Path) -> None:
    path = write_config(tmp_path / "world", sweep={"trials": [{"seed": 8}]})
    make_run(path)
    assert knock("every", path) == 0
    assert words_of(path) == ["done"]


def test_a_run_on_another_run_s_pairs_need_not_repeat_their_settings(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unless a trial varies them: then nobody could say what the others have."""
    other = ("name=other", "pairs.near_duplicate=0.6", "use={pairs: run, audit: run}")
    for mode, function, own in (
        ("embed", fake_embed, ("embed.model=base",)),
        ("evaluate", fake_evaluate, ("embed.model=base",)),
        ("train", fake_train, ()),
        ("embed", fake_embed, ()),
        ("evaluate", fake_evaluate, ()),
        ("compare", fake_compare, ()),
    ):
        do(config, mode, function, *other, *own)
    assert knock("every", config, *other) == 0
    assert words_of(config, *other) == ["done"] * 2
    varied = (*other, "sweep.grid={pairs.negatives.num: [2, 4]}")
    assert knock("every", config, *varied) == 2
    assert "pairs.near_duplicate was 0.7, now 0.6" in capsys.readouterr().err


def test_another_corpus_file_is_read_and_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path / "world", sweep={"trials": [{"seed": 8}]})
    first, same, other = (path.parent / f"{n}.jsonl" for n in ("chunks", "same", "other"))
    first.write_text("{}\n")
    same.write_text("{}\n")
    other.write_text('{"a": 1}\n')
    make_run(path)
    assert knock("every", path, f"corpus.chunks=[{same}]") == 0
    capsys.readouterr()
    for door in ("every", "every_ungated", "missing", "board"):
        assert knock(door, path, f"corpus.chunks=[{other}]") == 2
        assert "was made from other chunks than corpus.chunks names now" in capsys.readouterr().err


# --- folds, groups, measures ------------------------------------------------------------------


@pytest.mark.parametrize("fold", [0, 1])
def test_each_fold_is_held_to_its_own_part_of_the_comparison(tmp_path: Path, fold: int) -> None:
    path = write_config(
        tmp_path / "world",
        pairs={"split": {"folds": 2, "fold": fold}},
        sweep={"trials": [{"seed": 8}]},
    )
    folds = [f"pairs.split.fold={each}" for each in (0, 1)]
    for each in folds:
        for mode, function in (("pairs", fake_pairs), ("audit", fake_audit), ("train", fake_train)):
            do(path, mode, function, each)
        for mode, function in (("embed", fake_embed), ("evaluate", fake_evaluate)):
            do(path, mode, function, each, "embed.model=base")
            do(path, mode, function, each)
    do(path, "compare", lambda job: _compare_folds(job))
    assert knock("every", path) == 0
    assert words_of(path) == ["done"]


def _compare_folds(job: Job) -> None:
    inputs = {
        f"{role}-fold{i}": job.open("evaluate", name.format(fold=i)).as_input()
        for i in (0, 1)
        for role, name in (
            ("baseline", job.config.baseline_name),
            ("candidate", job.config.candidate_name),
        )
    }
    fake_compare(job, inputs=inputs)


@pytest.mark.usefixtures("no_training")
def test_questions_of_one_group_choose_nothing_and_train_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path / "other")
    monkeypatch.setattr("tests.sweep_world.GROUP", QUESTIONS["dev"])
    do(path, "pairs", fake_pairs)
    do(path, "audit", fake_audit)
    assert knock("every_ungated", path) == 2
    assert "all its dev questions are of one group" in capsys.readouterr().err


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    "override, said",
    [
        ("sweep.metric=recall@7", "sweep.metric: there is no measure 'recall@7'"),
        ("sweep.gate.min_tier=superb", "sweep.gate.min_tier: 'superb' is not one of"),
    ],
)
def test_words_that_are_none_are_named_without_the_gate_too(
    config: Path, override: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert knock("every_ungated", config, override) == 2
    assert said in capsys.readouterr().err


# --- damage, and what is not the sweep's --------------------------------------------------------


def spoil(config: Path, kind: str, name: str, file: str) -> None:
    """Change a file of an artifact, and not its size."""
    store = Store(config_of(config).store)
    path = next(p for p in store.list(f"{kind}/{name}") if p.endswith(f"/{file}"))
    data = store.read(path)
    store.write(path, bytes([data[0] ^ 1]) + data[1:])


@pytest.mark.parametrize("file", ["per_question.jsonl", "report.json"])
def test_a_damaged_trial_has_no_rank_and_force_makes_it_whole(
    config: Path, file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert knock("every", config) == 0
    name = plan_of(config_of(config)).trials[0].name
    wanted = scores_of(config, name)
    spoil(config, "evaluate", f"{name}-dev", file)
    assert knock("board", config) == 3
    assert "run trials 0 with --force" in capsys.readouterr().err
    board = leaderboard(config)
    assert [(row["state"], row["rank"]) for row in board["trials"]] == [
        ("stale", None),
        ("done", 1),
    ]
    assert f"{file} is not what the manifest promises" in board["missing"][0]["said"]
    assert start(config, 0, monkeypatch, "--force", size=2) == 0
    assert scores_of(config, name) == wanted
    assert knock("board", config) == 0


def test_a_winner_whose_vectors_are_damaged_is_no_winner(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert knock("every", config) == 0
    assert knock("board", config) == 0
    winner = leaderboard(config)["choice"]["winner"]
    index = [row["name"] for row in leaderboard(config)["trials"]].index(winner)
    store = Store(config_of(config).store)
    for path in store.list(f"evaluate/{winner}/"):
        store.delete(path)
    spoil(config, "embed", winner, "vectors")
    assert knock("board", config) == 3
    board = leaderboard(config)
    assert [row["name"] for row in board["missing"]] == [winner]
    assert board["choice"]["winner"] != winner
    assert start(config, index, monkeypatch, "--force", size=2) == 0
    assert knock("board", config) == 0
    assert leaderboard(config)["choice"]["winner"] == winner


def test_a_damaged_leaderboard_is_replaced(config: Path) -> None:
    assert knock("every", config) == 0
    assert knock("board", config) == 0
    wanted = leaderboard(config)
    spoil(config, "sweep", "run", "leaderboard.json")
    assert knock("board", config) == 0
    assert leaderboard(config) == wanted


def test_force_keeps_another_run_s_model_of_a_trial_s_name(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = plan_of(config_of(config)).trials[0].name
    theirs = (f"name={name}", "use={pairs: run, audit: run}", "train.batch_size=8")
    do(config, "train", fake_train, *theirs)
    before = opened(config, "train", name).manifest
    for more in ((), ("--force",)):
        assert start(config, 0, monkeypatch, *more, size=2) == 2
        assert opened(config, "train", name).manifest == before
    assert "is of another run than the sweep of 'run', and is kept" in capsys.readouterr().err


# --- waiting ------------------------------------------------------------------------------------


def _first_start(config: Path, error: TryAgain) -> int:
    """How often shared pairs are begun when the first start ends with an error."""
    read = config_of(config, "sweep.grid={pairs.negatives.num: [2]}")
    begun = []

    def pairs(job: Job) -> None:
        begun.append(job)
        if len(begun) == 1:
            raise error
        fake_pairs(job)

    job = Job("sweep", read, Store(read.store), config.parent / "scratch")
    run_trial(job, plan_of(read).trials[0], {**FAKES, "pairs": pairs})
    return len(begun)


def test_only_another_s_lease_is_waited_for(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codex_forge.sweep.trial._POLL_SECONDS", 0.01)
    with pytest.raises(TryAgain, match="the endpoint is busy"):
        _first_start(config, TryAgain("the endpoint is busy"))
    assert _first_start(config, Held("is being made by another")) == 2


def test_other_processes_do_not_go_on_with_pairs_that_are_made_anew(config: Path) -> None:
    grid = "sweep.grid={pairs.negatives.num: [2]}"
    assert knock("every_ungated", config, grid) == 0

    def fresh(*more: str) -> list[bool]:
        read = config_of(config, grid, *more)
        job = Job("sweep", read, Store(read.store), config.parent / "scratch")
        return [_is_as_said(job, step) for step in before_training(plan_of(read).trials[0])]

    assert fresh() == [True, True]
    assert fresh("pairs.near_duplicate=0.6") == [False, True]
    name = plan_of(config_of(config, grid)).trials[0].config.pairs_name
    store = Store(config_of(config).store)
    for path in store.list(f"pairs/{name}"):
        store.delete(path)
    assert fresh() == [False, False]
