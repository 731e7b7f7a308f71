"""OpenVINO in the place of torch: the same vectors, rounder ones in int8, and what it refuses."""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    Dense,
    Normalize,
    StaticEmbedding,
)

from codex_forge.config import RunConfig
from codex_forge.config.sections import EmbedConfig, ModelConfig
from codex_forge.errors import ConfigError
from codex_forge.model import openvino
from codex_forge.model.encoder import Encoder, load_base
from codex_forge.model.in_use import find_model, load_encoder, precision_of, settings_of
from codex_forge.model.locate import locate
from tests.conftest import MINILM, ROOT
from tests.tiny_models import some_texts, tiny_model

NEAR = 1e-5
"""1 - cosine of fp32."""
TEXTS = [*some_texts(24), "", "   ", *some_texts(24)[::5], "w1 w2 " * 90, "Ünknown wörds w3"]
ENGLISH = [
    "fever and a rash",
    "cough " * 40,
    "the left lung is enlarged",
    "",
    "a rash",
    "fever " * 9,
]

pytestmark = pytest.mark.usefixtures("one_thread")
needed = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None or importlib.util.find_spec("nncf") is None,
    reason="needs codex-forge[openvino]",
)


def least_cosine(ours: NDArray[np.float32], theirs: NDArray[Any]) -> float:
    assert ours.shape == theirs.shape
    assert ours.dtype == np.float32
    return float((ours.astype(np.float64) * theirs).sum(axis=1).min())


def minilm() -> SentenceTransformer:
    config = ModelConfig(base=MINILM, device="cpu", query_prompt="which disease is this: ")
    return load_base(locate(config).folder, config)


@pytest.fixture(scope="module")
def expected() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    encoder = Encoder(minilm())
    return encoder.encode_query(ENGLISH), encoder.encode_document(ENGLISH)


@pytest.fixture(scope="module")
def compiled() -> Iterator[Callable[[str], Encoder]]:
    """MiniLM in a precision, converted once."""
    found: dict[str, Encoder] = {}

    def of(precision: str) -> Encoder:
        if precision not in found:
            found[precision] = Encoder(minilm(), 96, precision, "openvino")
        return found[precision]

    yield of
    found.clear()


@needed
@pytest.mark.parametrize(
    ("precision", "least", "most"),
    [("fp32", 1 - NEAR, 1.1), ("int8", 0.995, 1 - NEAR)],
)
def test_minilm_has_the_vectors_of_torch(
    precision: str,
    least: float,
    most: float,
    compiled: Callable[[str], Encoder],
    expected: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    encoder = compiled(precision)
    assert least <= least_cosine(encoder.encode_query(ENGLISH), expected[0]) < most
    assert least <= least_cosine(encoder.encode_document(ENGLISH), expected[1]) < most
    assert encoder.tally.tokens > 0


@needed
def test_an_int8_vector_depends_on_no_other_text(compiled: Callable[[str], Encoder]) -> None:
    encoder = compiled("int8")
    together = encoder.encode_document(ENGLISH)
    alone = np.concatenate([encoder.encode_document([text]) for text in ENGLISH[::-1]])[::-1]
    assert least_cosine(together, alone) >= 1 - 1e-4
    assert np.array_equal(together, encoder.encode_document(ENGLISH))


@needed
@pytest.mark.parametrize("kind", ["MPNet", "Roberta", "ModernBert"])
def test_tiny_models_have_the_vectors_of_torch(kind: str, tmp_path: Path) -> None:
    """ModernBert attends within windows, which leave padding nothing to attend to."""
    model = tiny_model(kind, tmp_path)
    plain = [*model]
    torch.manual_seed(1)
    model = SentenceTransformer(modules=[*plain, Dense(32, 12), Normalize()], device="cpu")
    model.prompts = {"query": "w1 w2 w3 ", "document": "w4 "}
    torchs = Encoder(model)
    theirs = torchs.encode_query(TEXTS), torchs.encode_document(TEXTS)
    encoder = Encoder(model, 96, engine="openvino")
    assert isinstance(model[0].model, openvino.Compiled)
    assert least_cosine(encoder.encode_query(TEXTS), theirs[0]) >= 1 - NEAR
    assert least_cosine(encoder.encode_document(TEXTS), theirs[1]) >= 1 - NEAR
    assert encoder.tally.tokens > 0
    assert encoder.dimension == 12


@needed
def test_a_model_that_does_more_than_its_tokenizer_runs_there_too(tmp_path: Path) -> None:
    model = tiny_model("Bert", tmp_path)
    model[0].query_length = 7
    theirs = Encoder(model).encode_query(TEXTS)
    encoder = Encoder(model, engine="openvino")
    assert least_cosine(encoder.encode_query(TEXTS), theirs) >= 1 - NEAR
    assert encoder.tally.tokens == 0


@needed
def test_a_model_is_converted_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "codex_forge")
    model = tiny_model("Bert", tmp_path)
    Encoder(model, precision="int8", engine="openvino")
    Encoder(model, precision="int8", engine="openvino")
    assert caplog.text.count("BertModel converted for OpenVINO") == 1
    with pytest.raises(ValueError, match="compiled in int8"):
        Encoder(model, precision="bf16", engine="openvino")


@needed
@pytest.mark.skipif(sys.platform != "linux", reason="signal stacks are asked of Linux")
def test_it_is_silent_sends_no_usage_data_and_leaves_signals_as_they_were(tmp_path: Path) -> None:
    """In a process of its own: other libraries may have imported some of it, or set a stack."""
    program = f"""
import ctypes, os, signal, sys
from sentence_transformers import SentenceTransformer
from codex_forge.model.encoder import Encoder

def stack():
    found = (ctypes.c_size_t * 3)()
    ctypes.CDLL(None).sigaltstack(None, found)
    return list(found)

before = stack()
model = SentenceTransformer({str(tmp_path)!r}, device="cpu")
encoder = Encoder(model, precision="int8", engine="openvino")
encoder.encode_query(["one text"])
assert stack() == before
assert sys.modules["openvino_telemetry"] is None
del encoder, model
signal.signal(signal.SIGTERM, lambda number, _: print("handled", number))
os.kill(os.getpid(), signal.SIGTERM)
"""
    tiny_model("Bert", tmp_path).save(str(tmp_path))
    told = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (told.stdout, told.returncode) == ("handled 15\n", 0), told.stderr


@needed
def test_bf16_is_nearly_the_same(tmp_path: Path) -> None:
    model = tiny_model("Bert", tmp_path)
    theirs = Encoder(model).encode_document(TEXTS)
    rounded = Encoder(model, precision="bf16", engine="openvino").encode_document(TEXTS)
    assert least_cosine(rounded, theirs) >= 0.999


# --- without the packages ----------------------------------------------------------------------


def config_of(**embed: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "name": "small",
            "store": "unused",
            "corpus": {"chunks": "unused"},
            "model": {"base": MINILM, "device": "auto"},
            "embed": {"model": "base", **embed},
        }
    )


def no_artifacts(_kind: str, _name: str) -> Any:
    raise AssertionError


def test_the_config_picks_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(openvino, "put_into", lambda _model, precision: asked.append(precision))
    for config in (config_of(), config_of(engine="openvino", precision="int8")):
        load_encoder(find_model(config, no_artifacts), config)
    assert asked == ["int8"]


def test_only_another_engine_is_part_of_the_fingerprint() -> None:
    def told(**embed: Any) -> tuple[dict[str, Any], str]:
        config = config_of(**embed)
        return settings_of(config, find_model(config, no_artifacts)), precision_of(config)

    assert "embed.engine" not in told()[0]
    settings, precision = told(engine="openvino")
    assert (settings["embed.engine"], settings["embed.precision"]) == ("openvino", "fp32")
    assert precision == "fp32"
    assert told(engine="openvino", precision="int8")[0]["embed.precision"] == "int8"


@pytest.mark.parametrize(
    ("engine", "precision", "said"),
    [("torch", "int8", "embed.engine=openvino"), ("openvino", "fp16", "not in fp16")],
)
def test_an_engine_that_does_not_know_the_precision_is_refused(
    engine: Any, precision: Any, said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        EmbedConfig(engine=engine, precision=precision)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"pip install 'codex-forge\[openvino\]'"):
        Encoder(tiny_model("Bert", tmp_path), engine="openvino")


def test_other_devices_are_refused(tmp_path: Path) -> None:
    model = tiny_model("Bert", tmp_path).to("meta")
    with pytest.raises(ConfigError, match="model is on meta") as caught:
        Encoder(model, engine="openvino")
    assert caught.value.where == "model.device"


def test_a_model_without_a_transformer_is_refused(tmp_path: Path) -> None:
    tokenizer = tiny_model("Bert", tmp_path).tokenizer.backend_tokenizer
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=16)])
    with pytest.raises(ConfigError, match=r"StaticEmbedding.*embed\.engine=torch"):
        Encoder(model, engine="openvino")


@needed
def test_what_does_not_convert_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_given: object) -> Any:
        raise RuntimeError("no rule for aten::strange")

    monkeypatch.setattr(openvino, "_compile", fails)
    with pytest.raises(ConfigError, match=r"BertModel.*aten::strange.*embed\.engine=torch"):
        Encoder(tiny_model("Bert", tmp_path), engine="openvino")


@needed
def test_what_converts_to_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = SimpleNamespace(create_infer_request=lambda: None, inputs=[])
    monkeypatch.setattr(openvino, "_compile", lambda *_given: nothing)
    monkeypatch.setattr(openvino, "_cosine", lambda *_given: float("nan"))
    with pytest.raises(ConfigError, match=r"BertModel.*torch's vectors is nan"):
        Encoder(tiny_model("Bert", tmp_path), engine="openvino")
