"""Texts are tokenised once, as the model would; rows are numbers of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from codex_forge.artifact import Artifact, open_artifact
from codex_forge.config.sections import ModelConfig
from codex_forge.config.train import StageConfig
from codex_forge.errors import InputError
from codex_forge.model.encoder import load_base
from codex_forge.model.locate import locate
from codex_forge.storage import Store
from codex_forge.train.data.rows import Rows, read_rows
from codex_forge.train.data.texts import DOCUMENT, QUERY, TextTable
from tests.conftest import MINILM, ROOT, Knock, sample_corpus

TEXTS = [
    "measles",
    "  Spaces   and\ttabs\n",
    "Ünïcode, 東京 and emoji 🙂",
    "a very long text " * 200,
    "",
]


@pytest.fixture(scope="module")
def model() -> SentenceTransformer:
    """MiniLM with prompts, as a run's config would set them."""
    config = ModelConfig(base=MINILM, device="cpu", query_prompt="query: ", max_seq_length=64)
    return load_base(locate(config).folder, config)


@pytest.mark.parametrize("role", [QUERY, DOCUMENT])
def test_ids_are_what_the_model_itself_makes_of_a_text(
    model: SentenceTransformer, tmp_path: Path, role: str
) -> None:
    table = TextTable(model, tmp_path)
    numbers = table.add_all(TEXTS, role)

    features: dict[str, Any] = model.preprocess(TEXTS, prompt=model.prompts.get(role) or None)

    for number, ids, mask in zip(
        numbers, features["input_ids"], features["attention_mask"], strict=True
    ):
        assert table.ids(number).tolist() == ids[mask.bool()].tolist()
    assert table.lengths.tolist() == features["attention_mask"].sum(1).tolist()
    assert table.lengths.max() == 64


def test_a_text_has_one_number_in_each_role(model: SentenceTransformer, tmp_path: Path) -> None:
    table = TextTable(model, tmp_path)

    numbers = table.add_all(["a", "b", "a"], DOCUMENT)
    asked = table.add("a", QUERY)

    assert numbers.tolist() == [0, 1, 0]
    assert asked == 2
    assert (table.role(0), table.role(2)) == (DOCUMENT, QUERY)
    assert len(table.ids(2)) > len(table.ids(0))  # its prompt


def test_texts_come_back_as_they_went_in(model: SentenceTransformer, tmp_path: Path) -> None:
    table = TextTable(model, tmp_path)
    many = [f"{text} {i}" for i in range(500) for text in TEXTS]
    numbers = table.add_all(many[:1300], DOCUMENT)
    assert table.text(7) == many[7]
    more = table.add_all(many, DOCUMENT)

    assert np.array_equal(numbers, more[:1300])
    assert [table.text(n) for n in more] == many
    assert len(table.lengths) == len(table) == len(many)


def test_the_digest_tells_texts_and_their_order(model: SentenceTransformer, tmp_path: Path) -> None:
    digests: list[str] = []
    for texts in (["a", "b"], ["a", "b"], ["b", "a"]):
        folder = tmp_path / str(len(digests))
        folder.mkdir()
        table = TextTable(model, folder)
        table.add_all(texts, DOCUMENT)
        digests.append(table.digest)

    assert digests[0] == digests[1] != digests[2]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A real pairs artifact of the small corpus."""
    from importlib import import_module

    corpus = sample_corpus(tmp_path_factory.mktemp("rows"))
    config = corpus.write()
    assert import_module("jobs.pairs").DOOR.main([str(config)]) == 0
    store = Store(str(corpus.folder / "store"))
    return open_artifact(store, "pairs", "small", tmp_path_factory.mktemp("copies"))


def _read(pairs: Artifact, model: SentenceTransformer, folder: Path, **stage: Any) -> Rows:
    return read_rows(pairs, StageConfig(**stage), TextTable(model, folder), seed=7)


def test_rows_hold_the_texts_of_the_pairs(
    pairs: Artifact, model: SentenceTransformer, tmp_path: Path
) -> None:
    from codex_forge import pair_files

    table = TextTable(model, tmp_path)
    rows = read_rows(pairs, StageConfig(num_negatives=2), table, seed=7)

    told = [
        (p["query"], p["positive"], *p["negatives"][:2])
        for p in pair_files.rows(pairs, "pairs-train")
        if len(p["negatives"]) >= 2
    ]
    found = [tuple(table.text(n) for n in row) for row in zip(*rows.columns.values(), strict=True)]
    assert found == told
    assert list(rows.columns) == ["anchor", "positive", "negative_1", "negative_2"]


def test_known_answers_are_all_that_answer_a_query_text(
    model: SentenceTransformer, tmp_path: Path, knock: Knock
) -> None:
    from codex_forge import pair_files

    assert knock("pairs", ROOT / "configs" / "codex.yaml", f"store={tmp_path}/store") == 0
    pairs = open_artifact(Store(f"{tmp_path}/store"), "pairs", "codex", tmp_path / "copies")
    table = TextTable(model, tmp_path)
    rows = read_rows(pairs, StageConfig(num_negatives=0), table, seed=7)

    answers: dict[str, set[str]] = {}
    for pair in pair_files.rows(pairs, "pairs-train"):
        answers.setdefault(pair["query"], set()).add(pair["positive"])
    assert any(len(own) > 1 for own in answers.values())
    for anchor in np.unique(rows.columns["anchor"]):
        known = {table.text(n) for n in rows.known.of(anchor)}
        assert answers[table.text(anchor)] <= known


def test_max_pairs_draws_by_seed(
    pairs: Artifact, model: SentenceTransformer, tmp_path: Path
) -> None:
    drawn: list[list[str]] = []
    for seed in (7, 7, 8):
        folder = tmp_path / str(len(drawn))
        folder.mkdir()
        table = TextTable(model, folder)
        rows = read_rows(pairs, StageConfig(max_pairs=20), table, seed=seed)
        assert len(rows) == 20
        assert rows.left_out["not drawn (max_pairs)"] > 0
        drawn.append([table.text(n) for n in rows.columns["anchor"]])

    assert drawn[0] == drawn[1] != drawn[2]


def test_filters_leave_out_and_count(
    pairs: Artifact, model: SentenceTransformer, tmp_path: Path
) -> None:
    from codex_forge import pair_files

    (tmp_path / "a").mkdir()
    rows = _read(pairs, model, tmp_path / "a", sources=("question",), num_negatives=0)

    sources = [p["source"] for p in pair_files.rows(pairs, "pairs-train")]
    assert len(rows) == sources.count("question")
    assert rows.left_out == {"other sources": len(sources) - len(rows)}


def test_texts_come_once_each(pairs: Artifact, model: SentenceTransformer, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    alone = _read(pairs, model, tmp_path / "a", objective="tsdae", texts="both").columns["text"]
    twice = _read(pairs, model, tmp_path / "b", objective="simcse").columns

    assert len(np.unique(alone)) == len(alone)
    assert np.array_equal(twice["anchor"], twice["positive"])


def test_nothing_left_says_what_to_widen(
    pairs: Artifact, model: SentenceTransformer, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"widen train\.phases"):
        _read(pairs, model, tmp_path, sources=("nowhere",))


def test_a_single_pair_without_negatives_is_refused(
    pairs: Artifact, model: SentenceTransformer, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="a single pair"):
        _read(pairs, model, tmp_path, max_pairs=1, num_negatives=0)
