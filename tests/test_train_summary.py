"""The closing summary: time by phase, what went through the model, plan beside fact."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

import pytest

from codex_forge.train.report.summary import Clock, RunFacts, Tally, log_summary, summarise
from codex_forge.train.report.summary_lines import lines_of


class Hand:
    """A clock that is turned by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hand(monkeypatch: pytest.MonkeyPatch) -> Hand:
    found = Hand()
    monkeypatch.setattr(time, "monotonic", found)
    return found


def test_inner_time_is_taken_from_the_outer(hand: Hand) -> None:
    clock = Clock()
    hand.now += 7  # in no phase
    with clock("train"):
        hand.now += 10
        with clock("validate"):
            hand.now += 3
            with clock("train"):
                hand.now += 1
        hand.now += 5
        assert clock.seconds == {"train": 16, "validate": 3}
    hand.now += 50
    assert clock.seconds == {"train": 16, "validate": 3}


def test_a_phase_ends_with_an_error_too(hand: Hand) -> None:
    clock = Clock()

    def fail() -> None:
        with clock("train"), clock("save"):
            hand.now += 2
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fail()
    hand.now += 9
    assert clock.seconds == {"train": 0, "save": 2}


def test_a_resumed_run_counts_the_time_before(hand: Hand) -> None:
    before = Clock()
    with before("train"):
        hand.now += 10
        with before("checkpoint"):
            hand.now += 1
            state = json.loads(json.dumps(before.state()))
    clock = Clock()
    with clock("tokenize"):
        hand.now += 4
    with clock("train"):
        clock.restore(state)
        hand.now += 6
    assert clock.seconds == {"tokenize": 4, "train": 16, "checkpoint": 1}


def test_a_tally_goes_through_a_checkpoint_and_over_ranks() -> None:
    tally = Tally()
    tally.add(rows=4, asked=12, texts=8, tokens=90, padded=100)
    resumed = Tally()
    resumed.restore(json.loads(json.dumps(tally.state())))
    resumed.add(rows=4, asked=12, texts=8, tokens=90, padded=100)
    assert resumed.since(tally.state()) == tally.state()
    resumed.add_up(tally.state())
    assert resumed == Tally(rows=12, asked=36, texts=24, tokens=270, padded=300)
    assert (resumed.padding_share, resumed.texts_saved) == (0.1, 1.5)
    assert (Tally().padding_share, Tally().texts_saved) == (None, None)


def stage(name: str, **others: Any) -> dict[str, Any]:
    return {
        "stage": name,
        "objective": "simcse",
        "rows": 1000,
        "steps": 60,
        "epochs": 1.0,
        "first_loss": 2.0,
        "final_loss": 0.5,
        "best_loss": 0.4,
        "seconds": 50.0,
        "best": None,
        **others,
    }


def summary(hand: Hand, planned: dict[str, Any] | None = None) -> dict[str, Any]:
    clock, tally = Clock(), Tally()
    for phase, seconds in (("tokenize", 2), ("train", 100), ("validate", 20), ("checkpoint", 3)):
        with clock(phase):
            hand.now += seconds
    tally.add(rows=2000, asked=6000, texts=3000, tokens=90_000, padded=100_000)
    facts = RunFacts(
        device="cpu",
        precision="fp32",
        ranks=2,
        trainable_parameters=1_000,
        parameters=22_000_000,
        peak_memory_mib=1532,
        micro_batch={"tokens": 4096, "cached": True, "halved": [[8192, 4096]]},
        resumed_from_step=40,
    )
    best = {"metric": "ndcg@10", "stopped_early": False}
    stages = [
        stage("warm", first_loss=9.0, best={**best, "start": 0.61, "best": 0.6, "best_step": 60}),
        stage(
            "pairs",
            steps=61,
            final_loss=0.25,
            best={**best, "start": 0.6, "best": 0.7, "best_step": 100},
            tally={"rows": 1000, "asked": 0, "texts": 0, "tokens": 500, "padded": 500},
        ),
    ]
    return summarise(stages, clock=clock, tally=tally, facts=facts, planned=planned)


def test_the_summary_adds_up(hand: Hand) -> None:
    found = summary(hand)
    assert json.loads(json.dumps(found)) == found
    assert (found["steps"], found["epochs"], found["seconds"]) == (121, 2.0, 125.0)
    assert (found["first_loss"], found["final_loss"], found["best_loss"]) == (9.0, 0.25, 0.4)
    assert found["dev"] == {"metric": "ndcg@10", "base": 0.61, "best": 0.7, "best_step": 100}
    assert (found["pairs_per_second"], found["tokens_per_second"]) == (20.0, 900.0)
    assert (found["padding_share"], found["texts_saved"]) == (0.1, 2.0)
    assert found["seconds_for_checkpoints"] == 3
    assert found["stages"][1]["pairs_per_second"] == 20.0
    assert "pairs_per_second" not in found["stages"][0]
    assert "planned" not in found


def test_the_lines_are_aligned_and_tell_plan_beside_fact(
    hand: Hand, caplog: pytest.LogCaptureFixture
) -> None:
    found = summary(hand, {"steps": 120, "tokens": 1, "padding_share": 0.1, "seconds": 80.0})
    lines = lines_of(found)
    assert len({len(line) for line in lines[:3]}) == 1
    said = "\n".join(lines)
    for part in (
        "ndcg@10 0.7000 at best (step 100), base model 0.6100",
        "125.0 s: train 100.0, validate 20.0, checkpoint 3.0, tokenize 2.0",
        "20.0 pairs/s, 900 tokens/s (10.0% padding), 2.00 texts",
        "1,532 MiB",
        "1,000 trainable of 22,000,000",
        "4,096 tokens, cached; out of memory: 8,192 -> 4,096",
        "from the checkpoint of step 40",
        "120 steps; 121 were taken; training 80 s, it took 100 s (+25%)",
    ):
        assert part in said
    with caplog.at_level(logging.INFO, "codex_forge"):
        log_summary(found)
    assert [message.strip() for message in caplog.messages] == [line.strip() for line in lines]


def test_a_run_without_steps_or_measures_has_a_summary() -> None:
    facts = RunFacts("cpu", "fp32", 1, 1, 1, 1, {"tokens": 1, "cached": False, "halved": []})
    bare = stage("x", first_loss=None, final_loss=None, best_loss=None, steps=0, epochs=0.0)
    found = summarise([bare], clock=Clock(), tally=Tally(), facts=facts)
    assert found["pairs_per_second"] is None
    assert found["dev"] is None
    assert not any(
        line.startswith(("dev", "speed", "resumed", "planned")) for line in lines_of(found)
    )
