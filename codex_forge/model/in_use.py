"""The model that a config embeds with: the base model, the trained one, or one behind HTTP.

from codex_forge.model.in_use import find_model, load_encoder
encoder = load_encoder(find_model(config, job.open), config)

Chunks and queries go through the same encoder: they are cut to `embed.dimensions` and brought back
to unit length alike.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial, reduce
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from codex_forge.artifact import Artifact, Input
from codex_forge.config import RunConfig
from codex_forge.config.sections import ServedConfig
from codex_forge.errors import ConfigError, InputError
from codex_forge.model import locate

log = logging.getLogger("codex_forge")

Floats = NDArray[np.float32]
Open = Callable[[str, str], Artifact]
"""Opens an artifact by its kind and name, as `Job.open` does."""

_SOME = 8
"""Texts that cannot all be without a known word: some models give such a text no direction."""
_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""One of them is there on a Linux machine where CUDA, or ROCm, may work."""

_MODELS: dict[str, Literal["base", "served"]] = {"model": "base", "served": "served"}
"""What `embed.model` says, by the kind that artifacts record of a model."""


class ModelInUse(NamedTuple):
    """The model that a config embeds with."""

    folder: Path | None
    """Its files; None for a served one."""
    identity: Input
    """What artifacts record of it."""
    trained: bool
    served: ServedConfig | None


class TextEncoder(Protocol):
    """What gives unit vectors of texts: `Encoder` here, `ServedEncoder` of a server."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    def encode_query(self, texts: Sequence[str]) -> Floats:
        """Unit vectors of queries, shape (texts, dimension)."""
        ...

    def encode_document(self, texts: Sequence[str]) -> Floats:
        """Unit vectors of chunks, shape (texts, dimension)."""
        ...


def find_model(config: RunConfig, open_artifact: Open) -> ModelInUse:
    """The model that `embed.model` names.

    Raises:
        ConfigError: there is no such base model here, or the server has none of that name.
        InputError: there is no trained one.
        TryAgain: the server does not answer.
    """
    if config.embed.model == "base":
        base = locate.locate(config.model)
        return ModelInUse(base.folder, base.identity, trained=False, served=None)
    if config.embed.model == "served":
        from codex_forge.model.served import identity

        served = config.embed.served
        return ModelInUse(None, identity(served), trained=False, served=served)
    return _trained(open_artifact("train", config.run_name))


def model_of(embedded: Artifact, config: RunConfig, open_artifact: Open) -> ModelInUse:
    """The model that made an embed artifact, for queries to be held against its vectors.

    Raises:
        InputError: there is another now, or it was used with other settings.
    """
    check_made_so(embedded, config)
    told = embedded.manifest.inputs["model"]
    if told.kind == "train":
        model = _trained(open_artifact("train", told.name))
    else:
        embed = config.embed.model_copy(update={"model": _MODELS[told.kind]})
        model = find_model(config.model_copy(update={"embed": embed}), open_artifact)
    if model.identity.digest != told.digest:
        raise _made_otherwise(embedded, "by another model than is there now")
    return model


def check_made_so(embedded: Artifact, config: RunConfig) -> None:
    """Queries must be cut, prompted and shortened as the chunks of an embed artifact were.

    Raises:
        InputError: the config says otherwise now.
    """
    for key, kept in embedded.manifest.settings.items():
        if key == "embed.dimensions" or key.startswith(("model.", "embed.served.")):
            now = reduce(getattr, key.split("."), config)
            if kept != now:
                raise _made_otherwise(embedded, f"with {key}={kept!r}, which is {now!r} now")


def settings_of(config: RunConfig, model: ModelInUse) -> dict[str, Any]:
    """What, beside the model, determines its vectors: keys of the config and their values.

    A base model is used as the config says; a trained one carries its own prompts and length.
    """
    found: dict[str, Any] = {"embed.dimensions": config.embed.dimensions}
    if model.served is not None:
        own = ("query_prompt", "document_prompt")
        return found | {f"embed.served.{key}": getattr(model.served, key) for key in own}
    found["embed.precision"] = precision_of(config)
    if config.embed.engine != "torch":
        found["embed.engine"] = config.embed.engine
    if model.trained:
        return found
    keys = ("max_seq_length", "query_prompt", "document_prompt")
    return found | {f"model.{key}": getattr(config.model, key) for key in keys}


def prompts_of(config: RunConfig, model: ModelInUse) -> dict[str, str]:
    """What the model puts before a text: `query_prompt` and `document_prompt`."""
    own = locate.prompts(model.folder) if model.folder is not None else {}
    given = model.served or (None if model.trained else config.model)
    found = {}
    for role in ("query", "document"):
        key = f"{role}_prompt"
        found[key] = (getattr(given, key) if given else "") or own.get(role, "")
    return found


def precision_of(config: RunConfig) -> str:
    """`fp32`, `bf16`, `fp16` or `int8`: what `embed.precision=auto` comes to on this machine."""
    if config.embed.precision != "auto":
        return config.embed.precision
    if config.embed.engine == "openvino":
        return "fp32"
    device = config.model.device
    return "fp16" if device == "cuda" or (device == "auto" and _has_cuda()) else "fp32"


def load_encoder(model: ModelInUse, config: RunConfig) -> EncoderInUse:
    """Load the model, with the config's precision, batch and dimensions.

    Raises:
        ConfigError: it cannot be loaded, or not by `embed.engine`, or its vectors are shorter than
            `embed.dimensions`.
    """
    dimensions = config.embed.dimensions
    if model.served is not None:
        from codex_forge.model.served import ServedEncoder

        return EncoderInUse(ServedEncoder(model.served), dimensions)
    from codex_forge.model.encoder import Encoder, load_base, load_trained

    if model.folder is None:
        raise ValueError("a model that is not served has a folder")
    log.info("  loading %s", model.identity.name)
    load = load_trained if model.trained else load_base
    loaded = load(model.folder, config.model)
    embed = config.embed
    encoder = Encoder(loaded, embed.batch_tokens, precision_of(config), embed.engine)
    _check_width(encoder.dimension, dimensions)
    return EncoderInUse(encoder, dimensions)


class EncoderInUse:
    """An encoder whose vectors are cut to `embed.dimensions`, and hold finite numbers."""

    def __init__(self, encoder: TextEncoder, dimensions: int | None) -> None:
        """Wrap an encoder; with `dimensions`, only the first ones of each vector are kept."""
        self._encoder, self._dimensions = encoder, dimensions

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._dimensions or self._encoder.dimension

    def encode_query(self, texts: Sequence[str]) -> Floats:
        """Unit vectors of queries, shape (texts, dimension)."""
        return self._kept(self._encoder.encode_query(texts))

    def encode_document(self, texts: Sequence[str]) -> Floats:
        """Unit vectors of chunks, shape (texts, dimension)."""
        return self._kept(self._encoder.encode_document(texts))

    def begin_documents(self, texts: Sequence[str]) -> Callable[[], Floats]:
        """Tokenise chunks, perhaps in another thread; what is returned gives their vectors."""
        from codex_forge.model.encoder import Encoder

        if not isinstance(self._encoder, Encoder):
            return partial(self.encode_document, texts)
        encoder, prepared = self._encoder, self._encoder.prepare(texts, "document")
        return lambda: self._kept(encoder.finish(prepared))

    def _kept(self, vectors: Floats) -> Floats:
        if not np.isfinite(vectors).all():
            raise InputError(
                "the model gives vectors with numbers that are not finite",
                where="embed.precision",
                do="set it to fp32, or take another model",
            )
        if len(vectors) >= _SOME and not vectors.any():
            raise InputError(
                "the model gives vectors of length 0 alone", do="take another model, or mend it"
            )
        if self._dimensions is None or not len(vectors):
            return vectors
        _check_width(vectors.shape[1], self._dimensions)
        return shortened(vectors, self._dimensions)


def shortened(vectors: Floats, dimensions: int) -> Floats:
    """The first `dimensions` numbers of each vector, of unit length again.

    What models trained with `train.matryoshka` are made for (Kusupati et al., Matryoshka
    Representation Learning, 2022).
    """
    kept = vectors[:, :dimensions]
    lengths = np.linalg.norm(kept, axis=1, keepdims=True)
    found: Floats = kept / np.maximum(lengths, 1e-12)
    return found


def _check_width(width: int, dimensions: int | None) -> None:
    if dimensions is not None and dimensions > width:
        raise ConfigError(
            f"the model's vectors have {width} numbers",
            where=f"embed.dimensions={dimensions}",
            do=f"set it to {width} or less",
        )


def _trained(artifact: Artifact) -> ModelInUse:
    folder = artifact.path_of_folder("model")
    return ModelInUse(folder, artifact.as_input(), trained=True, served=None)


def _made_otherwise(embedded: Artifact, how: str) -> InputError:
    model = _MODELS.get(embedded.manifest.inputs["model"].kind)
    which = f" embed.model={model}" if model else ""
    do = f"run python -m jobs.embed{which} --force"
    return InputError(f"was made {how}", where=embedded.url, do=do)


def _has_cuda() -> bool:
    """Whether torch will compute on a GPU; torch is asked only where there is a driver."""
    if sys.platform == "linux" and not any(Path(driver).exists() for driver in _DRIVERS):
        return False
    import torch

    return bool(torch.cuda.is_available())
