"""Held-out scored pairs: right numbers, the threshold from dev, words against meaning."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from codex_forge.agreement import best_threshold, decisions
from codex_forge.artifact import Artifact, Draft, Recipe, begin, open_artifact
from codex_forge.config.sections import EvaluateConfig
from codex_forge.errors import InputError
from codex_forge.evaluate.pairs import pair_report
from codex_forge.evaluate.scored_pair import Judged, grouped
from codex_forge.jsonl import read_jsonl, write_jsonl
from codex_forge.storage import Store

Tree = dict[str, Any]
CONFIG = EvaluateConfig()


def artifact(store: Store, cache: Path, **parts: Sequence[Tree]) -> Artifact:
    """A pairs artifact with these scored rows."""
    draft = begin(store, Recipe("pairs", "p", {}, {}), cache, force=True)
    assert isinstance(draft, Draft)
    for part, rows in parts.items():
        write_jsonl(draft.path(f"scored-{part}.jsonl"), rows)
    draft.commit({"rows": 1})
    return open_artifact(store, "pairs", "p", cache)


def row(number: int, one: str, other: str, **said: Any) -> Tree:
    return {"pair_id": f"p{number}", "text_a": one, "text_b": other, **said}


class Angles:
    """Texts that end in a number of degrees become points of the unit circle."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.seen += texts
        turned = np.radians([float(text.split()[-1]) for text in texts])
        found: NDArray[np.float32] = np.stack([np.cos(turned), np.sin(turned)], axis=1).astype("f4")
        return found


def drawn(count: int, seed: int, part: str) -> list[Tree]:
    """Pairs whose angle roughly falls with their score; every other one has a label instead."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        score = round(float(rng.random()), 3)
        angle = 90 * (1 - score) + rng.normal(0, 25)
        said = {"score": score} if i % 2 else {"label": int(score > 0.4)}
        fields = {"category": "net" if i % 3 else "mail", "phase": ["easy", "hard"][i % 2]}
        rows.append(row(i, f"{part} {i} at 0", f"{part} {i} to {angle:.3f}", **said, **fields))
    return rows


def test_all_measures_are_those_of_scipy_and_scikit_learn(local: Store, cache: Path) -> None:
    dev, test = drawn(80, 1, "dev"), drawn(120, 2, "test")
    found = pair_report(artifact(local, cache, dev=dev, test=test), CONFIG, Angles(), cache)
    assert found is not None
    rows = list(read_jsonl(cache / "per_pair.jsonl"))
    assert [r["part"] for r in rows] == ["dev"] * 80 + ["test"] * 120
    own = [r for r in rows if r["part"] == "test"]
    cosines = np.array([r["cosine"] for r in own])
    angles = [float(r["text_b"].split()[-1]) for r in test]
    assert cosines == pytest.approx([math.cos(math.radians(angle)) for angle in angles], abs=2e-6)

    values, threshold = found["test"]["values"], found["threshold"]
    scored = [i for i, r in enumerate(own) if r["score"] is not None]
    scores = [own[i]["score"] for i in scored]
    alike = [bool(r["label"]) if r["score"] is None else r["score"] >= 0.5 for r in own]
    assert values["spearman"] == pytest.approx(spearmanr(cosines[scored], scores)[0], abs=1e-6)
    assert values["pearson"] == pytest.approx(pearsonr(cosines[scored], scores)[0], abs=1e-6)
    assert values["roc_auc"] == pytest.approx(roc_auc_score(alike, cosines), abs=1e-6)
    precision = average_precision_score(alike, cosines)
    assert values["average_precision"] == pytest.approx(precision, abs=1e-6)
    called = cosines >= threshold
    assert values["f1"] == pytest.approx(f1_score(alike, called), abs=1e-6)
    assert values["precision"] == pytest.approx(precision_score(alike, called), abs=1e-6)
    assert values["recall"] == pytest.approx(recall_score(alike, called), abs=1e-6)
    assert found["dev"]["pairs"] == 80
    assert found["test"]["undefined"] == {}
    by_phase = found["slices"]["phase"]
    assert {value: each["pairs"] for value, each in by_phase.items()} == {"easy": 60, "hard": 60}
    assert by_phase["easy"]["values"]["spearman"] is None
    assert by_phase["easy"]["undefined"]["spearman"] == "no pair has a score"
    assert sum(each["pairs"] for each in found["slices"]["category"].values()) == 120
    json.dumps(found, allow_nan=False)


def test_the_threshold_is_the_best_on_dev_and_no_other() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        cosines = np.round(rng.random(40), 2)  # with ties
        alike = rng.random(40) < cosines
        best = best_threshold(cosines, alike)
        assert best is not None
        reached = decisions(cosines, alike, best).values["f1"]
        tried = [f1_score(alike, cosines >= level) for level in np.unique(cosines)]
        assert reached == pytest.approx(max(tried), abs=1e-6)
        assert best not in cosines or best == cosines.min()
    assert best_threshold(cosines, np.zeros(40, dtype=np.bool_)) is None


def test_each_text_is_encoded_once_also_over_blocks(
    local: Store, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row(i, f"shared {i // 3} at 0", f"own {i} at {i}", score=i / 30) for i in range(30)]
    given = artifact(local, cache, dev=rows[:12], test=rows[12:])
    whole = pair_report(given, CONFIG, Angles(), cache / "whole.jsonl")
    monkeypatch.setattr("codex_forge.evaluate.pairs._BLOCK", 4)
    angles = Angles()
    assert pair_report(given, CONFIG, angles, cache / "blocks.jsonl") == whole
    assert len(angles.seen) == len(set(angles.seen)) == 40
    assert (cache / "blocks.jsonl").read_bytes() == (cache / "whole.jsonl").read_bytes()


def test_pairs_that_share_a_text_are_one_group() -> None:
    texts = [("a", "b"), ("c", "d"), ("B ", "e"), ("f", "g"), ("E", "g")]
    pairs = [Judged.of("test", row(i, *both, score=1)) for i, both in enumerate(texts)]
    assert grouped(pairs).tolist() == [0, 1, 0, 0, 0]


def test_what_cannot_be_measured_says_why(local: Store, cache: Path) -> None:
    rows = [row(i, f"a {i} at 0", f"b {i} at {i}", label=0) for i in range(4)]
    found = pair_report(artifact(local, cache, test=rows), CONFIG, Angles(), cache)
    assert found is not None
    assert found["threshold"] is None
    assert set(found["test"]["values"].values()) == {None}
    assert found["test"]["undefined"]["f1"].startswith("no dev pair is alike")
    assert found["test"]["undefined"]["roc_auc"] == "all pairs have the same label"
    assert found["dev"] == {
        "pairs": 0,
        "values": dict.fromkeys(found["test"]["values"]),
        "undefined": dict.fromkeys(found["test"]["values"], "there is no such pair"),
    }
    assert found["adversarial"]["verdict"] == "not judged"


def test_an_artifact_without_scored_pairs_gives_nothing(local: Store, cache: Path) -> None:
    given = artifact(local, cache, train=[row(1, "a 1", "b 2", score=1)], test=[])
    assert pair_report(given, CONFIG, Angles(), cache) is None
    assert not (cache / "per_pair.jsonl").exists()


def test_a_broken_model_is_told(local: Store, cache: Path) -> None:
    given = artifact(local, cache, test=[row(1, "a 0", "b nan", score=1)])
    with pytest.raises(InputError, match="not finite"):
        pair_report(given, CONFIG, Angles(), cache)


# Words against meaning.

MANY = "the old printer on the third floor is very"


def _traps(same_angle: float, other_angle: float, count: int = 6) -> list[Tree]:
    """Pairs of one meaning without a common word, and of two meanings with nearly all."""
    rows = []
    for i in range(count):
        rows.append(row(i, f"slow{i} one 0", f"tardy{i} two {same_angle + i / 10}", label=1))
        trap = f"{MANY} quiet{i} {other_angle + i / 10}"
        rows.append(row(100 + i, f"{MANY} loud{i} 0", trap, label=0))
        rows.append(row(200 + i, f"{MANY} s{i} 0", f"{MANY} s{i} 1", label=1))  # easy: left out
    return rows


@pytest.mark.parametrize(
    ("same", "other", "verdict", "area"), [(10, 60, "pass", 1.0), (60, 10, "fail", 0.0)]
)
def test_a_model_that_only_counts_words_fails(
    local: Store, cache: Path, same: float, other: float, verdict: str, area: float
) -> None:
    given = artifact(local, cache, test=_traps(same, other), dev=_traps(other, same))
    report = pair_report(given, CONFIG, Angles(), cache)
    assert report is not None
    found = report["adversarial"]
    assert (found["verdict"], found["roc_auc"]) == (verdict, area)
    assert (found["same_pairs"], found["other_pairs"], found["parts"]) == (6, 6, ["test"])
    near = np.mean([math.cos(math.radians(same + i / 10)) for i in range(6)])
    assert found["same_meaning_few_words"] == pytest.approx(near, abs=1e-5)
    assert len(found["worst"]) == 5
    if verdict == "fail":  # the nearest of other meanings, and the farthest of the same one
        worst = [(w["label"], w["cosine"]) for w in found["worst"]]
        for label, sign in ((0, -1), (1, 1)):
            own = [cosine for each, cosine in worst if each == label]
            assert own == sorted(own, key=lambda cosine: sign * cosine)
        for pair in found["worst"]:
            mine, theirs = (set(pair[f"text_{s}"].replace(".", " ").split()) for s in "ab")
            assert pair["overlap"] == round(len(mine & theirs) / len(mine | theirs), 4)


def test_dev_helps_where_test_has_too_few_traps(local: Store, cache: Path) -> None:
    given = artifact(local, cache, test=_traps(10, 60, 3), dev=_traps(12, 62, 3))
    report = pair_report(given, CONFIG, Angles(), cache)
    assert report is not None
    assert (report["adversarial"]["verdict"], report["adversarial"]["same_pairs"]) == ("pass", 6)
    assert report["adversarial"]["parts"] == ["dev", "test"]
    few = artifact(local, cache, test=_traps(10, 60, 2), dev=_traps(12, 62, 2))
    report = pair_report(few, CONFIG, Angles(), cache)
    assert report is not None
    assert report["adversarial"]["verdict"] == "not judged"
