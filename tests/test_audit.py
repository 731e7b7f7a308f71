"""The audit measures what the model will see, and finds defects that were planted."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codex_forge.artifact import Artifact, Draft, Recipe, begin, open_artifact
from codex_forge.audit.lengths import AllLengths, reading_of
from codex_forge.config.sections import ModelConfig
from codex_forge.defects import KINDS
from codex_forge.errors import EXIT_DONE, EXIT_GATE_NOT_MET
from codex_forge.jsonl import read_json, read_jsonl, write_jsonl
from codex_forge.model import locate
from codex_forge.storage import Store
from codex_forge.tokens import load_tokenizer
from tests.conftest import MINILM, Corpus, Knock

Row = dict[str, Any]
PAIRS = "pairs-train.jsonl"
LOOSE = ("audit.max_truncated_share=1", "audit.max_evidence_lost_share=1")


@pytest.fixture
def paired(corpus: Corpus, knock: Knock) -> Corpus:
    """The small corpus, with its pairs made."""
    assert knock("pairs", corpus.write()) == EXIT_DONE
    return corpus


def opened(corpus: Corpus, kind: str, scratch: Path) -> Artifact:
    return open_artifact(Store(str(corpus.folder / "store")), kind, "small", scratch)


def report(corpus: Corpus, scratch: Path) -> Row:
    return read_json(opened(corpus, "audit", scratch).path("report.json"))


def findings(corpus: Corpus, scratch: Path) -> list[Row]:
    return list(read_jsonl(opened(corpus, "audit", scratch).path("findings.jsonl")))


def tamper(corpus: Corpus, scratch: Path, change: Callable[[list[Row]], None]) -> None:
    """Write the pairs artifact again with other train pairs and a manifest that fits them."""
    pairs = opened(corpus, "pairs", scratch)
    given = pairs.manifest
    recipe = Recipe("pairs", "small", given.settings, given.inputs, given.config)
    draft = begin(Store(str(corpus.folder / "store")), recipe, scratch, force=True)
    assert isinstance(draft, Draft)
    for name in pairs.files:
        shutil.copy(pairs.path(name), draft.path(name))
    rows = list(read_jsonl(pairs.path(PAIRS)))
    change(rows)
    write_jsonl(draft.path(PAIRS), rows)
    draft.commit({**given.counts, "pairs_train": len(rows)})


def test_clean_pairs_pass_with_the_lengths_of_the_models_own_tokenizer(
    paired: Corpus, knock: Knock, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    prompts = {"query_prompt": "search_query: ", "document_prompt": "search_document: "}
    config = paired.write(model={"base": MINILM, "device": "cpu", **prompts})
    assert knock("audit", config) == EXIT_DONE
    found = report(paired, tmp_path)
    assert found["verdict"] == opened(paired, "audit", tmp_path).manifest.summary["verdict"]
    assert (found["verdict"], found["reasons"]) == ("pass", [])
    assert {k: n for k, n in found["findings"].items() if KINDS[k].severity == "error"} == {}
    assert found["limit"] == 256

    folder = locate.locate(ModelConfig(base=MINILM)).folder
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    rows = list(read_jsonl(opened(paired, "pairs", tmp_path).path(PAIRS)))
    kinds = {
        "chunk": [chunk["text"] for chunk in paired.chunks],
        "query": list({row["query"] for row in rows}),
        "positive": list({row["positive"] for row in rows}),
        "negative": list({text for row in rows for text in row["negatives"]}),
    }
    assert found["lengths"].keys() == kinds.keys()
    for kind, texts in kinds.items():
        prompt = prompts["query_prompt" if kind == "query" else "document_prompt"]
        lengths = [len(tokenizer(prompt + text)["input_ids"]) for text in texts]
        told = found["lengths"][kind]
        assert told["texts"] == len(texts) == sum(told["histogram"]["counts"])
        assert told["maximum"] == max(lengths)
        assert told["mean"] == pytest.approx(sum(lengths) / len(lengths), abs=0.006)
        assert told["truncated"] == 0
    assert opened(paired, "audit", tmp_path).path("lengths.svg").read_text().startswith("<?xml")


def test_scored_texts_are_counted_as_they_are_trained_behind_the_prompt_of_queries() -> None:
    folder = locate.locate(ModelConfig(base=MINILM)).folder
    count = load_tokenizer(folder)
    given = ModelConfig(base=MINILM, query_prompt="one two ", document_prompt="one two three four ")
    lengths = AllLengths(reading_of(given, folder, count), worst=1)
    lengths.add_row({"text_a": "alpha", "text_b": "beta"})
    found = lengths.audits()
    assert found["text_a"].maximum == count(["one two alpha"])[0]
    assert found["text_b"].maximum == count(["one two beta"])[0]


def test_too_many_cut_texts_fail_the_gate_again_and_again(
    paired: Corpus, knock: Knock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = paired.write()
    assert knock("audit", config, "model.max_seq_length=40") == EXIT_GATE_NOT_MET
    said = capsys.readouterr().err
    assert "chunk texts are cut at 40 tokens" in said
    assert "query texts" not in said
    artifact = opened(paired, "audit", tmp_path)
    assert artifact.manifest.summary == {"verdict": "fail"}
    found = report(paired, tmp_path)
    assert (found["verdict"], found["limit"]) == ("fail", 40)
    assert any("chunks lose their end" in advice for advice in found["advice"])

    manifest = Path(artifact.version_url) / "manifest.json"
    before = manifest.stat().st_mtime_ns
    assert knock("audit", config, "model.max_seq_length=40") == EXIT_GATE_NOT_MET
    assert "already done" in capsys.readouterr().err
    assert manifest.stat().st_mtime_ns == before

    assert knock("audit", config, "model.max_seq_length=40", *LOOSE, "--force") == EXIT_DONE
    assert report(paired, tmp_path)["verdict"] == "pass"


def test_the_share_that_may_be_cut_is_a_border(
    paired: Corpus, knock: Knock, tmp_path: Path
) -> None:
    config = paired.write()
    arguments = ["model.max_seq_length=40", "audit.max_evidence_lost_share=1", "--force"]
    knock("audit", config, *arguments)
    share = max(kind["truncated_share"] for kind in report(paired, tmp_path)["lengths"].values())
    assert 0 < share < 1
    at = f"audit.max_truncated_share={share!r}"
    below = f"audit.max_truncated_share={share - 1e-6!r}"
    assert knock("audit", config, *arguments, at) == EXIT_DONE
    assert knock("audit", config, *arguments, below) == EXIT_GATE_NOT_MET


def test_defects_are_counted_by_row_against_the_share_that_is_allowed(
    paired: Corpus, knock: Knock, tmp_path: Path
) -> None:
    def plant(rows: list[Row]) -> None:
        rows[4] = {**rows[4], "query": " ", "positive": " "}  # two defects, one row
        rows[6] = {**rows[6], "positive": rows[6]["positive"] + " <br> and more"}  # a warning
        rows[4]["positive_id"], rows[6]["positive_id"] = "other", "another"

    tamper(paired, tmp_path, plant)
    config = paired.write()
    assert knock("audit", config) == EXIT_GATE_NOT_MET
    told = report(paired, tmp_path)
    assert told["rows_with_errors"] == 1
    assert told["findings"]["empty_query"] == told["findings"]["empty_positive"] == 1
    assert told["findings"]["html_remains"] == 1
    assert told["reasons"] == [f"1 of {told['pairs_audited']} pairs have a defect (allowed 0.0%)"]
    before = findings(paired, tmp_path)
    assert {(f["kind"], f["line"]) for f in before} >= {("empty_query", 5), ("html_remains", 7)}
    assert knock("audit", config, "audit.max_defect_share=0.5", "--force") == EXIT_DONE
    assert findings(paired, tmp_path) == before


@pytest.mark.parametrize("part", ["test", "dev"])
def test_a_planted_leak_is_found_and_no_share_of_leaks_is_allowed(
    paired: Corpus, knock: Knock, tmp_path: Path, part: str
) -> None:
    held = next(read_jsonl(opened(paired, "pairs", tmp_path).path(f"questions-{part}.jsonl")))

    def plant(rows: list[Row]) -> None:
        rows[2] = {**rows[2], "query": held["question"].lower().rstrip("?") + " !"}

    tamper(paired, tmp_path, plant)
    assert knock("audit", paired.write(), "audit.max_defect_share=1") == EXIT_GATE_NOT_MET
    (found,) = [f for f in findings(paired, tmp_path) if f["kind"].startswith("leak")]
    assert (found["kind"], found["line"]) == ("leak_normalised", 3)
    assert found["detail"].endswith(f"is question {held['query_id']}")
    assert report(paired, tmp_path)["reasons"] == ["1 train rows leak what is held out"]


def test_evidence_past_the_cut_is_found_and_is_a_gate_of_its_own(
    paired: Corpus, knock: Knock, tmp_path: Path
) -> None:
    name, alias = "asthma of the lighthouse", "keeper's cough"
    first = next(iter(paired.index.values()))
    paired.index["kept"] = {**first, "primary_name": name, "aliases": [alias]}
    assert knock("pairs", paired.write(), "--force") == EXIT_DONE
    filler = "The tide tables of the northern quay were kept by hand. " * 40

    def plant(rows: list[Row]) -> None:
        for at, text in enumerate((f"{filler} {alias}", f"{alias} {filler}", f"{filler} end")):
            rows[at] = {**rows[at], "query": f"sea log {at}", "positive": text, "topics": [name]}
            rows[at] |= {"positive_id": f"x{at}", "query_id": f"x{at}"}

    tamper(paired, tmp_path, plant)
    config, loose = paired.write(), "audit.max_truncated_share=1"
    assert knock("audit", config, loose, "audit.max_evidence_lost_share=0") == EXIT_GATE_NOT_MET
    told = report(paired, tmp_path)
    evidence = told["evidence"]
    assert (evidence["lost"], evidence["pairs_with_cut_positive"]) == (1, 3)
    assert evidence["share"] == 1 / told["pairs_audited"]
    assert [example["query_id"] for example in evidence["examples"]] == ["x0"]
    assert "past the cut" in told["reasons"][0]
    share = f"audit.max_evidence_lost_share={evidence['share']!r}"
    assert knock("audit", config, loose, share, "--force") == EXIT_DONE


def test_two_audits_hold_the_same_bytes(paired: Corpus, knock: Knock, tmp_path: Path) -> None:
    def digests() -> dict[str, str]:
        artifact = opened(paired, "audit", tmp_path / "copies")
        return {
            name: hashlib.sha256(artifact.path(name).read_bytes()).hexdigest()
            for name in artifact.files
        }

    config = paired.write()
    assert knock("audit", config) == EXIT_DONE
    first = digests()
    assert set(first) == {"findings.jsonl", "lengths.svg", "report.html", "report.json"}
    assert knock("audit", config, "--force") == EXIT_DONE
    assert digests() == first


def test_advice_follows_from_what_is_measured(paired: Corpus, knock: Knock, tmp_path: Path) -> None:
    config = paired.write()
    assert knock("audit", config, "model.max_seq_length=128") == EXIT_DONE
    told = report(paired, tmp_path)
    p99 = max(kind["percentiles"]["p99"] for kind in told["lengths"].values())
    room = 128 - 2
    texts = [chunk["text"] for chunk in paired.chunks]
    mean = told["lengths"]["chunk"]["mean"]
    words = sum(len(text.split()) for text in texts) / len(texts)
    chunks = next(each for each in told["advice"] if "tokens a word" in each)
    assert f"{room} tokens" in chunks
    said = int(re.findall(r"about (\d+) words", chunks)[0])
    assert said == pytest.approx(room * words / (mean - 2), rel=0.15)
    assert told["memory"]["tokens_of_texts"][-1] <= min(128, p99 + 1)
    batches = list(told["memory"]["batch_sizes"].values())
    assert batches == sorted(batches)
    assert batches[0] > 0


def test_a_probe_measures_what_the_formula_estimates(
    paired: Corpus, knock: Knock, tmp_path: Path
) -> None:
    config = paired.write()
    assert knock("audit", config) == EXIT_DONE
    estimated = report(paired, tmp_path)["memory"]
    assert knock("audit", config, "audit.probe=true", "--force") == EXIT_DONE
    measured = report(paired, tmp_path)["memory"]
    assert "measured" in measured["how"]
    assert "estimated" in estimated["how"]
    assert measured["fixed_bytes"] == estimated["fixed_bytes"]
    assert measured["bytes_a_pair"] == pytest.approx(estimated["bytes_a_pair"], rel=0.5)
