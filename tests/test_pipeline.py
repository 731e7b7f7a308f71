"""The whole journey on a small corpus: chunks to verdict, on a folder and on a real S3 server."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from codex_forge.artifact import Artifact, open_artifact
from codex_forge.jsonl import read_json, read_jsonl
from codex_forge.storage import Store
from codex_forge.trec import read_qrels, read_run
from tests.conftest import Knock, run_module, sample_corpus
from tests.servers.s3 import S3Server, make_bucket

STEPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("pairs", ()),
    ("audit", ()),
    ("embed", ("embed.model=base",)),
    ("evaluate", ("embed.model=base",)),
    ("evaluate", ("evaluate.retriever=bm25",)),
    ("train", ()),
    ("embed", ()),
    ("evaluate", ()),
    ("compare", ()),
)
ARTIFACTS = (
    ("pairs", "small"),
    ("audit", "small"),
    ("embed", "small-base"),
    ("evaluate", "small-base"),
    ("evaluate", "small-bm25"),
    ("train", "small"),
    ("embed", "small"),
    ("evaluate", "small"),
    ("compare", "small"),
)


class Pipeline(NamedTuple):
    """A finished run: its config, its store, and a folder for downloads."""

    config: Path
    store: Store
    cache: Path

    def open(self, kind: str, name: str) -> Artifact:
        """One of its artifacts."""
        return open_artifact(self.store, kind, name, self.cache)


def journey(config: Path, *arguments: str) -> None:
    """Run every step in a process of its own, as `make demo` does."""
    from importlib import import_module

    for mode, extra in STEPS:
        code = import_module(f"jobs.{mode}").DOOR.main([str(config), *extra, *arguments])
        assert code == 0, (mode, extra)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    folder = tmp_path_factory.mktemp("journey")
    chroma = {"chroma": {"path": str(folder / "chroma")}}
    config = sample_corpus(folder / "corpus").write(embed=chroma)
    journey(config)
    return Pipeline(config, Store(str(folder / "corpus" / "store")), folder / "cache")


@pytest.fixture(scope="module")
def remote(
    local: Pipeline, s3: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pipeline]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.environment().items():
            patch.setenv(name, value)
        make_bucket(s3, "journey")
        folder = tmp_path_factory.mktemp("remote")
        url = "s3://journey/team/run"
        journey(local.config, f"store={url}", f"embed.chroma.path={folder / 'chroma'}")
        yield Pipeline(local.config, Store(url), folder / "cache")


def test_every_artifact_is_whole_and_says_how_it_was_made(local: Pipeline) -> None:
    for kind, name in ARTIFACTS:
        artifact = local.open(kind, name)
        manifest = artifact.manifest
        assert re.fullmatch("[0-9a-f]{64}", manifest.fingerprint)
        assert manifest.inputs
        assert manifest.config["seed"] == 7
        assert manifest.versions["torch"]
        for file in artifact.files:
            assert artifact.path(file).stat().st_size >= 0
    compared = local.open("compare", "small")
    assert compared.files == ["per_question.csv", "report.html", "report.json", "summary.md"]


def test_a_second_run_does_nothing(local: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(local.store.root)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    journey(local.config)
    after = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    assert before == after
    assert capsys.readouterr().err.count("already done") == len(STEPS)


def test_s3_gives_the_same_fingerprints_and_numbers(local: Pipeline, remote: Pipeline) -> None:
    for kind, name in ARTIFACTS:
        here, there = local.open(kind, name), remote.open(kind, name)
        assert here.manifest.fingerprint == there.manifest.fingerprint, (kind, name)
        assert here.digest == there.digest, (kind, name)
    reports = [read_json(p.open("compare", "small").path("report.json")) for p in (local, remote)]
    for key in ("metrics", "slices", "verdict", "tier", "smallest_detectable"):
        assert reports[0][key] == reports[1][key]


def test_runs_can_be_scored_by_another_tool(local: Pipeline) -> None:
    """ranx reads our run and qrels files and comes to our numbers."""
    import ranx

    qrels = ranx.Qrels.from_file(str(local.open("pairs", "small").path("qrels-test.tsv")), "trec")
    theirs = {"recall@1": "recall@1", "recall@5": "recall@5", "ndcg@10": "ndcg@10"}
    for name in ("small", "small-base", "small-bm25"):
        artifact = local.open("evaluate", name)
        run = ranx.Run.from_file(str(artifact.path("run.trec")), "trec")
        found = ranx.evaluate(
            qrels, run, [*theirs.values(), "mrr@10", "map@100"], make_comparable=True
        )
        ours = read_json(artifact.path("report.json"))["metrics"]
        for measure, other in {**theirs, "mrr@10": "mrr@10", "map": "map@100"}.items():
            assert ours[measure] == pytest.approx(found[other], abs=1e-6), (name, measure)


def test_the_rubric_can_be_worked_out_by_hand(local: Pipeline) -> None:
    """Ten questions, from the run file, the chunks and the index alone."""
    config = json.loads(json.dumps(read_config(local)))
    chunks = {chunk_key(c): c for c in map(json.loads, open_lines(config["corpus"]["chunks"]))}
    index = json.loads(Path(config["corpus"]["indexes"]).read_text())
    names = [[e["primary_name"], *e["aliases"]] for e in index.values()]
    run = read_run(local.open("evaluate", "small").path("run.trec"))
    rows = list(read_jsonl(local.open("evaluate", "small").path("per_question.jsonl")))
    for row in random.Random(5).sample(rows, 10):
        texts = [chunks[chunk] for chunk, _ in run[row["query_id"]][:5]]
        found = sum(
            any(covers(text, forms_of(topic, names)) for text in texts)
            for topic in row["expected_topics"]
        )
        score = 5 * found / len(row["expected_topics"])
        assert row["measures"]["rubric"] == pytest.approx(score), row["question"]


def read_config(pipeline: Pipeline) -> Any:
    import yaml

    return yaml.safe_load(pipeline.config.read_text())


def open_lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def chunk_key(chunk: Mapping[str, Any]) -> str:
    from codex_forge.corpus import chunk_id_of

    return chunk_id_of(chunk["filename"], chunk["text"])


def forms_of(topic: str, names: list[list[str]]) -> set[str]:
    """The topic and the names of what it names; a name of two entities stands for none."""
    lowered = [{name.lower() for name in group} for group in names]
    forms = {topic.lower()}
    for group in lowered:
        if topic.lower() in group:
            forms |= {name for name in group if sum(name in other for other in lowered) == 1}
    return forms


def covers(chunk: Mapping[str, Any], forms: set[str]) -> bool:
    text = "\n".join([chunk["text"], *chunk["concept_mentions"]]).lower()
    return any(re.search(rf"(?<!\w){re.escape(form)}(?!\w)", text) for form in forms)


def test_qrels_name_chunks_of_the_corpus(local: Pipeline) -> None:
    pairs = local.open("pairs", "small")
    qrels = read_qrels(pairs.path("qrels-test.tsv"))
    questions = {row["query_id"] for row in read_jsonl(pairs.path("questions-test.jsonl"))}
    known = {
        chunk_key(json.loads(line)) for line in open_lines(read_config(local)["corpus"]["chunks"])
    }
    assert qrels.keys() == questions
    assert all(chunk in known for grades in qrels.values() for chunk in grades)


def test_the_model_folder_is_one_that_the_library_loads(local: Pipeline) -> None:
    from sentence_transformers import SentenceTransformer

    train = local.open("train", "small")
    model = SentenceTransformer(str(train.path_of_folder("model")), device="cpu")
    assert model.encode_query(["a question"]).shape == (1, 384)
    assert not [name for name in train.files if name.endswith((".bin", ".pt", ".pkl"))]
    history = list(read_jsonl(train.path("metrics.jsonl")))
    assert [entry["step"] for entry in history if "loss" in entry] == [1, 2, 3]
    summary = read_json(train.path("metadata.json"))
    assert summary["steps"] == 3
    assert all(math.isfinite(summary[key]) for key in ("first_loss", "final_loss"))
    assert "<svg" in train.path("loss.svg").read_text()
    assert "step 3 of 3" in train.path("training.log").read_text()


def test_training_changed_the_vectors_and_the_collections_differ(local: Pipeline) -> None:
    import numpy as np

    from codex_forge.chroma import open_collection
    from codex_forge.embeddings import vectors
    from codex_forge.errors import InputError

    base, tuned = local.open("embed", "small-base"), local.open("embed", "small")
    ids, before = vectors(base)
    same_ids, after = vectors(tuned)
    assert ids == same_ids
    assert float(np.abs(before - after).max()) > 1e-4
    assert np.allclose(np.linalg.norm(after, axis=1), 1.0, atol=1e-4)
    path = read_config(local)["embed"]["chroma"]["path"]
    model = tuned.manifest.inputs["model"].digest
    assert open_collection(path, "small", model).count() == len(ids)
    with pytest.raises(InputError, match="another model"):
        open_collection(path, "small-base", model)


def test_a_lost_collection_is_made_again_from_parquet(
    local: Pipeline, knock: Knock, tmp_path: Path
) -> None:
    from codex_forge.chroma import open_collection

    elsewhere = str(tmp_path / "chroma")
    assert knock("embed", local.config, f"embed.chroma.path={elsewhere}") == 0
    assert (
        open_collection(elsewhere, "small").count() == local.open("embed", "small").counts["chunks"]
    )


def test_shards_together_equal_one_piece(
    local: Pipeline, knock: Knock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    from codex_forge.embeddings import vectors

    store = tmp_path / "store"
    shutil_copy(Path(local.store.root) / "train", store / "train")
    arguments = (f"store={store}", "embed.chroma.path=null", "--shards", "3")
    for index in (2, 0, 1):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
        assert knock("embed", local.config, *arguments) == 0
    found = open_artifact(Store(str(store)), "embed", "small", tmp_path)
    ids, values = vectors(found)
    whole_ids, whole = vectors(local.open("embed", "small"))
    order = {chunk: i for i, chunk in enumerate(whole_ids)}
    assert sorted(ids) == sorted(whole_ids)
    assert np.allclose(values, whole[[order[i] for i in ids]], atol=1e-5)


def shutil_copy(source: Path, target: Path) -> None:
    import shutil

    shutil.copytree(source, target)


def test_train_asks_for_a_passed_audit(
    local: Pipeline, knock: Knock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    shutil_copy(Path(local.store.root) / "pairs", store / "pairs")
    assert knock("train", local.config, f"store={store}") == 2
    assert "run python -m jobs.audit" in capsys.readouterr().err
    short = f"store={store}", "model.max_seq_length=16"
    assert knock("audit", local.config, *short) == 3
    assert knock("train", local.config, *short) == 3
    assert not (store / "train").exists()


def test_another_setting_is_refused_and_named(
    local: Pipeline, capsys: pytest.CaptureFixture[str], knock: Knock
) -> None:
    assert knock("train", local.config, "train.learning_rate=1e-4") == 2
    error = capsys.readouterr().err
    assert "train.learning_rate was 2e-05, now 0.0001" in error
    assert "--force" in error


def test_a_changed_corpus_is_not_mixed_with_old_vectors(
    local: Pipeline, knock: Knock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = read_config(local)
    changed = tmp_path / "chunks.jsonl"
    lines = open_lines(config["corpus"]["chunks"])
    changed.write_text("\n".join(lines[:-1]) + "\n")
    assert knock("evaluate", local.config, f"corpus.chunks={changed}") == 2
    assert "was made from other chunks" in capsys.readouterr().err


def test_compare_ends_with_the_verdict(local: Pipeline) -> None:
    ended = run_module("jobs.compare", str(local.config))
    assert ended.returncode == 0, ended.stderr
    report = read_json(local.open("compare", "small").path("report.json"))
    numbers = report["metrics"]["rubric"]
    assert f"{numbers['baseline']:.2f}/5" in ended.stdout
    assert f"{numbers['candidate']:.2f}/5" in ended.stdout
    assert report["verdict"] in ended.stdout
    assert "report.html" in ended.stdout
    low, high = numbers["ci_low"], numbers["ci_high"]
    assert low <= numbers["difference"] <= high
    expected = "improved" if low > 0 else "worse" if high < 0 else "unchanged"
    assert report["verdict"] == expected
    for side, name in (("baseline", "small-base"), ("candidate", "small")):
        evaluated = read_json(local.open("evaluate", name).path("report.json"))["metrics"]
        for measure, value in evaluated.items():
            assert report["metrics"][measure][side] == pytest.approx(value, abs=1e-6)


def test_the_gate_speaks_through_the_exit_code(
    local: Pipeline, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = ("compare.gate.enforce=true", "compare.gate.min_tier=excellent")
    report = read_json(local.open("compare", "small").path("report.json"))
    expected = 0 if report["tier"] == "excellent" and report["verdict"] == "improved" else 3
    assert knock("compare", local.config, *gate) == expected


def test_no_secret_reaches_an_artifact(remote: Pipeline, s3: S3Server) -> None:
    for path in remote.store.list("compare"):
        assert s3.secret_key.encode() not in remote.store.read(path)
    for kind, name in ARTIFACTS:
        for path in remote.store.list(f"{kind}/{name}"):
            if path.endswith(".json"):  # manifests and leases
                told = remote.store.read(path)
                assert s3.secret_key.encode() not in told
                assert s3.access_key.encode() not in told


def test_a_model_is_not_scored_on_another_split(
    local: Pipeline, knock: Knock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    shutil_copy(Path(local.store.root), store)
    other = (f"store={store}", "seed=8", "--force")
    assert knock("pairs", local.config, *other) == 0
    assert knock("evaluate", local.config, *other) == 2
    assert "trained on other pairs" in capsys.readouterr().err


def test_a_collection_of_another_tool_is_left_alone(
    local: Pipeline, knock: Knock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import chromadb
    from chromadb.config import Settings

    path = str(tmp_path / "chroma")
    client = chromadb.PersistentClient(path, settings=Settings(anonymized_telemetry=False))
    theirs = client.create_collection("small", embedding_function=None)
    theirs.add(ids=["a"], embeddings=[[1.0, 2.0]])
    assert knock("embed", local.config, f"embed.chroma.path={path}") == 2
    assert "was not made by codex-forge" in capsys.readouterr().err
    assert theirs.count() == 1
