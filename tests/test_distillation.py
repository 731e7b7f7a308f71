"""Teachers' vectors are computed once, with the right prompts, and say what the losses are told."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense

from codex_forge.config import RunConfig
from codex_forge.errors import ConfigError, InputError
from codex_forge.train.data import teachers
from codex_forge.train.data.distillation import Teacher, labels_for
from codex_forge.train.data.teachers import find_teachers, teacher_vectors
from codex_forge.train.data.texts import DOCUMENT, QUERY, TextTable
from tests.tiny_models import some_texts, tiny_model

HALF = 2e-3
"""What float16 may take from a number of a unit vector."""
QUERIES, CHUNKS = some_texts(5, 6), some_texts(9, 20)


pytestmark = pytest.mark.usefixtures("one_thread")


def saved(folder: Path, kind: str = "Bert", width: int | None = None, **prompts: str) -> str:
    """A tiny teacher in a folder, of 32 numbers or of `width`."""
    model = tiny_model(kind, folder.with_name(f"{folder.name}-parts"))
    if width is not None:
        model.append(Dense(32, width))
    model.prompts = prompts
    model.save_pretrained(str(folder))
    return str(folder)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("teachers")
    return {
        "bert": saved(folder / "bert"),
        "electra": saved(folder / "electra", "Electra"),
        "narrow": saved(folder / "narrow", width=12),
        "prompted": saved(folder / "prompted", query="w1 w2 "),
    }


@pytest.fixture
def table(tmp_path: Path, bases: dict[str, str]) -> TextTable:
    """Five queries, then nine chunks."""
    (tmp_path / "texts").mkdir()
    found = TextTable(SentenceTransformer(bases["bert"], device="cpu"), tmp_path / "texts")
    found.add_all(QUERIES, QUERY)
    found.add_all(CHUNKS, DOCUMENT)
    return found


def config(*names: str, **distillation: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "name": "small",
            "store": "nowhere",
            "corpus": {"chunks": "c.jsonl"},
            "model": {"base": "none", "device": "cpu"},
            "train": {"distillation": {"teachers": names, **distillation}},
        }
    )


def by_hand(base: str, query: str = "", document: str = "") -> NDArray[np.float32]:
    """Unit vectors as a user of the model would get them, the prompts written out."""
    model = SentenceTransformer(base, device="cpu")
    texts = [query + text for text in QUERIES] + [document + text for text in CHUNKS]
    found: NDArray[np.float32] = model.encode(texts, prompt="", normalize_embeddings=True)
    return found


def test_vectors_are_the_teachers_with_the_configs_prompts(
    table: TextTable, bases: dict[str, str], tmp_path: Path
) -> None:
    said = config(bases["bert"], query_prompt="w3 w4 ", document_prompt="w5 ")
    (found,) = teacher_vectors(said, table, tmp_path / "kept")
    wanted = by_hand(bases["bert"], "w3 w4 ", "w5 ")
    assert found.dtype == np.float16
    assert isinstance(found, np.memmap)
    assert np.abs(found - wanted).max() < HALF
    assert np.abs(found - by_hand(bases["bert"])).max() > 10 * HALF
    assert [path.suffix for path in (tmp_path / "kept").iterdir()] == [".f16"]


def test_a_teacher_that_brings_prompts_keeps_them(
    table: TextTable, bases: dict[str, str], tmp_path: Path
) -> None:
    said = config(bases["prompted"], query_prompt="w3 w4 ", document_prompt="w5 ")
    (found,) = teacher_vectors(said, table, tmp_path / "kept")
    assert np.abs(found - by_hand(bases["prompted"], "w1 w2 ", "")).max() < HALF


def test_many_blocks_are_one_file(
    table: TextTable, bases: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (wanted,) = teacher_vectors(config(bases["bert"]), table, tmp_path / "one")
    monkeypatch.setattr(teachers, "_BLOCK", 4)
    (found,) = teacher_vectors(config(bases["bert"]), table, tmp_path / "many")
    assert found.shape == (len(table), 32)
    assert np.abs(found.astype(np.float32) - wanted.astype(np.float32)).max() < HALF


def test_what_is_there_is_used_without_the_teacher(
    table: TextTable, bases: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="codex_forge")
    folder = tmp_path / "gone"
    shutil.copytree(bases["bert"], folder)
    said, kept = config(str(folder)), tmp_path / "kept"
    located = find_teachers(said)
    (first,) = teacher_vectors(said, table, kept, located)
    shutil.rmtree(folder)

    (again,) = teacher_vectors(said, table, kept, located)
    assert np.array_equal(first, again)
    assert "vectors of 14 texts are there" in caplog.text


def test_what_was_made_of_something_else_is_not_used(
    table: TextTable, bases: dict[str, str], tmp_path: Path
) -> None:
    said, kept = config(bases["bert"]), tmp_path / "kept"
    (first,) = teacher_vectors(said, table, kept)
    wanted = np.array(first)
    (path,) = kept.iterdir()
    path.write_bytes(path.read_bytes()[:-2])
    (again,) = teacher_vectors(said, table, kept)
    assert np.array_equal(again, wanted)

    (prompted,) = teacher_vectors(config(bases["bert"], document_prompt="w1 "), table, kept)
    assert np.abs(prompted[5:] - wanted[5:]).max() > 10 * HALF

    (tmp_path / "others").mkdir()
    others = TextTable(SentenceTransformer(bases["bert"], device="cpu"), tmp_path / "others")
    others.add_all(some_texts(14, 9), QUERY)
    assert len(others) == len(table)
    (found,) = teacher_vectors(said, others, kept)
    assert np.abs(found - wanted).max() > 10 * HALF


def test_another_teacher_in_the_same_folder_is_asked(
    table: TextTable, bases: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "same"
    shutil.copytree(bases["bert"], folder)
    (first,) = teacher_vectors(config(str(folder)), table, tmp_path / "kept")
    shutil.rmtree(folder)
    shutil.copytree(bases["electra"], folder)
    (second,) = teacher_vectors(config(str(folder)), table, tmp_path / "kept")
    assert np.abs(first.astype(np.float32) - second.astype(np.float32)).max() > 0.1


def test_an_ensemble_of_equal_widths_is_the_weighted_mean(
    table: TextTable, bases: dict[str, str], tmp_path: Path
) -> None:
    names = bases["bert"], bases["electra"]
    vectors = teacher_vectors(config(*names), table, tmp_path / "kept")
    teacher = Teacher(vectors, (3.0, 1.0))
    assert teacher.width == 32
    numbers = [13, 0, 4, 4]
    wanted = 0.75 * by_hand(names[0])[numbers] + 0.25 * by_hand(names[1])[numbers]
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    found = teacher.of(numbers)
    assert found.dtype == torch.float32
    assert np.abs(found.numpy() - wanted).max() < HALF
    assert np.linalg.norm(found.numpy(), axis=1) == pytest.approx(1.0, abs=1e-5)
    equal = by_hand(names[0]) + by_hand(names[1])
    equal /= np.linalg.norm(equal, axis=1, keepdims=True)
    assert np.abs(Teacher(vectors).look_up(range(14)) - equal).max() < HALF


def test_an_ensemble_of_different_widths_averages_cosines(
    table: TextTable, bases: dict[str, str], tmp_path: Path
) -> None:
    names = bases["bert"], bases["narrow"]
    vectors = teacher_vectors(config(*names), table, tmp_path / "kept")
    assert [array.shape for array in vectors] == [(14, 32), (14, 12)]
    teacher = Teacher(vectors, (1.0, 4.0))
    assert teacher.width == 44
    found = teacher.look_up(range(14))
    one, other = map(by_hand, names)
    wanted = 0.2 * one @ one.T + 0.8 * other @ other.T
    assert np.abs(found @ found.T - wanted).max() < HALF


COLUMNS = {
    "anchor": np.array([0, 1, 4], dtype=np.int32),
    "positive": np.array([5, 6, 7], dtype=np.int32),
    "negative_1": np.array([7, 8, 5], dtype=np.int32),
    "negative_2": np.array([9, 13, 6], dtype=np.int32),
}


def test_labels_are_the_teachers_cosines(
    table: TextTable, bases: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codex_forge.train.data.distillation._BLOCK", 2)
    teacher = Teacher(teacher_vectors(config(bases["bert"]), table, tmp_path / "kept"))
    vectors = by_hand(bases["bert"])
    cosines = vectors @ vectors.T
    anchor, *others = COLUMNS.values()
    wanted = np.stack([cosines[anchor, other] for other in others], axis=1)
    scores = labels_for("distill_kl", teacher, COLUMNS)
    margins = labels_for("distill_margin_mse", teacher, COLUMNS)
    assert scores is not None
    assert margins is not None
    assert scores.dtype == margins.dtype == np.float32
    assert scores.shape == (3, 3)
    assert np.abs(scores - wanted).max() < HALF
    assert margins.shape == (3, 2)
    assert np.abs(margins - (wanted[:, :1] - wanted[:, 1:])).max() < 2 * HALF
    assert labels_for("distill_embedding", teacher, {"text": COLUMNS["anchor"]}) is None
    assert labels_for("triplet", teacher, COLUMNS) is None


def test_a_teacher_that_is_not_here_is_named() -> None:
    with pytest.raises(ConfigError, match=r"train\.distillation\.teachers '\./nowhere'"):
        find_teachers(config("./nowhere"))


def test_a_teacher_that_gives_no_numbers_is_refused(
    table: TextTable, bases: dict[str, str], tmp_path: Path
) -> None:
    model = SentenceTransformer(bases["bert"], device="cpu")
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    model.save_pretrained(str(tmp_path / "broken"))
    said = config(str(tmp_path / "broken"))
    with pytest.raises(InputError, match="not finite"):
        teacher_vectors(said, table, tmp_path / "kept")
    assert not list((tmp_path / "kept").glob("*.f16"))
