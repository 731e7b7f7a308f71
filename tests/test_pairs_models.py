"""Models that judge negatives: the base model's own neighbours, and a cross-encoder's veto."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from codex_forge.artifact import Artifact
from codex_forge.config.sections import ModelConfig
from codex_forge.errors import EXIT_CHANGE_SOMETHING
from codex_forge.model.encoder import Encoder, load_base
from codex_forge.model.locate import locate
from codex_forge.model.reranker import Reranker
from tests.conftest import MINILM, Corpus, Knock, sample_corpus
from tests.made_pairs import (
    NONE_ELSE,
    Row,
    by_id,
    chunk,
    done,
    entity,
    made,
    opened,
    report,
    rows,
)

Vectors = NDArray[np.float32]

MARGIN = 0.2
NEAREST = {**NONE_ELSE, "nearest": 1.0, "num": 4, "relative_margin": MARGIN, "nearest_depth": 25}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


# Nearest by the base model.


@pytest.fixture(scope="module")
def diseases(folder: Path) -> Corpus:
    found = sample_corpus(folder / "diseases")
    found.config = {"pairs": {"negatives": NEAREST}}
    return found


@pytest.fixture(scope="module")
def embedded(diseases: Corpus) -> Path:
    """The config, once the base model's vectors are there."""
    config = diseases.write()
    done("embed", config, "embed.model=base")
    return config


@pytest.fixture(scope="module")
def nearest(diseases: Corpus, embedded: Path, folder: Path) -> Artifact:
    done("pairs", embedded)
    return opened(diseases.folder / "store", folder)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    config = ModelConfig(base=MINILM, device="cpu")
    return Encoder(load_base(locate(config).folder, config))


@pytest.fixture(scope="module")
def vectors(diseases: Corpus, encoder: Encoder) -> Vectors:
    """Of all chunks in the order of the corpus, worked out here."""
    return encoder.encode_document([c["text"] for c in diseases.chunks])


def test_nearest_negatives_are_the_model_s_own_and_keep_the_margin(
    diseases: Corpus, nearest: Artifact, encoder: Encoder, vectors: Vectors
) -> None:
    """By brute force: the best that are below the margin and that the guard lets through."""
    ids = list(by_id(diseases.chunks))
    place = {chunk_id: i for i, chunk_id in enumerate(ids)}
    found = rows(nearest, "pairs-train")
    queries = encoder.encode_query([row["query"] for row in found[::4]])
    assert {name for row in found for name in row["negative_sources"]} == {"nearest"}
    assert sum(len(row["negatives"]) == 4 for row in found) > 0.8 * len(found)
    for row, query in zip(found[::4], queries, strict=True):
        scores = vectors @ query
        ceiling = (1 - MARGIN) * scores[place[row["positive_id"]]]
        floor = np.sort(scores)[::-1][24]
        taken = [float(scores[place[i]]) for i in row["negative_ids"]]
        assert all(floor - 0.002 <= score <= ceiling + 0.002 for score in taken), row
        assert taken == sorted(taken, reverse=True) or np.allclose(
            taken, sorted(taken, reverse=True), atol=0.002
        ), "the nearest come first"


def test_no_nearer_chunk_is_passed_over_but_those_that_the_guard_stops(
    diseases: Corpus, nearest: Artifact, encoder: Encoder, vectors: Vectors
) -> None:
    ids = list(by_id(diseases.chunks))
    found = [row for row in rows(nearest, "pairs-train") if row["negatives"]][::20]
    told = report(nearest)["negatives_stopped_by_guard"]
    passed_over = 0
    for row in found:
        scores = vectors @ encoder.encode_query([row["query"]])[0]
        ceiling = (1 - MARGIN) * scores[ids.index(row["positive_id"])]
        last = min(float(scores[ids.index(i)]) for i in row["negative_ids"])
        between = [i for i, s in zip(ids, scores, strict=True) if last < s < ceiling - 0.002]
        passed_over += len(set(between) - set(row["negative_ids"]))
    assert passed_over <= sum(told.values())


def test_without_vectors_the_error_names_the_command(
    diseases: Corpus, tmp_path: Path, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    config = diseases.write()
    assert knock("pairs", config, f"store={tmp_path}") == EXIT_CHANGE_SOMETHING
    said = capsys.readouterr().err
    assert "there is no embed artifact 'small-base'" in said
    assert "pairs.negatives.nearest" in said
    assert "run python -m jobs.embed embed.model=base" in said
    assert not list(tmp_path.rglob("manifest.json"))


def test_vectors_of_another_corpus_or_model_are_refused(
    diseases: Corpus,
    embedded: Path,
    tmp_path: Path,
    knock: Knock,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = (diseases.folder / "chunks.jsonl").read_text().splitlines()
    changed = tmp_path / "chunks.jsonl"
    changed.write_text("\n".join(lines[1:]) + "\n")
    name = ("pairs.split.train=0.29", "pairs.split.test=0.61", "--force")
    assert knock("pairs", embedded, f"corpus.chunks={changed}", *name) == EXIT_CHANGE_SOMETHING
    assert "was made from other chunks" in capsys.readouterr().err
    other = tmp_path / "other"
    load_base(locate(ModelConfig(base=MINILM)).folder, ModelConfig(base=MINILM)).save(str(other))
    (other / "note.txt").write_text("another model")
    assert knock("pairs", embedded, f"model.base={other}", *name) == EXIT_CHANGE_SOMETHING
    said = capsys.readouterr().err
    assert "was made by another model than is there now" in said
    assert "embed.model=base --force" in said


def test_another_prompt_for_queries_is_refused(
    embedded: Path, nearest: Artifact, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nearest.manifest.settings["model"] == {"query_prompt": "", "max_seq_length": None}
    assert knock("pairs", embedded) == 0
    assert "already done" in capsys.readouterr().err
    assert knock("pairs", embedded, "model.query_prompt=ask") == EXIT_CHANGE_SOMETHING
    assert "model.query_prompt='', which is 'ask' now" in capsys.readouterr().err


def test_ready_made_data_alone_has_no_vectors(
    tmp_path: Path, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (f"store={tmp_path}", "pairs.negatives.nearest=1")
    assert knock("pairs", "configs/manuals.yaml", *arguments) == EXIT_CHANGE_SOMETHING
    assert "pairs.negatives.nearest" in capsys.readouterr().err


# A cross-encoder.

COLOURS = ("red", "green", "blue")
THINGS = ("bridge", "mill", "tower", "gate", "barn", "well", "inn", "forge")


@pytest.fixture(scope="module")
def judge(folder: Path) -> Path:
    """A small cross-encoder that has learnt that red things answer, and others do not."""
    path = folder / "judge"
    train_judge(path)
    return path


def train_judge(path: Path) -> None:
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "is", "what", "old", "?", "."]
    path.mkdir(parents=True)
    vocabulary = {word: number for number, word in enumerate([*words, *COLOURS, *THINGS])}
    tokenizer = BertTokenizerFast(vocab=vocabulary, model_max_length=32)
    torch.manual_seed(5)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(tokenizer),
            intermediate_size=16,
            max_position_embeddings=32,
            num_labels=1,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            **shape,
        )
    )
    pairs = [(a, b, colour) for a in THINGS for b in THINGS for colour in COLOURS]
    batch: Any = tokenizer(
        [f"what is {a} ?" for a, _, _ in pairs],
        [f"the old {b} is {colour} ." for _, b, colour in pairs],
        padding=True,
        return_tensors="pt",
    )
    target = torch.tensor([float(colour == "red") for _, _, colour in pairs])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        logits = model(**batch).logits[:, 0]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss.item() < 0.2
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)


def is_red(text: str) -> bool:
    return "red" in text.split()


@pytest.fixture(scope="module")
def painted(folder: Path) -> Corpus:
    """Things in three colours; each is asked for, and its red chunk is marked as the answer."""
    chunks = [
        chunk(f"{thing}-{colour}.md", f"the old {thing} is {colour} .", wiki_type="t")
        for thing in THINGS
        for colour in COLOURS
    ]
    index = {thing: entity(f"what is {thing} ?", f"{thing}-red.md") for thing in THINGS}
    corpus = Corpus(folder / "painted", chunks, index, [])
    corpus.config = {
        "pairs": {
            "synthesis": {"templates": ["{name}"], "from_mentions": False},
            "negatives": {**NONE_ELSE, "same_type": 1.0, "num": 6, "near_duplicate": 1.0},
        }
    }
    return corpus


def with_judge(corpus: Corpus, judge: Path | str, **more: Any) -> Row:
    pairs = corpus.config["pairs"]
    negatives = {**pairs["negatives"], "cross_encoder": str(judge), **more}
    return {**pairs, "negatives": negatives}


def test_what_a_cross_encoder_scores_like_the_positive_is_no_negative(
    painted: Corpus, judge: Path, folder: Path
) -> None:
    plain = made(painted, folder / "plain")
    unmarked = [t for row in rows(plain, "pairs-train") for t in row["negatives"] if is_red(t)]
    assert unmarked, "without a judge some answers are negatives"
    margin = 0.3
    settings = with_judge(painted, judge, cross_encoder_margin=margin)
    store = folder / "judged"
    judged = made(painted, folder / "j", store=str(store), pairs=settings)
    found = rows(judged, "pairs-train")
    assert len(found) == len(THINGS)
    reranker = Reranker(judge, ModelConfig(base=MINILM, device="cpu"), 16)
    for row in found:
        texts = (row["positive"], *row["negatives"])
        scores = reranker.scores([(row["query"], text) for text in texts])
        assert all(scores[1:] <= (1 - margin) * scores[0] + 1e-6)
        assert not any(map(is_red, row["negatives"]))
        for key in ("negative_ids", "negative_sources", "negative_hardness"):
            assert len(row[key]) == len(row["negatives"])
    kept = sum(len(row["negatives"]) for row in found)
    assert kept > 0.9 * 6 * len(found), "others have taken their place"
    assert report(judged)["negatives_stopped_by_guard"]["cross_encoder"] >= len(unmarked)
    assert report(judged)["negatives_by_source"] == {"same_type": kept}


def test_every_negative_that_the_judge_lets_pass_stays(
    painted: Corpus, judge: Path, folder: Path
) -> None:
    """With all chunks as negatives exactly those within the margin are gone, and are counted."""
    everything = {"num": 24, "cross_encoder_margin": 0.1}
    plain = dict(painted.config["pairs"])
    plain["negatives"] = {**plain["negatives"], "num": 24}
    before = made(painted, folder / "all", store=str(folder / "s-all"), pairs=plain)
    settings = with_judge(painted, judge, **everything)
    after = made(painted, folder / "some", store=str(folder / "s-some"), pairs=settings)
    reranker = Reranker(judge, ModelConfig(base=MINILM, device="cpu"), 16)
    kept = {row["query"]: set(row["negatives"]) for row in rows(after, "pairs-train")}
    stopped = 0
    for row in rows(before, "pairs-train"):
        texts = (row["positive"], *row["negatives"])
        scores = reranker.scores([(row["query"], text) for text in texts])
        fine = {t for t, s in zip(texts[1:], scores[1:], strict=True) if s <= 0.9 * scores[0]}
        assert kept[row["query"]] == fine
        stopped += len(row["negatives"]) - len(fine)
    assert stopped > 0
    assert report(after)["negatives_stopped_by_guard"]["cross_encoder"] == stopped


def test_the_phase_is_that_of_the_negatives_that_are_left(tmp_path: Path, judge: Path) -> None:
    """The one that misleads by its words is stopped: what is left is easy."""
    more = "and so on for ever after that day until nightfall came over"
    texts = [
        f"what mill is red ? the old mill is red . {more}",
        "the old mill is red .",
        "the old gate is blue .",
        "the old forge is green .",
    ]
    chunks = [chunk(f"{i}.md", text, wiki_type="t") for i, text in enumerate(texts)]
    corpus = Corpus(tmp_path / "phase", chunks, {"m": entity("what is mill ?", "0.md")}, [])
    synthesis = {"templates": ["{name}"], "from_mentions": False}
    negatives = {**NONE_ELSE, "same_type": 1.0, "near_duplicate": 1.0}
    asked = {"synthesis": synthesis, "negatives": negatives}
    phases = []
    for name, changes in (
        ("plain", {}),
        ("judged", {"cross_encoder": str(judge), "cross_encoder_margin": 0.5}),
    ):
        settings = {**asked, "negatives": {**negatives, **changes}}
        pairs = made(corpus, tmp_path / name, store=str(tmp_path / name), pairs=settings)
        (row,) = rows(pairs, "pairs-train")
        misled = any(other > row["similarity"] for other in row["negative_similarities"])
        phases.append((row["phase"], misled, len(row["negatives"])))
    assert phases == [("medium", True, 3), ("easy", False, 2)]
    assert report(pairs)["phases"] == {"easy": 1}


def test_another_cross_encoder_is_another_recipe(
    painted: Corpus, judge: Path, folder: Path
) -> None:
    inputs = opened(folder / "judged", folder / "again").manifest.inputs
    assert inputs["cross_encoder"].name == str(judge)
    assert inputs["cross_encoder"].kind == "model"


@pytest.mark.parametrize("name", ["/nowhere/judge", "package:no_such_package/model"])
def test_a_cross_encoder_that_is_not_there_is_an_error_that_names_the_key(
    painted: Corpus, tmp_path: Path, knock: Knock, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    config = painted.write(store=str(tmp_path), pairs=with_judge(painted, name))
    assert knock("pairs", config) == EXIT_CHANGE_SOMETHING
    said = capsys.readouterr().err
    assert f"pairs.negatives.cross_encoder {name!r}" in said
    assert "model.base" not in said
    assert not list(tmp_path.rglob("manifest.json"))


def test_no_pairs_have_no_scores(judge: Path) -> None:
    scores = Reranker(judge, ModelConfig(base=MINILM), 4).scores([])
    assert scores.shape == (0,)
    assert scores.dtype == np.float32
