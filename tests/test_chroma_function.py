"""A collection is asked by its own model alone, with the right prompts, through every door."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codex_forge.artifact import Input
from codex_forge.chroma import (
    ForgeEmbeddingFunction,
    ForgeEmbeddings,
    open_collection,
)
from codex_forge.chroma.place import Place
from codex_forge.config.sections import ModelConfig
from codex_forge.errors import ConfigError, Damaged, InputError
from codex_forge.model.locate import locate
from tests.chroma_world import TEXTS, World
from tests.conftest import MINILM
from tests.tiny_models import some_texts

QUERIES = some_texts(3)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture
def client(world: World) -> Iterator[Any]:
    with closing(Place(world.place)) as place:
        yield place.client


def test_one_line_opens_a_collection_that_embeds_as_its_model_does(world: World) -> None:
    found = open_collection(world.place, "quickstart", folder=world.model)
    answer = found.query(query_texts=QUERIES, n_results=5)
    assert answer["ids"] == world.nearest(QUERIES)
    by_vectors = found.query(query_embeddings=world.vectors(QUERIES, "query"), n_results=5)
    assert np.allclose(answer["distances"], by_vectors["distances"], atol=1e-5)


def test_documents_that_are_added_get_the_document_prompt(world: World) -> None:
    world.embed("grows")
    found = open_collection(world.place, "grows", folder=world.model)
    found.add(ids=["new"], documents=["w7 w8"])
    kept = found.get(ids=["new"], include=["embeddings"])["embeddings"][0]
    assert np.allclose(kept, world.vectors(["w7 w8"], "document")[0], atol=1e-5)
    assert not np.allclose(kept, world.vectors(["w7 w8"], "query")[0], atol=1e-3)


def test_vectors_are_cut_as_those_of_the_collection_are(world: World) -> None:
    world.embed("short", 8)
    found = open_collection(world.place, "short", folder=world.model)
    assert found.query(query_texts=QUERIES, n_results=5)["ids"] == world.nearest(QUERIES, 8)


def test_an_existing_client_takes_the_function(world: World, client: Any) -> None:
    function = ForgeEmbeddingFunction(world.model)
    for get in (client.get_collection, client.get_or_create_collection):
        found = get("quickstart", embedding_function=function)
        assert found.query(query_texts=QUERIES, n_results=5)["ids"] == world.nearest(QUERIES)


def test_another_models_function_is_refused_by_chromadb_itself(world: World, client: Any) -> None:
    other = ForgeEmbeddingFunction(str(world.other.path_of_folder("model")))
    for get in (client.get_collection, client.get_or_create_collection):
        with pytest.raises(ValueError, match="Embedding function conflict"):
            get("quickstart", embedding_function=other)


def test_without_its_model_a_collection_embeds_nothing(world: World, client: Any) -> None:
    with pytest.raises(InputError, match=r"only be embedded by the model.*folder="):
        client.get_collection("quickstart").query(query_texts=["w1"])
    with pytest.raises(InputError, match="only be embedded by the model"):
        open_collection(world.place, "quickstart").query(query_texts=["w1"])


def test_another_models_folder_is_refused(world: World) -> None:
    with pytest.raises(InputError, match=r"made by another model \(quickstart\)"):
        open_collection(world.place, "quickstart", folder=str(world.other.path_of_folder("model")))
    with pytest.raises(ConfigError, match="no such folder"):
        open_collection(world.place, "quickstart", folder="/nowhere")


def test_a_collection_of_ones_own_remembers_its_function(world: World, client: Any) -> None:
    function = ForgeEmbeddingFunction(world.model)
    assert function.get_config() == {
        "model": world.trained.digest,
        "folder": world.model,
        "dimensions": None,
        "query_prompt": "",
        "document_prompt": "",
    }
    own = client.create_collection("own", embedding_function=function)
    own.add(ids=[f"c{n}" for n in range(len(TEXTS))], documents=TEXTS)
    again = client.get_collection("own")
    assert again.query(query_texts=QUERIES, n_results=5)["ids"] == world.nearest(QUERIES)
    assert again.configuration["hnsw"]["space"] == "cosine"


def test_a_folder_that_holds_another_model_now_is_refused(world: World, tmp_path: Path) -> None:
    told = ForgeEmbeddingFunction(world.model).get_config()
    assert ForgeEmbeddingFunction.build_from_config(told).model == told["model"]
    with pytest.raises(InputError, match="holds another model than when"):
        ForgeEmbeddingFunction.build_from_config({**told, "model": "0" * 64})


def test_a_copied_version_is_known_by_its_manifest_and_a_damaged_one_is_refused(
    world: World, tmp_path: Path
) -> None:
    import shutil

    version = Path(world.model).parent
    copy = tmp_path / "v1"
    shutil.copytree(version, copy)
    assert ForgeEmbeddingFunction(str(copy / "model")).model == world.trained.digest
    config = copy / "model" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "x": 1}))
    with pytest.raises(Damaged, match=r"config\.json: is not what manifest\.json"):
        ForgeEmbeddingFunction(str(copy / "model"))
    shutil.copytree(version / "model", tmp_path / "alone")
    with pytest.raises(InputError, match=r"another model.*manifest\.json"):
        open_collection(world.place, "quickstart", folder=str(tmp_path / "alone"))


def test_a_base_model_is_known_by_its_files_and_has_the_configs_prompts(tmp_path: Path) -> None:
    base = locate(ModelConfig(base=MINILM))
    asked = ForgeEmbeddingFunction(MINILM, query_prompt="query: ", document_prompt="passage: ")
    assert asked.model == base.identity.digest
    plain = ForgeEmbeddingFunction(MINILM)
    assert np.allclose(asked.embed_query(["fever"]), plain.embed_query(["query: fever"]), atol=1e-6)
    assert np.allclose(asked(["fever"]), plain(["passage: fever"]), atol=1e-6)
    assert Input("model", MINILM, asked.model, asked.model) == base.identity


def test_langchains_protocol(world: World) -> None:
    embeddings = ForgeEmbeddings(ForgeEmbeddingFunction(world.model))
    documents = embeddings.embed_documents(TEXTS[:2])
    assert np.allclose(documents, world.vectors(TEXTS[:2], "document"), atol=1e-6)
    query = embeddings.embed_query("w9")
    assert np.allclose(query, world.vectors(["w9"], "query")[0], atol=1e-6)
    assert {type(number) for number in [*query, *documents[0]]} == {float}
    assert asyncio.run(embeddings.aembed_query("w9")) == query
    assert asyncio.run(embeddings.aembed_documents(TEXTS[:2])) == documents
