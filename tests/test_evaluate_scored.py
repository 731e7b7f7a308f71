"""Scored pairs in an evaluation: alone they need no corpus and no vectors; with questions, both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from codex_forge.config import load_config
from codex_forge.jsonl import read_json, read_jsonl
from codex_forge.model.in_use import find_model, load_encoder
from tests.chaos.model import cut_out_model
from tests.conftest import ROOT, Knock, sample_corpus
from tests.made_pairs import done, opened, rows

INCIDENTS = ROOT / "configs" / "incidents.yaml"


class Alone(NamedTuple):
    """A run of scored pairs and nothing else."""

    store: Path
    arguments: Sequence[str]

    def told(self, cache: Path) -> dict[str, Any]:
        found = opened(self.store, cache, "incidents-base", "evaluate")
        return read_json(found.path("report.json"))


@pytest.fixture(scope="module")
def alone(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Alone:
    folder = tmp_path_factory.mktemp("alone")
    base = cut_out_model(folder / "base")
    arguments = (f"store={folder / 'store'}", f"model.base={base}", "model.device=cpu")
    done("pairs", INCIDENTS, *arguments)
    done("evaluate", INCIDENTS, *arguments, "embed.model=base")
    return Alone(folder / "store", arguments)


def test_scored_pairs_alone_are_judged_without_corpus_and_vectors(
    alone: Alone, tmp_path: Path
) -> None:
    report = alone.told(tmp_path)
    assert (report["questions"], report["metrics"], report["slices"]) == (0, {}, {})
    assert report["latency_ms"] is report["queries_per_second"] is report["index_bytes"] is None
    assert report["must_pass"] == []
    pairs = opened(alone.store, tmp_path, "incidents", "pairs")
    assert report["pairs"]["test"]["pairs"] == pairs.counts["scored_test"] > 100
    assert 0 < report["pairs"]["test"]["values"]["spearman"] < 1
    found = opened(alone.store, tmp_path, "incidents-base", "evaluate")
    assert set(found.manifest.inputs) == {"pairs", "model"}
    assert found.manifest.inputs["pairs"].digest == pairs.digest
    assert list(read_jsonl(found.path("per_question.jsonl"))) == []
    assert not (alone.store / "embed").exists()


def test_cosines_are_those_of_the_model_in_the_role_that_training_uses(
    alone: Alone, tmp_path: Path
) -> None:
    config = load_config(INCIDENTS, [*alone.arguments, "embed.model=base"])

    encoder = load_encoder(
        find_model(config, lambda kind, name: opened(alone.store, tmp_path, name, kind)), config
    )
    pairs = rows(opened(alone.store, tmp_path, "incidents", "pairs"), "scored-test")[:20]
    first = encoder.encode_query([row["text_a"] for row in pairs])
    second = encoder.encode_query([row["text_b"] for row in pairs])
    found = opened(alone.store, tmp_path, "incidents-base", "evaluate")
    told = {row["pair_id"]: row["cosine"] for row in read_jsonl(found.path("per_pair.jsonl"))}
    cosines = np.sum(first * second, axis=1).tolist()
    assert [told[row["pair_id"]] for row in pairs] == pytest.approx(cosines, abs=1e-5)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("evaluate.retriever=bm25", "there are scored pairs alone, and no question"),
        ("evaluate.retriever=hybrid", "set evaluate.retriever=dense"),
        ('evaluate.must_pass=[{"query": "x", "expects": ["y"]}]', "no corpus to search in"),
    ],
)
def test_what_needs_a_corpus_is_refused(
    alone: Alone, knock: Knock, capsys: pytest.CaptureFixture[str], setting: str, said: str
) -> None:
    assert knock("evaluate", INCIDENTS, *alone.arguments, "embed.model=base", setting) == 2
    assert said in capsys.readouterr().err


def test_another_prompt_is_another_evaluation(
    alone: Alone, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt = ("embed.model=base", "model.query_prompt=ticket")
    assert knock("evaluate", INCIDENTS, *alone.arguments, *prompt) == 2
    assert "model.query_prompt was '', now 'ticket'" in capsys.readouterr().err


def test_questions_and_scored_pairs_are_judged_together(
    one_thread: None, knock: Knock, tmp_path: Path
) -> None:
    base = cut_out_model(tmp_path / "base")
    corpus = sample_corpus(tmp_path / "corpus", 12)
    data = [{"files": str(ROOT / "examples" / "incidents" / "pairs.jsonl")}]
    split = {"train": 0.4, "dev": 0.2, "test": 0.4}
    config = corpus.write(
        model={"base": str(base), "device": "cpu"},
        pairs={"data": data, "split": split},
        embed={"model": "base"},
    )
    for mode in ("pairs", "embed", "evaluate"):
        assert knock(mode, config) == 0
    found = opened(corpus.folder / "store", tmp_path, "small-base", "evaluate")
    report = read_json(found.path("report.json"))
    assert report["questions"] > 0
    assert report["metrics"]["rubric"] >= 0
    assert report["pairs"]["test"]["pairs"] > 100
    assert set(found.manifest.inputs) == {"pairs", "chunks", "indexes", "embed"}
    assert {"run.trec", "per_pair.jsonl"} < set(found.files)
    assert knock("evaluate", config, "evaluate.retriever=bm25") == 0
    words = opened(corpus.folder / "store", tmp_path, "small-bm25", "evaluate")
    assert read_json(words.path("report.json"))["pairs"] is None
