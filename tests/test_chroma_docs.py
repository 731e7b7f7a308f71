"""Every block of the page on RAG systems does what the page says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from codex_forge.config import parse_config
from tests.chroma_world import TEXTS, World
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "rag.md").read_text()
QUESTION = "What is bilirubin encephalopathy?"
SMALLEST = {"name": "abc", "store": "here", "corpus": {"chunks": "c"}, "model": {"base": "m"}}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


CODE, CONFIGS = blocks("python"), blocks("yaml")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture
def alone() -> Iterator[None]:
    """Clients of the last block may hold the folder with other settings."""
    from chromadb.api.shared_system_client import SharedSystemClient

    yield
    SharedSystemClient.clear_system_cache()


def texts_of(found: Any) -> list[str]:
    """Of ChromaDB's answer, LangChain's documents, or LlamaIndex's nodes."""
    if isinstance(found, dict):
        return list(found["documents"][0])
    return [each.page_content if hasattr(each, "page_content") else each.text for each in found]


def test_there_are_blocks() -> None:
    assert len(CODE) == 5
    assert PAGE.count("```") == 2 * (len(CODE) + len(CONFIGS))


@pytest.mark.parametrize("block", CODE, ids=range(len(CODE)))
def test_every_block_of_code_finds_the_nearest_chunks(
    block: str, world: World, alone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("langchain_chroma", "llama_index.vector_stores.chroma"):
        if package in block:
            pytest.importorskip(package)
    monkeypatch.chdir(world.folder)
    names: dict[str, Any] = {"__name__": "block"}
    exec(compile(block, "docs/rag.md", "exec"), names)
    nearest = [TEXTS[int(key[1:])] for key in world.nearest([QUESTION])[0][:3]]
    assert texts_of(names["found"]) == nearest


@pytest.mark.parametrize("block", CONFIGS, ids=range(len(CONFIGS)))
def test_every_block_of_a_config_loads(block: str) -> None:
    tree = {**SMALLEST, **yaml.safe_load(block)}
    assert parse_config(yaml.safe_dump(tree), where="docs/rag.md").embed


@pytest.mark.parametrize("name", re.findall(r"CODEX_FORGE_[A-Z_]+", PAGE))
def test_every_variable_is_one_that_is_read(name: str) -> None:
    files = Path(ROOT / "codex_forge").rglob("*.py")
    assert any(f'"{name}"' in file.read_text() for file in files)
