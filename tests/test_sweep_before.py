"""What a leaderboard says of looks at the test part: never that the first is, when it is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from codex_forge.storage import Store
from tests.sweep_world import (
    config_of,
    do,
    fake_embed,
    fake_evaluate,
    fake_train,
    knock,
    leaderboard,
    make_run,
    write_config,
)

LONGER = {"train.learning_rate": [1e-5, 2e-5, 5e-5], "train.epochs": [1, 2, 3, 4, 5, 6]}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The config of a run that has passed its gate; none of its trials is the run once more."""
    path = write_config(tmp_path / "world", train={"epochs": 9})
    make_run(path)
    return path


def board_after(config: Path, *overrides: str, code: int = 0) -> dict[str, Any]:
    assert knock("board", config, *overrides) == code
    return leaderboard(config)


def test_a_first_look_says_so(config: Path) -> None:
    assert knock("every", config) == 0
    board = board_after(config)
    assert (board["scored_before"], board["scored_as_run"]) == ([], [])
    assert (board["test"]["once"], board["test"]["known"]) == (True, "")
    assert board_after(config) == board


def test_a_winner_that_is_the_run_once_more_was_known(tmp_path: Path) -> None:
    """Its model is the run's: equal settings, equal weights."""
    path = write_config(tmp_path / "world", sweep={"trials": [{"train.epochs": 4}]})
    read = config_of(path)
    same = f"sweep.trials=[{{train.epochs: {read.train.epochs}}}]"
    make_run(path)
    assert knock("every", path, same) == 0
    board = board_after(path, same)
    winner = board["choice"]["winner"]
    assert board["test"]["once"] is False
    assert board["test"]["known"] == (
        "the winner is the run as it stands once more, which was scored on test before "
        "(evaluate/run)"
    )
    assert board["scored_as_run"] == [winner]
    assert board["test"]["winner"]["score"] == board["test"]["as_it_stands"]["score"]


@pytest.mark.parametrize("override", ["evaluate.part=all", "evaluate.retriever=hybrid"])
def test_a_model_that_was_evaluated_otherwise_was_known(config: Path, override: str) -> None:
    """By hand, under another name: the model tells."""
    assert knock("every", config) == 0
    board = board_after(config)
    loser = next(row for row in board["trials"] if row["rank"] == 6)
    mine = [f"{key}={json.dumps(value)}" for key, value in loser["overrides"].items()]
    for function in (fake_train, fake_embed, fake_evaluate):
        do(
            config,
            function.__name__.removeprefix("fake_"),
            function,
            "name=byhand",
            "use={pairs: run, audit: run}",
            override,
            *mine,
        )
    board = board_after(config)
    assert board["scored_before"] == [loser["name"]]
    assert board["test"]["once"] is False


def test_a_leaderboard_with_trials_missing_forgets_no_look(config: Path) -> None:
    assert knock("every", config) == 0
    first = board_after(config)["choice"]["winner"]
    more = f"sweep.grid={json.dumps(LONGER)}"
    for _ in range(2):  # written again by the second, if it were another
        board = board_after(config, more, code=3)
        assert (board["test"], board["scored_before"]) == (None, [first])
    store = Store(config_of(config).store)
    for path in store.list(f"evaluate/{first}/"):
        store.delete(path)  # the leaderboard alone knows
    assert knock("every", config, more) == 0
    board = board_after(config, more)
    assert board["choice"]["winner"] != first  # the made-up scores have it so
    assert board["scored_before"] == [first]
    assert board["test"]["once"] is False


def test_what_is_known_outlives_a_damaged_leaderboard(config: Path) -> None:
    assert knock("every", config) == 0
    first = board_after(config)["choice"]["winner"]
    store = Store(config_of(config).store)
    for path in store.list(f"evaluate/{first}/"):
        store.delete(path)
    board = next(p for p in store.list("sweep/run") if p.endswith("/leaderboard.json"))
    data = store.read(board)
    store.write(board, b"[" + data[1:])
    more = f"sweep.grid={json.dumps(LONGER)}"
    assert board_after(config, more, code=3)["scored_before"] == [first]


def test_trials_that_all_have_no_rank_end_with_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path / "world", sweep={"trials": [{"pairs.split.by": "entity"}]})
    make_run(path)
    assert knock("every", path) == 0
    board = board_after(path, code=3)
    assert (board["choice"], board["test"]) == (None, None)
    told = capsys.readouterr().err
    assert "none of 1 trials has a rank: scored on other questions than the run's" in told
