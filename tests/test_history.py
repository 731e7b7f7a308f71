"""The history has an entry a line of the log, over all stages; its pictures show what it holds."""

from __future__ import annotations

import logging
import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from codex_forge.jsonl import read_jsonl
from codex_forge.train.dev.metric import Metric
from codex_forge.train.report import curves
from codex_forge.train.report.history import History, write_history

NDCG = Metric("ndcg@10", higher_is_better=True)
DOMAINS = ("boilers", "conveyors", "cooling", "forklifts", "pumps", "welding")
STAGES = (("pre-training", 60), ("easy", 80), ("hard", 120))


def measures(quality: float, domains: tuple[str, ...] = DOMAINS) -> dict[str, Any]:
    return {
        "ndcg@10": quality,
        "mrr@10": quality - 0.05,
        "recall@1": quality - 0.2,
        "recall@5": quality + 0.1,
        "loss": 3 * (1 - quality),
        "spearman": None,
        "questions": 60,
        "chunks": 580,
        "pairs": 60,
        "undefined": {"spearman": "all scores are equal"},
        "by_domain": {
            name: {"questions": 10, "recall@5": min(1.0, quality + i / 10), "mrr@10": None}
            for i, name in enumerate(domains)
        },
    }


def trained(
    stages: tuple[tuple[str, int], ...] = STAGES, domains: tuple[str, ...] = DOMAINS
) -> History:
    """A history of a training in stages, as the trainer and the validation would tell it."""
    history = History()
    history.metric = NDCG
    for number, (stage, steps) in enumerate(stages):
        history.stage = stage
        if not number:
            history.measured(0, measures(0.42, domains))
        for step in range(10, steps + 1, 10):
            part = step / steps
            rate = 2e-5 * min(part / 0.1, 1 - part)
            loss = (2.5 - number) * math.exp(-part) + 0.1 * math.sin(step)
            tell(history, step, steps, {"loss": loss, "learning_rate": rate, "grad_norm": 1.0})
            if step % 20 == 0:
                found = 0.42 + 0.1 * number + 0.12 * math.sin(2.4 * part)
                history.measured(step, measures(found, domains), epoch=part)
        history.offset += steps
    return history


def tell(history: History, step: int, steps: int, logs: dict[str, Any]) -> None:
    state = TrainerState(global_step=step, max_steps=steps, epoch=step / steps)
    history.on_log(TrainingArguments(use_cpu=True), state, TrainerControl(), logs=logs)


def test_steps_are_counted_over_all_stages_and_every_entry_names_its_stage() -> None:
    history = trained()
    losses = [entry for entry in history.entries if "loss" in entry]
    assert [entry["step"] for entry in losses] == list(range(10, 261, 10))
    assert [entry["stage"] for entry in losses] == ["pre-training"] * 6 + ["easy"] * 8 + [
        "hard"
    ] * 12
    assert losses[6]["epoch"] == pytest.approx(10 / 80)
    assert [step for step, _ in history.series("loss", "easy")] == list(range(70, 141, 10))
    assert len(history.series("loss")) == 26
    measured = [entry["step"] for entry in history.entries if "dev_ndcg@10" in entry]
    assert measured == [0, 20, 40, 60, 80, 100, 120, 140, *range(160, 261, 20)]


def test_measures_get_keys_of_their_own_and_what_has_no_value_is_left_out() -> None:
    history = History()
    history.stage, history.offset = "easy", 100
    history.measured(20, measures(0.5, ("pumps",)), epoch=0.5)
    (entry,) = history.entries
    assert entry.pop("seconds") < 60
    assert entry == {
        "stage": "easy",
        "step": 120,
        "epoch": 0.5,
        "dev_ndcg@10": 0.5,
        "dev_mrr@10": 0.45,
        "dev_recall@1": 0.3,
        "dev_recall@5": 0.6,
        "dev_loss": 1.5,
        "dev_pumps_recall@5": 0.5,
    }


def test_a_loss_that_is_no_number_is_said_and_not_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    history = History()
    with caplog.at_level(logging.INFO, "codex_forge"):
        tell(history, 3, 9, {"loss": math.nan, "learning_rate": 1e-5})
    assert "step 3 of 9: loss nan, learning_rate 1e-05" in caplog.text
    write_history(history, tmp_path)
    (entry,) = read_jsonl(tmp_path / "metrics.jsonl")
    assert entry.keys() == {"stage", "step", "epoch", "seconds", "learning_rate"}


def test_what_the_trainer_says_at_the_end_is_no_entry() -> None:
    history = History()
    tell(history, 9, 9, {"train_runtime": 5.0, "total_flos": 0.0})
    assert history.entries == []


def test_the_line_of_a_stage_counts_over_all_stages(caplog: pytest.LogCaptureFixture) -> None:
    history = History()
    history.stage, history.offset = "hard", 140
    with caplog.at_level(logging.INFO, "codex_forge"):
        tell(history, 10, 120, {"loss": 0.5})
    assert caplog.messages == ["  step 150 of 260 (hard): loss 0.5"]


def test_the_last_step_is_logged_whatever_the_interval() -> None:
    history, control = History(), TrainerControl()
    history.on_step_end(
        TrainingArguments(use_cpu=True), TrainerState(global_step=8, max_steps=9), control
    )
    assert not control.should_log
    history.on_step_end(
        TrainingArguments(use_cpu=True), TrainerState(global_step=9, max_steps=9), control
    )
    assert control.should_log


def test_a_history_goes_on_with_entries_and_clock_of_the_run_before() -> None:
    before = trained()
    before.entries[-1]["seconds"] = 500.0
    history = History()
    history.go_on_from(before.entries)
    history.offset, history.stage = 260, "more"
    tell(history, 10, 20, {"loss": 0.1})
    assert history.entries[:-1] == before.entries
    assert history.entries is not before.entries
    assert history.entries[-1]["seconds"] >= 500.0
    assert history.entries[-1]["step"] == 270


# --- pictures -------------------------------------------------------------------------------------


def labels(svg: str) -> list[str]:
    """All texts of a picture."""
    found = ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(text.itertext()).strip() for text in found]


def test_the_files_hold_all_entries_and_both_pictures(tmp_path: Path) -> None:
    history = trained()
    write_history(history, tmp_path)
    assert list(read_jsonl(tmp_path / "metrics.jsonl")) == history.entries
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "dev.svg",
        "loss.svg",
        "metrics.jsonl",
    ]


def test_the_picture_shows_stages_losses_rate_and_the_metric_with_its_best() -> None:
    history = trained()
    said = labels(curves.training(history.entries, NDCG))
    wanted = {
        "loss",
        "learning rate",
        "train loss",
        "dev loss",
        "optimizer step",
        "ndcg@10 of the base",
    }
    assert wanted | {"pre-training", "easy", "hard"} <= set(said)
    assert {"ndcg@10", "recall@5", "mrr@10"} <= set(said)
    for stage, _ in STAGES:  # the best of each stage is marked with its value
        best = max(v for step, v in history.series("dev_ndcg@10", stage) if step)
        assert f"{best:.3f}" in said


def test_what_a_stage_began_with_is_never_marked_as_its_best() -> None:
    history = History()
    for stage, start, best in (("one", 0.9, 0.4), ("two", 0.8, 0.5)):
        history.stage = stage
        for step, quality in ((0, start), (10, 0.3), (20, best), (30, 0.2)):
            history.measured(step, measures(quality))
        history.offset += 30
    said = labels(curves.training(history.entries, NDCG))
    assert {"0.400", "0.500"} <= set(said)
    assert not {"0.900", "0.800"} & set(said)


def test_a_loss_that_chooses_is_marked_where_it_is_lowest() -> None:
    history = trained()
    said = labels(curves.training(history.entries, Metric("loss", higher_is_better=False)))
    assert {"dev loss of the base", "ndcg@10"} <= set(said)
    assert "ndcg@10 of the base" not in said
    for stage, _ in STAGES:
        assert f"{min(v for step, v in history.series('dev_loss', stage) if step):.3f}" in said


def test_one_stage_has_no_border_and_no_name() -> None:
    one = trained((("training", 100),))
    assert "training" not in labels(curves.training(one.entries, NDCG))


@pytest.mark.parametrize("entries", [0, 1, 2, 30])
def test_any_number_of_entries_makes_a_picture(entries: int) -> None:
    found = trained().entries[:entries]
    assert "<svg" in curves.training(found, NDCG)
    assert "<svg" in curves.training(found, None)


def test_pictures_are_the_same_bytes_each_time_and_have_no_background() -> None:
    history = trained()
    drawn = [
        (curves.training(history.entries, NDCG), curves.domains(history.entries)) for _ in "12"
    ]
    assert drawn[0] == drawn[1]
    for picture in drawn[0]:
        assert not re.search(r"fill: ?#ffffff|fill: ?white", picture)
        assert "<dc:date>" not in picture


def test_each_domain_has_a_panel_and_two_make_a_picture() -> None:
    said = labels(curves.domains(trained().entries))
    assert set(DOMAINS) <= set(said)
    assert "dev recall@5" in said
    assert curves.domains(trained(domains=("pumps",)).entries) == ""
    assert curves.domains(trained(domains=()).entries) == ""


def test_hostile_and_long_names_of_domains_and_stages_are_text() -> None:
    names = ("<script>alert(1)</script>", "costs $5 to $9", "x" * 80, "_leading", r"$\frac$")
    history = trained((("a_$stage$", 40), ("b", 40)), names)
    said = labels(curves.domains(history.entries))
    assert {"<script>alert(1)</scrip…", "costs $5 to $9", "_leading", r"$\frac$"} <= set(said)
    assert "<script>" not in curves.domains(history.entries)
    assert "a_$stage$" in labels(curves.training(history.entries, NDCG))


def test_many_domains_are_cut_and_counted() -> None:
    names = tuple(f"domain {i:02d}" for i in range(30))
    said = labels(curves.domains(trained(domains=names).entries))
    assert "dev recall@5 (12 of 30 domains)" in said
    assert sum(text.startswith("domain ") for text in said) == 12
