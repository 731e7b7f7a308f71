"""The model card: true to the run, valid for hubs, safe with hostile names; its code runs."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from codex_forge.config import RunConfig, parse_config
from codex_forge.config.sections import ModelConfig
from codex_forge.model.encoder import load_base
from codex_forge.model.locate import locate
from codex_forge.train.report.card import card_of, write_card
from codex_forge.train.report.card_facts import facts_of, front_matter, hub_id
from tests.conftest import MINILM

HOSTILE = "</td><script>alert(1)</script> | x | `y` [z](javascript:alert(1))\n# head ![i](u)"
PROMPT = "search`query: "
BASE = {
    "ndcg@10": 0.61, "loss": None, "undefined": {}, "questions": 40, "chunks": 1234,
    "by_domain": {"plain": {"ndcg@10": 0.5, "questions": 30}, HOSTILE: {"questions": 10}},
}  # fmt: skip
TRAINED = {
    "ndcg@10": 0.7, "loss": None, "undefined": {"loss": "x"}, "questions": 40, "chunks": 1234,
    "by_domain": {
        "plain": {"ndcg@10": 0.75, "questions": 30},
        HOSTILE: {"ndcg@10": 0.4, "questions": 10},
    },
}  # fmt: skip
SUMMARY = {
    "stages": [
        {
            "stage": "warm_up",
            "objective": "multiple_negatives_ranking",
            "rows": 12345,
            "steps": 60,
            "epochs": 1.5,
            "final_loss": 0.25,
        }
    ],
    "trainable_parameters": 1000,
    "parameters": 22_000_000,
    "precision": "bf16",
    "device": "cuda:0",
    "ranks": 2,
    "seconds": 61.2,
}


def config(base: str = MINILM, **train: Any) -> RunConfig:
    tree = {
        "name": "my-run_1",
        "store": "/srv/secret-place",
        "corpus": {"chunks": "chunks.jsonl"},
        "model": {"base": base, "query_prompt": PROMPT, "max_seq_length": 100, "device": "cpu"},
        "train": {"matryoshka_dims": [384, 128, 64], "learning_rate": 3e-5, **train},
    }
    return parse_config(json.dumps(tree), where="here")


def facts(**others: Any) -> dict[str, Any]:
    return {
        "name": "my-run_1",
        "base": "/home/alice/models/the-base",
        "base_model": None,
        "from_base": {},
        "dimension": 384,
        "max_seq_length": 100,
        "prompts": {},
        "matryoshka_dims": [],
        "stages": [{**SUMMARY["stages"][0], "learning_rate": 3e-5, "batch_size": 64}],  # type: ignore[index]
        "summary": SUMMARY,
        "seed": 7,
        "counts": {"pairs_train": 1000},
        "verdict": "pass",
        "measures": (BASE, TRAINED),
        **others,
    }


def rows_of(card: str) -> list[list[str]]:
    """The cells of all tables of a card, as a reader of Markdown finds them."""
    found: list[list[str]] = []
    tokens = MarkdownIt("commonmark").enable("table").parse(card)
    for before, token in pairwise(tokens):
        if before.type == "tr_open":
            found.append([])
        if before.type in ("td_open", "th_open"):
            texts = [part.content for part in token.children or () if part.type == "text"]
            found[-1].append("".join(texts))
    return found


def test_a_trained_model_and_its_card_agree(tmp_path: Path) -> None:
    own = config()
    base = locate(own.model).folder
    model = load_base(base, own.model)
    told = facts_of(
        own, model, base, SUMMARY, counts={"pairs_train": 1}, verdict=None, measures=None
    )
    model.save_pretrained(str(tmp_path), create_model_card=False)
    write_card(tmp_path, told)
    card = (tmp_path / "README.md").read_text()
    data = vars(ModelCard(card).data)
    assert (data["license"], data["language"]) == ("apache-2.0", "en")
    assert data["library_name"] == "sentence-transformers"
    assert data["pipeline_tag"] == "sentence-similarity"
    assert data.get("base_model") is None
    assert "into 384 numbers" in card
    assert "first 100 tokens" in card
    assert "`` search`query:  ``" in card
    assert "first 64, 128 numbers" in card
    assert "truncate_dim=128" in card
    assert "`apache-2.0`" in card
    assert "no dev questions" in card
    assert "secret-place" not in card

    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    found: dict[str, Any] = {}
    exec(code.replace("path/to/this/folder", str(tmp_path)), found)
    assert found["scores"].shape == (1, 2)
    assert found["model"].prompts["query"] == PROMPT


def test_stages_measures_and_domains_are_in_tables() -> None:
    rows = rows_of(card_of(facts()))
    assert [
        "warm_up",
        "multiple_negatives_ranking",
        "12,345",
        "60",
        "1.50",
        "64",
        "3e-05",
        "0.2500",
    ] in rows
    assert ["ndcg@10", "0.6100", "0.7000"] in rows
    assert ["loss", "-", "-"] in rows
    assert ["Domain", "Dev", "ndcg@10"] in rows
    assert ["plain", "30", "0.5000 → 0.7500"] in rows
    card = card_of(facts())
    assert "Measured on 40 questions, 1,234 chunks." in card
    assert "Audit of the data: pass." in card
    assert "1,000 trained of 22,000,000; bf16 on cuda:0, ranks: 2, seed 7" in card


def test_names_of_the_data_are_shown_and_never_rendered() -> None:
    card = card_of(facts(prompts={"query": "a\n# b ```\n"}, name="my-run_1"))
    page = MarkdownIt("commonmark").enable("table").render(card.split("---\n", 2)[2])
    for sign in ("<script", "<a ", "<img", "</td><script"):
        assert sign not in page
    assert page.count("<h1>") == 1
    (row,) = (row for row in rows_of(card) if row[0].startswith("</td>"))
    assert row == [" ".join(HOSTILE.split()), "10", "- → 0.4000"]


def test_the_folder_of_a_base_model_stays_private() -> None:
    card = card_of(facts())
    assert "`the-base`" in card
    assert "alice" not in card


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("sentence-transformers/all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"),
        (MINILM, None),
        ("./models/x", None),
        ("/models/x", None),
        ("bert-base", None),
    ],
)
def test_the_front_matter_names_models_of_the_hub_alone(base: str, expected: str | None) -> None:
    assert hub_id(ModelConfig(base=base)) == expected
    card = card_of(facts(base=base, base_model=expected))
    assert vars(ModelCard(card).data).get("base_model") == expected


def test_a_folder_that_looks_like_a_hub_name_is_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "mine").mkdir(parents=True)
    assert hub_id(ModelConfig(base="models/mine")) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("---\nlicense: mit\ntags: [x]\n---\n# Hi", {"license": "mit"}),
        ("---\r\nlicense: other\r\nx: y\r\n---\r\n", {"license": "other"}),
        ("---\nlicense: {a: 1}\n---\n", {}),
        ("---\n: [\n---\n", {}),
        ("---\n- a\n---\n", {}),
        ("# no front matter", {}),
        ("\udcff---\n", {}),
    ],
)  # fmt: skip
def test_the_base_models_licence_is_read_where_it_stands(
    tmp_path: Path, text: str, expected: dict[str, str]
) -> None:
    (tmp_path / "README.md").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert front_matter(tmp_path) == expected


def test_a_card_of_this_card_keeps_the_licence(tmp_path: Path) -> None:
    write_card(tmp_path, facts(from_base={"license": "mit", "language": ["en", "de"]}))
    assert front_matter(tmp_path) == {"license": "mit", "language": ["en", "de"]}
    assert "names none" in card_of(facts())
