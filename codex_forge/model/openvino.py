"""Run a model's transformer with OpenVINO on a CPU (imports torch, and openvino when called).

`put_into` traces the transformer, compiles it, and puts it where the model keeps its own. Pooling,
dense layers and normalising stay the model's modules. int8 is without calibration: weights a
channel at a time, activations `_GROUP` numbers of a token at a time as they come, so that a vector
depends neither on texts seen before nor on those beside it.

Sources: docs.openvino.ai, "Converting a PyTorch Model" and "Dynamic quantization"; NNCF's
`compress_weights`.
"""

from __future__ import annotations

import ctypes
import io
import logging
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import logging as transformers_logging

from codex_forge.errors import ConfigError

log = logging.getLogger("codex_forge")

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_TRACED = ["one two three four", "one"]
_TRIED = ["one", "one two three four five six seven", "two three " * 24]
"""Their shape is another than that of what is traced."""
_LEAST = {"fp32": 0.9999, "bf16": 0.99, "int8": 0.9}
"""Cosine to torch's token vectors on `_TRIED`: below it the conversion went wrong."""
_GROUP = 128
"""Numbers of an activation that share a scale in int8: fewer are more exact, and slower."""
_FAILURES = (
    AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError,
)  # fmt: skip


def put_into(model: SentenceTransformer, precision: str) -> None:
    """Put the compiled transformer in the place of the model's own; once for each model.

    Args:
        model: loaded on a CPU.
        precision: `fp32`, `bf16` or `int8`.

    Raises:
        ConfigError: a package is missing, the model is not on a CPU, or does not convert.
    """
    transformer = _transformer(model)
    if isinstance(transformer.model, Compiled):
        _check_same(transformer.model, precision)
        return
    _check_packages(precision)
    start = time.perf_counter()
    model.eval().float()
    architecture = type(transformer.model).__name__
    try:
        with _signal_stack_kept():
            transformer.model = _converted(model, precision)
    except _FAILURES as error:
        raise _does_not_convert(transformer.model, f"{type(error).__name__}: {error}") from error
    said = (architecture, version("openvino"), precision, time.perf_counter() - start)
    log.info("  %s converted for OpenVINO %s, %s, in %.1f s", *said)


def _converted(model: SentenceTransformer, precision: str) -> Compiled:
    """The transformer compiled, with vectors near those of torch.

    Where they are not, plain attention is tried. Windows of attention leave padding nothing to look
    at: torch's fused attention makes that 0, OpenVINO's not a number; plain attention, whose mask
    is the least float, a mean.
    """
    own = model[0].model
    example, tried = (_features(model, texts) for texts in (_TRACED, _TRIED))
    found = Compiled(own, _compile(own, example, precision), precision)
    if not (cosine := _cosine(own, found, tried)) >= _LEAST[precision]:
        own.set_attn_implementation("eager")
        found = Compiled(own, _compile(own, example, precision), precision)
        cosine = _cosine(own, found, tried)
    if not cosine >= _LEAST[precision]:
        raise ValueError(f"its cosine to torch's vectors is {cosine:.4f}")
    return found


class Compiled(nn.Module):
    """A compiled transformer that is called as the one of transformers is."""

    def __init__(self, own: nn.Module, compiled: Any, precision: str) -> None:
        """`compiled` is what OpenVINO made of `own`."""
        super().__init__()
        self.config = own.config
        self.device = torch.device("cpu")
        self.precision = precision
        self._request = compiled.create_infer_request()
        self._names = [each.get_any_name() for each in compiled.inputs]

    def forward(self, **features: Any) -> BaseModelOutput:
        """Token vectors, of shape (texts, tokens, width)."""
        given = {name: features[name].numpy() for name in self._names}
        found = self._request.infer(given, share_inputs=True)
        return BaseModelOutput(last_hidden_state=torch.from_numpy(found[0]))


class _Traced(nn.Module):
    """A transformer with tensors in, and one tensor out."""

    def __init__(self, own: nn.Module) -> None:
        super().__init__()
        self.own = own

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        return _token_vectors(
            self.own, {"input_ids": input_ids, "attention_mask": attention_mask, **types}
        )


def _transformer(model: SentenceTransformer) -> Transformer:
    """The module that is replaced."""
    if model.device.type != "cpu":
        raise ConfigError(
            f"embed.engine=openvino computes on CPUs, and the model is on {model.device.type}",
            where="model.device",
            do="set it to cpu, or embed.engine=torch",
        )
    first = model[0]
    if not isinstance(first, Transformer):
        raise _does_not_convert(first, "it is no transformer")
    way = first.modality_config.get("text", {})
    output = way.get("method_output_name")
    if way.get("method") != "forward" or output not in (
        "last_hidden_state",
        ("last_hidden_state",),
    ):
        raise _does_not_convert(first.model, "it does not give the last layer's token vectors")
    return first


def _check_same(there: Compiled, precision: str) -> None:
    if there.precision != precision:
        raise ValueError(f"the model is compiled in {there.precision}: load it again")


def _check_packages(precision: str) -> None:
    """Refuse to go on without the packages; imports none of them."""
    for name in ("openvino", "nncf") if precision == "int8" else ("openvino",):
        if find_spec(name) is None:
            raise ConfigError(
                f"the package {name} is not installed",
                where="embed.engine",
                do="pip install 'codex-forge[openvino]', or set it to torch",
            )


def _features(model: SentenceTransformer, texts: list[str]) -> dict[str, Tensor]:
    """What the transformer takes of some texts."""
    told = model.preprocess(texts)
    takes = model[0].model_forward_params
    return {
        name: told[name] for name in _INPUTS if name in told and (takes is None or name in takes)
    }


def _compile(own: nn.Module, example: dict[str, Tensor], precision: str) -> Any:
    """The transformer compiled for as many threads as torch takes."""
    with _quiet():
        import openvino

        with torch.no_grad():
            converted = openvino.convert_model(_Traced(own), example_input=example)
        if precision == "int8":
            import nncf

            logging.getLogger("nncf").setLevel(logging.ERROR)
            converted = nncf.compress_weights(converted, mode=nncf.CompressWeightsMode.INT8_ASYM)
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": _GROUP if precision == "int8" else 0,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # shards on one machine would share the first cores
    }
    return openvino.Core().compile_model(converted, "CPU", settings)


class _Stack(ctypes.Structure):
    """`stack_t` of Linux."""

    _fields_ = (
        ("start", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("size", ctypes.c_size_t),
    )


@contextmanager
def _signal_stack_kept() -> Iterator[None]:
    """Leave the thread the stack on which it handles signals.

    OpenVINO sets one that is freed with the compiled model: the next SIGTERM would end the process.
    """
    if sys.platform != "linux":
        yield
        return
    libc, before = ctypes.CDLL(None), _Stack()
    libc.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(before), None)


@contextmanager
def _quiet() -> Iterator[None]:
    """No usage data is sent, and nothing is printed, by what converts.

    The converter and NNCF send usage data over `openvino_telemetry` unless its user has opted out,
    and do without where it cannot be imported, as with None in `sys.modules`
    (docs.python.org/3/reference/import.html, "The module cache").
    """
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    said = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(said)


def _cosine(own: nn.Module, compiled: Compiled, features: dict[str, Tensor]) -> float:
    """Of the token vectors of both, taken together."""
    there = features["attention_mask"].bool()
    with torch.no_grad():
        expected, found = (
            _token_vectors(each, features)[there].double().flatten() for each in (own, compiled)
        )
    return float(torch.nn.functional.cosine_similarity(expected, found, dim=0))


def _token_vectors(own: nn.Module, features: dict[str, Tensor]) -> Tensor:
    found: Tensor = own(**features, return_dict=True).last_hidden_state
    return found


def _does_not_convert(module: nn.Module, why: str) -> ConfigError:
    return ConfigError(
        f"{type(module).__name__} does not convert to OpenVINO ({' '.join(why.split())[:300]})",
        where="embed.engine=openvino",
        do="set embed.engine=torch",
    )
