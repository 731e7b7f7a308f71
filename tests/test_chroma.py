"""A collection becomes equal to its embed artifact: in place, beside, after a crash, by shards."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codex_forge.chroma import TOKEN_VARIABLE, facts_of, keep_collection, open_collection
from codex_forge.chroma import write_shard as write_some
from codex_forge.chroma.place import Place
from codex_forge.chroma.rows import DIGEST, in_slices
from codex_forge.config.sections import ChromaConfig, EmbedConfig
from codex_forge.embeddings import batches
from codex_forge.errors import ConfigError, InputError, StorageDown
from codex_forge.storage.faults import PATIENCE_VARIABLE
from tests.conftest import ROOT
from tests.exact_dense import ExactDense
from tests.made_embeddings import Row, embedded, read_batches, some_rows, told, write_rows
from tests.servers.chat_server import chat_server
from tests.servers.chroma_server import ChromaServer, chroma_server, token_gate

COUNT = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromaServer]:
    with chroma_server(tmp_path_factory.mktemp("chroma")) as found:
        yield found


@pytest.fixture
def place(tmp_path: Path) -> str:
    return str(tmp_path / "chroma")


@pytest.fixture(params=["folder", "server"])
def any_place(request: pytest.FixtureRequest, place: str, server: ChromaServer) -> str:
    return place if request.param == "folder" else server.url


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Each test's own: they share a server."""
    return request.node.name.replace("[", "-").replace("]", "")[:60].rstrip("-_")  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def _logs(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.INFO, "codex_forge")
    monkeypatch.setenv(PATIENCE_VARIABLE, "0")


def config(place: str, batch_size: int = 7, **options: Any) -> EmbedConfig:
    where = "url" if place.startswith("http") else "path"
    chroma = ChromaConfig(**{where: place, "batch_size": batch_size})
    return EmbedConfig(chroma=chroma, **options)


@contextmanager
def client_of(place: str) -> Iterator[Any]:
    with closing(Place(place)) as found:
        yield found.client


def names_of(place: str, name: str) -> set[str]:
    with client_of(place) as client:
        found = {each.name for each in client.list_collections()}
    return {each for each in found if each == name or each.startswith(f"{name}.")}


def content(collection: Any) -> dict[str, tuple[str, dict[str, Any], list[float]]]:
    """All that a reader can see of the rows."""
    rows = collection.get(include=["documents", "metadatas", "embeddings"])
    columns = (rows["ids"], rows["documents"], rows["metadatas"], rows["embeddings"])
    return {
        key: (text, metadata, [round(float(number), 5) for number in vector])
        for key, text, metadata, vector in zip(*columns, strict=True)
    }


def test_every_row_is_there_with_its_text_metadata_and_vector(
    any_place: str, name: str, tmp_path: Path
) -> None:
    rows = some_rows(COUNT)
    artifact = embedded(tmp_path, rows, name)
    keep_collection(config(any_place), artifact)
    found = content(open_collection(any_place, name, model="model-1"))
    assert len(found) == COUNT
    for row in rows:
        text, metadata, vector = found[row.chunk_id]
        assert metadata.pop(DIGEST)
        assert (text, metadata) == (row.text, told(row))
        assert np.allclose(vector, row.vector, atol=1e-5)


def test_a_collection_says_what_made_it(place: str, tmp_path: Path) -> None:
    said = {"model.query_prompt": "q: ", "model.document_prompt": "d: "}
    artifact = embedded(tmp_path, some_rows(4), dtype="int8", **said)
    keep_collection(config(place, dtype="int8"), artifact)
    facts = facts_of(open_collection(place, "small"))
    assert facts is not None
    assert (facts.model, facts.model_name, facts.embeddings) == (
        "model-1", "a-model", artifact.digest,
    )  # fmt: skip
    assert (facts.query_prompt, facts.document_prompt) == ("q: ", "d: ")
    assert (facts.dtype, facts.dimension, facts.rows, facts.unfinished) == ("int8", 16, 4, False)


def test_a_query_finds_what_exact_search_finds(place: str, tmp_path: Path) -> None:
    rows = some_rows(COUNT)
    keep_collection(config(place), embedded(tmp_path, rows))
    found = open_collection(place, "small")
    exact = ExactDense([row.chunk_id for row in rows], np.stack([row.vector for row in rows]))
    for query in (row.vector for row in some_rows(10, seed=9)):
        theirs = found.query(query_embeddings=[query], n_results=10)
        ours = exact.search(query, 10)
        assert theirs["ids"][0] == [key for key, _ in ours]
        assert theirs["distances"][0] == pytest.approx([1 - score for _, score in ours], abs=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "int8", "binary"])
def test_vectors_of_every_type_are_kept_as_readers_get_them(
    place: str, tmp_path: Path, dtype: str
) -> None:
    artifact = embedded(tmp_path, some_rows(9), dtype=dtype)
    keep_collection(config(place, dtype=dtype), artifact)
    found = content(open_collection(place, "small"))
    for batch in batches(artifact):
        for key, vector in zip(
            batch.column("chunk_id").to_pylist(), batch.column("vector").to_pylist(), strict=True
        ):
            assert np.allclose(found[key][2], vector, atol=1e-5)


# --- changes -----------------------------------------------------------------------------------


def changed(rows: list[Row]) -> list[Row]:
    """Every sort of change: 40 rows stay, 6 differ, 5 are new, 14 are gone."""
    other = [
        rows[40]._replace(text="another text", seed=500),
        rows[41]._replace(metadata={"page": 41}),
        rows[42]._replace(metadata={**rows[42].metadata, "more": True}),
        rows[43]._replace(metadata={"page": "forty-three", "kind": 2.5}),
        rows[44]._replace(seed=501),
        rows[45]._replace(metadata={}),
    ]
    return [*some_rows(65)[60:], *rows[:40], *other]


def test_only_what_differs_is_written_and_the_end_is_that_of_a_rebuild(
    any_place: str, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = some_rows(COUNT)
    keep_collection(config(any_place), embedded(tmp_path, rows, name))
    before = open_collection(any_place, name).id
    artifact = embedded(tmp_path, changed(rows), name)
    keep_collection(config(any_place), artifact)
    assert "11 rows written, 14 removed, 40 unchanged" in caplog.text
    found = open_collection(any_place, name)
    assert found.id == before, "in place"

    rebuilt = str(tmp_path / "rebuilt")
    keep_collection(config(rebuilt), artifact)
    whole = open_collection(rebuilt, name)
    assert content(found) == content(whole)
    assert found.metadata == whole.metadata
    near = [row.vector for row in some_rows(5, seed=7)]
    asked = [one.query(query_embeddings=near, n_results=5)["ids"] for one in (found, whole)]
    assert asked[0] == asked[1]


def test_a_second_time_nothing_is_read(
    any_place: str, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    artifact = embedded(tmp_path, some_rows(COUNT), name)
    keep_collection(config(any_place), artifact)
    for path in (tmp_path / "store").rglob("*.parquet"):
        path.unlink()
    keep_collection(config(any_place), artifact)
    assert "is up to date" in caplog.text


def test_another_models_vectors_take_the_place_of_the_old_ones(
    any_place: str, name: str, tmp_path: Path
) -> None:
    keep_collection(config(any_place), embedded(tmp_path, some_rows(COUNT), name))
    before = open_collection(any_place, name, "model-1").id
    rows = some_rows(50, "other", 3)
    keep_collection(config(any_place), embedded(tmp_path, rows, name, "model-2"))
    found = open_collection(any_place, name, "model-2")
    assert found.id != before
    assert {text for text, _, _ in content(found).values()} == {row.text for row in rows}
    assert names_of(any_place, name) == {name}


def test_lost_rows_are_written_again(
    place: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    artifact = embedded(tmp_path, some_rows(COUNT))
    keep_collection(config(place), artifact)
    open_collection(place, "small").delete(ids=["c0003"])
    keep_collection(config(place), artifact)
    assert "1 rows written, 0 removed, 59 unchanged" in caplog.text
    assert open_collection(place, "small").count() == COUNT


def test_two_collections_live_side_by_side(place: str, tmp_path: Path) -> None:
    keep_collection(config(place), embedded(tmp_path, some_rows(COUNT)))
    keep_collection(config(place), embedded(tmp_path, some_rows(5), "small.unfinished"))
    assert open_collection(place, "small").count() == COUNT
    assert open_collection(place, "small.unfinished").count() == 5


# --- interruptions -----------------------------------------------------------------------------


def damage_second_half(folder: Path) -> None:
    """The reader stops there, as a job does that is killed."""
    path = max((folder / "store").rglob("part-1.parquet"), key=str)
    path.write_bytes(b"x" + path.read_bytes()[1:])


def test_a_stop_in_the_middle_is_told_and_the_next_run_completes_it(
    any_place: str, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = some_rows(COUNT)
    keep_collection(config(any_place), embedded(tmp_path, rows, name))
    later = [row._replace(text=f"new {row.text}") for row in rows]
    broken = embedded(tmp_path, later, name)
    damage_second_half(tmp_path)
    with pytest.raises(InputError, match="not what the manifest promises"):
        keep_collection(config(any_place), broken)
    half = open_collection(any_place, name)
    assert "rows are being changed" in caplog.text
    facts = facts_of(half)
    assert facts is not None
    assert facts.unfinished
    assert half.count() == COUNT
    assert sum(text.startswith("new") for text, _, _ in content(half).values()) == COUNT / 2

    caplog.clear()
    keep_collection(config(any_place), embedded(tmp_path, later, name))
    assert "30 rows written, 0 removed, 30 unchanged" in caplog.text
    whole = open_collection(any_place, name)
    assert all(text.startswith("new") for text, _, _ in content(whole).values())
    assert "rows are being changed" not in caplog.text


def test_a_stop_while_another_model_is_filled_in_leaves_the_old_rows(
    any_place: str, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keep_collection(config(any_place), embedded(tmp_path, some_rows(COUNT), name))
    before = content(open_collection(any_place, name))
    rows = some_rows(COUNT, "other", 4)
    broken = embedded(tmp_path, rows, name, "model-2")
    damage_second_half(tmp_path)
    with pytest.raises(InputError, match="not what the manifest promises"):
        keep_collection(config(any_place), broken)
    assert content(open_collection(any_place, name, "model-1")) == before
    assert len(names_of(any_place, name)) == 2

    keep_collection(config(any_place), embedded(tmp_path, rows, name, "model-2"))
    assert "30 rows written, 0 removed, 30 unchanged" in caplog.text
    assert open_collection(any_place, name, "model-2").count() == COUNT
    assert names_of(any_place, name) == {name}


def test_a_server_that_dies_in_the_middle_is_named_and_the_rest_is_written_later(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = some_rows(COUNT)
    some = read_batches(write_rows(tmp_path / "rows.parquet", rows))
    with chroma_server(tmp_path / "own") as server:
        embed = config(server.url)

        def dying() -> Iterator[Any]:
            yield some[0]
            server.stop()
            yield from some[1:]

        with pytest.raises(StorageDown, match="does not answer") as down:
            write_some(embed, name, "key", "model-1", dying())
        assert server.url in str(down.value)
        artifact = embedded(tmp_path, rows, name)
        with pytest.raises(StorageDown, match="the Parquet is safe; run the same command again"):
            keep_collection(embed, artifact)
        server.start()
        keep_collection(embed, artifact)
        assert "35 rows written, 0 removed, 25 unchanged" in caplog.text
        assert open_collection(server.url, name, "model-1").count() == COUNT


# --- shards ------------------------------------------------------------------------------------

SHARD = """
import sys
from codex_forge.chroma import write_shard
from codex_forge.config.sections import ChromaConfig, EmbedConfig
from tests.made_embeddings import read_batches
from pathlib import Path
url, name, path = sys.argv[1:]
embed = EmbedConfig(chroma=ChromaConfig(url=url, batch_size=5))
write_shard(embed, name, "key", "model-1", read_batches(Path(path)))
"""


def test_shards_write_side_by_side_and_the_last_one_only_checks(
    server: ChromaServer, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = some_rows(COUNT)
    parts = [write_rows(tmp_path / f"{n}.parquet", rows[n::2]) for n in (0, 1)]
    shards = [
        subprocess.Popen([sys.executable, "-c", SHARD, server.url, name, str(part)], cwd=ROOT)
        for part in parts
    ]
    assert [shard.wait(60) for shard in shards] == [0, 0]
    assert name not in names_of(server.url, name), "no reader sees half of the rows"
    artifact = embedded(tmp_path, rows, name)
    keep_collection(config(server.url), artifact)
    assert "0 rows written, 0 removed, 60 unchanged" in caplog.text
    assert open_collection(server.url, name, "model-1").count() == COUNT
    assert names_of(server.url, name) == {name}


def test_jobs_that_finish_at_once_do_each_other_no_harm(
    server: ChromaServer, name: str, tmp_path: Path
) -> None:
    for model in ("model-1", "model-2"):
        rows = some_rows(COUNT, model, len(model))
        artifact = embedded(tmp_path, rows, name, model)
        with ThreadPoolExecutor(3) as pool:
            jobs = [
                pool.submit(keep_collection, config(server.url, 20), artifact) for _ in range(3)
            ]
        assert [job.result() for job in jobs] == [None, None, None]
        found = open_collection(server.url, name, model)
        assert {text for text, _, _ in content(found).values()} == {row.text for row in rows}
        assert names_of(server.url, name) == {name}


def test_a_shard_that_comes_late_or_again_changes_nothing(
    server: ChromaServer, name: str, tmp_path: Path
) -> None:
    rows = some_rows(COUNT)
    keep_collection(config(server.url), embedded(tmp_path, rows, name))
    before = content(open_collection(server.url, name))
    some = read_batches(write_rows(tmp_path / "rows.parquet", rows))
    write_some(config(server.url), name, "key", "model-1", some)
    assert names_of(server.url, name) == {name}
    assert content(open_collection(server.url, name)) == before


def test_shards_of_another_model_leave_the_old_rows_until_the_artifact_is_whole(
    server: ChromaServer, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keep_collection(config(server.url), embedded(tmp_path, some_rows(COUNT), name))
    rows = some_rows(COUNT, "other", 2)
    some = read_batches(write_rows(tmp_path / "rows.parquet", rows[:20]))
    for _ in range(2):
        write_some(config(server.url), name, "key", "model-2", some)
    assert open_collection(server.url, name, "model-1").count() == COUNT
    keep_collection(config(server.url), embedded(tmp_path, rows, name, "model-2"))
    assert "40 rows written, 0 removed, 20 unchanged" in caplog.text


def test_a_collection_taken_away_under_a_shard_is_left_to_the_last_one(
    server: ChromaServer, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    some = read_batches(write_rows(tmp_path / "rows.parquet", some_rows(COUNT)))

    def taken_away() -> Iterator[Any]:
        yield some[0]
        (beside,) = names_of(server.url, name)
        with client_of(server.url) as client:
            client.delete_collection(beside)
        yield from some[1:]

    write_some(config(server.url), name, "key", "model-1", taken_away())
    assert "by another job" in caplog.text
    assert names_of(server.url, name) == set()


def test_a_folder_has_one_writer_so_shards_write_nothing(place: str, tmp_path: Path) -> None:
    some = iter(read_batches(write_rows(tmp_path / "rows.parquet", some_rows(COUNT))))
    write_some(config(place), "small", "key", "model-1", some)
    assert len(list(some)) == 3
    assert not Path(place).exists()


# --- limits and refusals -----------------------------------------------------------------------


def test_more_rows_than_the_database_takes_at_once(place: str, tmp_path: Path) -> None:
    with client_of(place) as client:
        most = client.get_max_batch_size()
    rows = [Row(f"c{i}", "t", {}, i % 50) for i in range(most + 100)]
    keep_collection(config(place, batch_size=10 * most), embedded(tmp_path, rows))
    assert open_collection(place, "small").count() == most + 100
    keep_collection(config(place), embedded(tmp_path, rows[:50]))
    assert open_collection(place, "small").count() == 50


def test_long_texts_go_in_several_requests(tmp_path: Path) -> None:
    rows = [Row(f"c{i}", "x" * 1_000_000, {}, i) for i in range(20)]
    (batch,) = read_batches(write_rows(tmp_path / "rows.parquet", rows))
    slices = list(in_slices([batch], 2000))
    assert [len(some.ids) for some in slices] == [8, 8, 4]
    assert [key for some in slices for key in some.ids] == [row.chunk_id for row in rows]


def test_another_model_and_a_missing_collection_are_refused(place: str, tmp_path: Path) -> None:
    keep_collection(config(place), embedded(tmp_path, some_rows(5)))
    with pytest.raises(InputError, match=r"made by another model \(a-model\)"):
        open_collection(place, "small", model="model-2")
    assert open_collection(place, "small").count() == 5
    with pytest.raises(InputError, match=r"no such Chroma collection.*jobs\.embed"):
        open_collection(place, "large", model="model-1")


def test_another_tools_collection_is_left_alone(
    server: ChromaServer, name: str, tmp_path: Path
) -> None:
    artifact = embedded(tmp_path, some_rows(5), name)
    some = read_batches(write_rows(tmp_path / "rows.parquet", some_rows(5)))
    with client_of(server.url) as client:
        theirs = client.create_collection(name, embedding_function=None)
        theirs.add(ids=["a"], embeddings=[[1.0, 2.0]])
        with pytest.raises(InputError, match="was not made by codex-forge"):
            keep_collection(config(server.url), artifact)
        with pytest.raises(InputError, match="was not made by codex-forge"):
            write_some(config(server.url), name, "key", "model-1", some)
        assert theirs.count() == 1


def test_a_place_that_is_no_database_is_refused(tmp_path: Path) -> None:
    artifact = embedded(tmp_path, some_rows(5))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "chroma.sqlite3").write_text("not a database")
    with pytest.raises(InputError, match="not usable as a ChromaDB folder"):
        keep_collection(config(str(tmp_path / "bad")), artifact)
    with chat_server() as other, pytest.raises(InputError, match="is no Chroma server"):
        keep_collection(config(other.url), artifact)
    with pytest.raises(InputError, match="is no usable URL"):
        open_collection("http://host:no-port", "small")


def test_a_token_comes_from_the_environment_and_is_never_said(
    server: ChromaServer,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    artifact = embedded(tmp_path, some_rows(5), name)
    with token_gate(server.url, "right-token") as url:
        for wrong in ("", "wrong-token"):
            monkeypatch.setenv(TOKEN_VARIABLE, wrong)
            with pytest.raises(InputError, match=f"refuses access.*{TOKEN_VARIABLE}") as refused:
                keep_collection(config(url), artifact)
            assert "wrong-token" not in str(refused.value)
        monkeypatch.setenv(TOKEN_VARIABLE, "no token")
        with pytest.raises(ConfigError, match="holds signs that no token has"):
            keep_collection(config(url), artifact)
        monkeypatch.setenv(TOKEN_VARIABLE, "right-token")
        keep_collection(config(url), artifact)
        assert open_collection(url, name, "model-1").count() == 5
    assert "right-token" not in caplog.text
