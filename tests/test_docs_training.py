"""The page on training agrees with the code: every YAML block, key, command and table of it."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from codex_forge.artifact import Artifact
from codex_forge.config import RunConfig, keys_of, parse_config
from codex_forge.config.sections import ModelConfig
from codex_forge.config.train import Objective, StageConfig
from codex_forge.errors import ForgeError
from codex_forge.train.data.needs import NEEDS, check
from jobs.__main__ import ASKING, LAUNCHERS, MANY, ORDER
from tests.conftest import ROOT, sample_corpus
from tests.made_pairs import done, made, opened

PAGE = (ROOT / "docs" / "training.md").read_text()
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
SMALLEST = {"name": "abc", "store": "here", "corpus": {"chunks": "c.jsonl"}}
FILES = (".py", ".safetensors")
OF_QUESTIONS = {"temporal_limit"}
KEYS = {key for key, _ in keys_of(RunConfig)}


def config_of(block: str) -> RunConfig:
    """A block of the page, with what it leaves out because every config has it."""
    tree = {**SMALLEST, **yaml.safe_load(block)}
    tree["model"] = {"base": "some-model", **tree.get("model", {})}
    return parse_config(yaml.safe_dump(tree), where="docs/training.md")


def table(header: str) -> list[list[str]]:
    """The cells of the rows of a table, without the marks of code."""
    lines = PAGE.split(f"| {header} |")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


# --- blocks ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> list[Artifact]:
    """Pairs with negatives of a corpus, and scored pairs."""
    folder = tmp_path_factory.mktemp("docs")
    pairs = made(sample_corpus(folder / "corpus"), folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        done("pairs", "configs/incidents.yaml", f"store={folder / 'scored'}")
    return [pairs, opened(folder / "scored", folder, "incidents")]


def trains_on(stages: tuple[StageConfig, ...], artifact: Artifact) -> bool:
    try:
        for stage in stages:
            check(stage, artifact)
    except ForgeError:
        return False
    return True


def test_there_are_blocks() -> None:
    assert len(BLOCKS) > 10
    assert PAGE.count("```yaml") == len(BLOCKS)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_every_block_loads_and_there_are_pairs_that_it_trains_on(
    block: str, artifacts: list[Artifact]
) -> None:
    config = config_of(block)
    given = yaml.safe_load(block)
    assert set(given) <= {"train", "model"}
    assert any(trains_on(config.train.resolved_stages, artifact) for artifact in artifacts)


def test_a_curriculum_and_each_kind_of_first_stage_are_shown() -> None:
    shown = [config_of(block).train.resolved_stages for block in BLOCKS]
    phases = [tuple(stage.phases for stage in stages) for stages in shown]
    assert any(len(stages) == 3 and len(set(stages)) == 3 for stages in phases)
    objectives = {stage.objective for stages in shown for stage in stages}
    assert {"simcse", "cosent", "distill_embedding", "distill_kl"} <= objectives


# --- tables ------------------------------------------------------------------------------------


def test_every_objective_is_told_with_the_data_that_it_needs() -> None:
    rows = table("objective | learns from | when | source")
    assert [row[0] for row in rows] == list(get_args(Objective))
    for name, learns_from, _, _ in rows:
        need = NEEDS[name]  # type: ignore[index]
        begins = {"pairs": "pairs", "texts": "texts alone", "scored": "scored pairs"}[need.kind]
        assert learns_from.startswith("labelled pairs" if need.label == "label" else begins)
        assert ("negative" in learns_from) == need.negatives
        assert ("teachers" in learns_from) == name.startswith("distill_")


def test_every_objective_that_is_told_has_its_source() -> None:
    told = {row[0]: row[3] for row in table("objective | learns from | when | source")}
    assert all(source and (source[-4:].isdigit() or "-" in source) for source in told.values())


def test_the_models_of_the_table_are_sections_of_a_config() -> None:
    rows = table(
        "`model.base` | `query_prompt` | `document_prompt` | tokens | width | code of its own"
    )
    assert len(rows) >= 9
    for base, query, document, tokens, width, code in rows:
        prompts = [ast.literal_eval(text) if text else "" for text in (query, document)]
        ModelConfig(
            base=base,
            query_prompt=prompts[0],
            document_prompt=prompts[1],
            max_seq_length=int(tokens),
            trust_remote_code=code == "yes",
        )
        assert all(text == "" or text.endswith(": ") for text in prompts)
        assert int(width) % 128 == 0
        assert code in ("yes", "no", "not needed")


# --- keys and commands -------------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_key_with_its_section_exists(path: Path) -> None:
    sections = "|".join(RunConfig.model_fields)
    found = re.findall(
        rf"[`\s](({sections})\.[a-z_]+(?:\.[a-z_0-9]+)*)(?=[=:`\s])", path.read_text()
    )
    keys = {key for key, _ in found if not key.endswith(FILES)}
    assert {key for key in keys if not _exists(key)} == set()


def _exists(key: str) -> bool:
    return any(re.match(rf"{re.escape(key)}($|\.|\[)", known) for known in KEYS)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_exists(path: Path) -> None:
    text = path.read_text()
    for name in re.findall(r"-m jobs\.(\w+)", text):
        assert name in {*ORDER, *MANY, *LAUNCHERS, *ASKING}, name
    for override in re.findall(r"-m jobs\.\w+ \S+\.yaml((?: [a-z_.]+=\S+)+)", text):
        for given in override.split():
            assert given.split("=")[0] in KEYS, given
    for config in re.findall(r"configs/(?!mine)\w+\.\w+", text):
        assert (ROOT / config).is_file(), config


def test_bare_keys_of_the_page_are_keys_of_train_or_words_of_it() -> None:
    """What stands in code marks and looks like a key is one, or a value of one."""
    leaves = {key.rsplit(".", 1)[-1] for key in KEYS}
    values = {value for _, field in keys_of(RunConfig) for value in _choices(field.annotation)}
    found = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", PAGE))
    assert found - leaves - values == OF_QUESTIONS


def _choices(kind: Any) -> set[str]:
    inside = get_args(kind)
    return {part for part in inside if isinstance(part, str)}.union(*map(_choices, inside), set())
