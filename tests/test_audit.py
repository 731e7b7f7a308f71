"""The audit measures what the model will see, and finds defects that were planted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codex_forge.artifact import Artifact, Draft, Recipe, begin, open_artifact
from codex_forge.config.sections import ModelConfig
from codex_forge.errors import EXIT_DONE, EXIT_GATE_NOT_MET
from codex_forge.jsonl import read_json, read_jsonl, write_jsonl
from codex_forge.model import locate
from codex_forge.storage import Store
from tests.conftest import MINILM, Corpus, Knock

Row = dict[str, Any]
PAIRS = "pairs-train.jsonl"


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
    assert (found["verdict"], found["findings"], found["reasons"]) == ("pass", {}, [])
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

    assert (
        knock("audit", config, "model.max_seq_length=40", "audit.max_truncated_share=1", "--force")
        == EXIT_DONE
    )
    assert report(paired, tmp_path)["verdict"] == "pass"


def test_the_share_that_may_be_cut_is_a_border(
    paired: Corpus, knock: Knock, tmp_path: Path
) -> None:
    config = paired.write()
    arguments = ["model.max_seq_length=40", "--force"]
    knock("audit", config, *arguments)
    share = max(kind["truncated_share"] for kind in report(paired, tmp_path)["lengths"].values())
    assert 0 < share < 1
    at = f"audit.max_truncated_share={share!r}"
    below = f"audit.max_truncated_share={share - 1e-6!r}"
    assert knock("audit", config, *arguments, at) == EXIT_DONE
    assert knock("audit", config, *arguments, below) == EXIT_GATE_NOT_MET


def _duplicate(rows: list[Row]) -> int:
    rows.append({**rows[3], "query": rows[3]["query"].upper()})
    return len(rows)


def _query_is_positive(rows: list[Row]) -> int:
    rows[4] = {**rows[4], "query": rows[4]["positive"] + " "}
    return 5


def _empty(rows: list[Row]) -> int:
    rows[4] = {**rows[4], "query": " \n"}
    return 5


def _contradiction(rows: list[Row]) -> int:
    other = next(row for row in rows if row["positive"] != rows[6]["positive"])
    rows.append({**rows[6], "positive": other["positive"], "negatives": [rows[6]["positive"]]})
    return len(rows)


@pytest.mark.parametrize(
    ("kind", "plant"),
    [
        ("duplicate", _duplicate),
        ("query_is_positive", _query_is_positive),
        ("empty", _empty),
        ("contradiction", _contradiction),
    ],
)
def test_a_planted_defect_is_found_at_its_line(
    paired: Corpus, knock: Knock, tmp_path: Path, kind: str, plant: Callable[[list[Row]], int]
) -> None:
    lines: list[int] = []
    tamper(paired, tmp_path, lambda rows: lines.append(plant(rows)))
    config = paired.write()
    assert knock("audit", config) == EXIT_GATE_NOT_MET
    found = findings(paired, tmp_path)
    assert (kind, lines[0]) in {(f["kind"], f["line"]) for f in found}
    assert {f["kind"] for f in found} == {kind}
    told = report(paired, tmp_path)
    assert told["findings"] == {kind: len(found)}
    assert "have a defect" in told["reasons"][0]
    assert knock("audit", config, "audit.max_defect_share=0.5", "--force") == EXIT_DONE
    assert findings(paired, tmp_path) == found


@pytest.mark.parametrize("part", ["test", "dev"])
def test_a_planted_leak_is_found_and_no_share_of_leaks_is_allowed(
    paired: Corpus, knock: Knock, tmp_path: Path, part: str
) -> None:
    held = next(read_jsonl(opened(paired, "pairs", tmp_path).path(f"questions-{part}.jsonl")))

    def plant(rows: list[Row]) -> None:
        rows[2] = {**rows[2], "query": held["question"].lower().rstrip("?") + " !"}

    tamper(paired, tmp_path, plant)
    assert knock("audit", paired.write(), "audit.max_defect_share=1") == EXIT_GATE_NOT_MET
    (found,) = findings(paired, tmp_path)
    assert (found["kind"], found["line"], found["question"]) == ("leak", 3, held["query_id"])
    assert json.dumps(held["question"])[1:-1] in json.dumps(found["detail"])
    assert "near-duplicates of held-out questions" in report(paired, tmp_path)["reasons"][0]
