"""What `embed` encodes again after the corpus has changed, and what determines its artifact."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from codex_forge import embeddings
from codex_forge.artifact import Artifact, open_artifact
from codex_forge.config import load_config
from codex_forge.errors import ConfigError, InputError
from codex_forge.model.in_use import find_model, load_encoder, model_of, precision_of
from codex_forge.storage import Store
from tests.conftest import Knock
from tests.kill import killed_at
from tests.tiny_models import WORDS, tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")

NEAR = 1e-6
"""1 - cosine: a text beside others is padded otherwise, which moves the last bits."""
Chunks = list[dict[str, Any]]


@dataclass
class World:
    """A corpus of a hundred short chunks, a tiny base model, a store."""

    folder: Path
    knock: Knock
    chunks: Chunks

    def embed(self, *arguments: str, chunks: Chunks | None = None, code: int = 0) -> Artifact:
        """Run the mode, on these chunks if any are given; returns what is there then."""
        if chunks is not None:
            self.chunks = chunks
        lines = [json.dumps(chunk) for chunk in self.chunks]
        (self.folder / "chunks.jsonl").write_text("\n".join(lines) + "\n")
        assert self.knock("embed", self.config, *arguments) == code
        return self.open()

    def open(self) -> Artifact:
        return open_artifact(Store(str(self.folder / "store")), "embed", "small-base", self.folder)

    @property
    def config(self) -> Path:
        path = self.folder / "run.yaml"
        tree = {
            "name": "small",
            "store": str(self.folder / "store"),
            "corpus": {"chunks": str(self.folder / "chunks.jsonl")},
            "model": {"base": str(self.folder / "model"), "device": "cpu"},
            "embed": {"model": "base", "rows_per_block": 16},
        }
        path.write_text(yaml.safe_dump(tree))
        return path


@pytest.fixture
def world(tmp_path: Path, knock: Knock) -> World:
    tiny_model("Bert", tmp_path / "parts").save_pretrained(str(tmp_path / "model"))
    dice = random.Random(5)
    texts = [" ".join(dice.choices(WORDS, k=dice.randint(3, 40))) for _ in range(94)]
    texts[10:10] = texts[:6]  # repeats in one block, so of the same bits
    chunks = [{"text": text, "filename": f"{n}.md"} for n, text in enumerate(texts)]
    return World(tmp_path, knock, chunks)


def edited(chunks: Chunks) -> Chunks:
    """One text changed, one file renamed, one chunk removed, two added in the middle."""
    found = [dict(chunk) for chunk in chunks]
    found[3]["text"] += " w1 w2"
    found[20]["filename"] = "renamed.md"
    new = [{"text": f"w5 w6 w{n}", "filename": f"new{n}.md"} for n in (7, 8)]
    return [*found[:40], *new, *found[41:]]


CHANGED = 3


ById = dict[str, Any]


def vectors_by_id(artifact: Artifact) -> ById:
    ids, vectors = embeddings.vectors(artifact)
    return dict(zip(ids, vectors, strict=True))


def of_both(one: ById, other: ById) -> tuple[Any, Any]:
    """The vectors of the chunks that both have."""
    ids = sorted(one.keys() & other.keys())
    assert len(ids) >= 50
    first, second = (np.stack([by_id[key] for key in ids]) for by_id in (one, other))
    return first, second


def counts(artifact: Artifact) -> tuple[int, int]:
    return artifact.counts["encoded"], artifact.counts["reused"]


# --- reuse -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "int8", "binary"])
def test_only_what_is_new_or_changed_is_encoded(
    dtype: str, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = f"embed.dtype={dtype}"
    before = world.embed(kept)
    assert counts(before) == (100, 0)
    old = vectors_by_id(before)
    capsys.readouterr()

    world.embed(kept, chunks=edited(world.chunks), code=2)
    assert "its input chunks has other content" in capsys.readouterr().err
    after = world.embed(kept, "--force")

    assert counts(after) == (CHANGED, 101 - CHANGED)
    assert "3 chunks encoded, the vectors of 98 reused" in capsys.readouterr().err
    found = vectors_by_id(after)
    assert len(found) == 101
    assert len(found.keys() & old.keys()) == 97, "the renamed one has another id"
    assert np.array_equal(*of_both(found, old))
    whole = world.embed(kept, "--force", "embed.reuse=false")
    assert counts(whole) == (101, 0)
    anew = vectors_by_id(whole)
    assert found.keys() == anew.keys()
    if dtype == "float32":
        first, second = of_both(found, anew)
        assert float((first.astype(np.float64) * second).sum(axis=1).min()) >= 1 - NEAR


def test_a_second_change_takes_from_what_the_first_left(world: World) -> None:
    world.embed()
    world.embed("--force", chunks=edited(world.chunks))
    again = world.embed("--force", chunks=[*world.chunks[1:], {"text": "w9", "filename": "z.md"}])
    assert counts(again) == (1, 100)


def test_when_chunks_only_went_nothing_is_encoded(world: World) -> None:
    before = vectors_by_id(world.embed())
    after = world.embed("--force", chunks=world.chunks[::-1][:50])
    assert counts(after) == (0, 50)
    assert np.array_equal(*of_both(vectors_by_id(after), before))
    assert after.manifest.summary["dimension"] == 32


def test_what_is_forced_without_a_change_is_made_anew(world: World) -> None:
    world.embed()
    assert counts(world.embed("--force")) == (100, 0)


@pytest.mark.parametrize(
    "other",
    ["embed.dimensions=16", "embed.dtype=int8", "embed.precision=bf16",
     "model.document_prompt=w1 ", "model.max_seq_length=9", "model"],
)  # fmt: skip
def test_vectors_of_another_model_or_setting_are_not_reused(other: str, world: World) -> None:
    world.embed()
    if other == "model":
        model = tiny_model("MPNet", world.folder / "others-parts")
        model.save_pretrained(str(world.folder / "other"))
        other = f"model.base={world.folder / 'other'}"
    assert counts(world.embed("--force", other, chunks=edited(world.chunks))) == (101, 0)


@pytest.mark.parametrize("setting", ["embed.batch_tokens=64", "embed.rows_per_block=7"])
def test_what_does_not_change_the_vectors_is_no_reason_to_embed_again(
    setting: str, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.embed()
    world.embed(setting)
    assert "already done" in capsys.readouterr().err


def in_shards(
    world: World, shards: int, monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> Artifact:
    for index in range(shards):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
        assert world.knock("embed", world.config, "--shards", str(shards), *arguments) == 0
    return world.open()


def test_shards_reuse_what_one_piece_held_and_the_other_way_round(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = vectors_by_id(world.embed())
    lines = [json.dumps(chunk) for chunk in edited(world.chunks)]
    (world.folder / "chunks.jsonl").write_text("\n".join(lines) + "\n")
    sharded = in_shards(world, 3, monkeypatch, "--force")
    assert len(sharded.manifests) == 3
    assert counts(sharded) == (CHANGED, 101 - CHANGED)
    assert np.array_equal(*of_both(before, vectors_by_id(sharded)))
    one = world.embed("--force", chunks=edited(world.chunks)[2:])
    assert counts(one) == (0, 99)


def test_damaged_vectors_are_made_again(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    before = world.embed()
    old = vectors_by_id(before)
    damaged = before.path(embeddings.parts(before)[1])
    damaged.write_bytes(damaged.read_bytes()[:-7])
    capsys.readouterr()
    after = world.embed("--force", chunks=edited(world.chunks))
    encoded, reused = counts(after)
    assert "its vectors are not reused" in capsys.readouterr().err
    assert CHANGED < encoded <= CHANGED + 16
    assert reused == 101 - encoded
    found = vectors_by_id(after)
    assert all(found[key] @ old[key] >= 1 - NEAR for key in found.keys() & old.keys())


@pytest.mark.parametrize("change", [3, 6])
def test_a_killed_job_that_reuses_ends_with_the_same_artifact(
    change: int, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    world.embed()
    shutil.copytree(world.folder / "store", world.folder / "copy")
    calm = world.embed("--force", chunks=edited(world.chunks))
    digest, told = calm.digest, calm.counts
    shutil.rmtree(world.folder / "store")
    (world.folder / "copy").rename(world.folder / "store")

    assert killed_at(change, lambda: world.knock("embed", world.config, "--force"))
    after = world.embed("--force")
    assert (after.digest, after.counts) == (digest, told)


# --- settings ----------------------------------------------------------------------------------


def test_vectors_are_cut_to_the_dimensions_that_are_asked_for(world: World) -> None:
    whole = vectors_by_id(world.embed())
    short = world.embed("--force", "embed.dimensions=8")
    assert short.manifest.summary["dimension"] == 8
    config = load_config(str(world.config), ["embed.dimensions=8"])
    encoder = load_encoder(model_of(short, config, _no_artifact), config)
    assert encoder.dimension == 8
    for key, vector in vectors_by_id(short).items():
        cut = whole[key][:8] / np.linalg.norm(whole[key][:8])
        assert np.allclose(vector, cut, atol=1e-5)
    asked = encoder.encode_query([world.chunks[0]["text"]])
    told = encoder.encode_document([world.chunks[0]["text"]])
    assert np.allclose(asked, told, atol=1e-6)
    assert np.linalg.norm(asked) == pytest.approx(1.0, abs=1e-6)


def test_more_dimensions_than_there_are_are_refused(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.embed()
    capsys.readouterr()
    world.embed("--force", "embed.dimensions=33", code=2)
    said = capsys.readouterr().err
    assert "embed.dimensions=33: the model's vectors have 32 numbers; set it to 32 or less" in said


def test_queries_of_another_model_or_width_are_refused(world: World) -> None:
    embedded = world.embed()
    config = load_config(str(world.config), ["embed.dimensions=8"])
    with pytest.raises(InputError, match="dimensions=None, which is 8 now"):
        model_of(embedded, config, _no_artifact)
    tiny_model("MPNet", world.folder / "parts2").save_pretrained(str(world.folder / "model2"))
    other = load_config(str(world.config), [f"model.base={world.folder / 'model2'}"])
    with pytest.raises(InputError, match="by another model than is there now"):
        model_of(embedded, other, _no_artifact)


def test_the_settings_say_what_determines_the_vectors(world: World) -> None:
    settings = world.embed("embed.dtype=float16").manifest.settings
    assert settings["embed.dtype"] == "float16"
    assert settings["embed.precision"] == "fp32", "what auto came to"
    assert "embed.dimensions" in settings
    assert not [key for key in settings if "batch" in key or "block" in key or "chroma" in key]


@pytest.mark.parametrize(
    ("given", "expected"),
    [(("model.device=cpu",), "fp32"), (("model.device=cuda",), "fp16"),
     (("model.device=mps",), "fp32"), (("embed.precision=bf16",), "bf16")],
)  # fmt: skip
def test_the_precision_follows_from_config_and_device(
    given: Sequence[str], expected: str, world: World
) -> None:
    assert precision_of(load_config(str(world.config), list(given))) == expected


def test_a_model_whose_vectors_are_not_finite_is_refused(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    weights = world.folder / "model" / "model.safetensors"
    tensors = load_file(weights)
    tensors["embeddings.word_embeddings.weight"][5] = float("inf")
    save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(InputError, match="there is no embed artifact"):
        world.embed(code=2)
    assert "numbers that are not finite" in capsys.readouterr().err


def test_the_served_model_is_named_by_its_server(world: World) -> None:
    served = ["embed.model=served", "embed.served.url=http://127.0.0.1:1", "embed.served.model=m"]
    one = find_model(load_config(str(world.config), served), _no_artifact)
    assert (one.folder, one.trained, one.identity.kind, one.identity.name) == (
        None, False, "served", "m",
    )  # fmt: skip
    other = load_config(str(world.config), [*served[:2], "embed.served.model=other"])
    assert find_model(other, _no_artifact).identity.digest != one.identity.digest


def _no_artifact(kind: str, name: str) -> Artifact:
    raise ConfigError(f"no artifact is asked for, but {kind} {name} was")
