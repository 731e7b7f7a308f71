"""TSDAE: words are taken out of a text, and a decoder tells the whole text again from its vector.

Wang, Reimers & Gurevych, TSDAE: Using Transformer-based Sequential Denoising Auto-Encoder for
Unsupervised Sentence Embedding Learning, 2021. The library's class encodes and pads by itself, and
reads the model's files a second time; this one takes vectors that are there, and the model in
memory.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from codex_forge.errors import ConfigError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from codex_forge.train.guards import MicroBatch

_WORDS = 1024
"""Words whose odds over the whole vocabulary are in memory together."""


class TsdaeLoss(nn.Module):
    """Cross-entropy of each word of a text, told from the vector of its damaged copy.

    The decoder has the encoder's architecture and its very weights: a step trains both ways. Its
    own are the attention to the vector, and the head over the words, whose matrix is that of the
    word embeddings. The vector is a single place for the decoder to look at; it is brought to
    length sqrt(width), so that vectors of models that normalise are heard beside hidden states.
    """

    def __init__(self, model: SentenceTransformer, memory: MicroBatch) -> None:
        """Build the decoder; draws its own weights from torch's generator.

        Args:
            model: the encoder, which may have adapters, and frozen layers taken off.
            memory: how many words run through the decoder together, and whether its activations
                are forgotten until the backward pass.

        Raises:
            ConfigError: the architecture has no decoder that looks at an encoder's output.
        """
        super().__init__()
        encoder: Any = model.transformers_model
        self._memory = memory
        self.decoder = _decoder_like(encoder)
        _tie(self.decoder.base_model, encoder)
        self.head = _taken_off(self.decoder, self.decoder.get_output_embeddings())
        self.head.weight = self.decoder.base_model.get_input_embeddings().weight
        width, hidden = int(model.get_embedding_dimension() or 0), int(encoder.config.hidden_size)
        self.bridge = nn.Identity() if width == hidden else nn.Linear(width, hidden)
        self.to(model.device)

    def forward(
        self, vectors: Tensor, ids: Tensor, mask: Tensor, tokens: int | None = None
    ) -> Tensor:
        """The loss of a batch, a scalar.

        Args:
            vectors: of the damaged texts, shape (texts, width).
            ids: tokens of the whole texts, special ones included, shape (texts, tokens).
            mask: 1 where `ids` has a token, 0 where it is padded, on either side.
            tokens: what the sum over the tokens is divided by: those of all ranks (`told`) make
                the sum over the ranks the mean; the batch's own when not given.
        """
        unit = functional.normalize(vectors, dim=-1) * math.sqrt(vectors.shape[-1])
        seen = self.bridge(unit)[:, None]
        lengths = mask.sum(1)
        ids = ids.gather(1, (1 - mask).argsort(dim=1, stable=True))  # padding to the right
        total = vectors.new_zeros(())
        for rows in self._parts(lengths.tolist()):
            at = torch.tensor(rows, device=ids.device)
            total = total + self._part(seen[at], ids[at], lengths[at])
        return total / (self.told(mask) if tokens is None else tokens)

    @staticmethod
    def told(mask: Tensor) -> int:
        """Tokens of a batch that the decoder tells: all but the first of each text."""
        return int(mask.sum()) - len(mask)

    def _parts(self, lengths: list[int]) -> Iterator[list[int]]:
        """Rows that run together, longest first."""
        order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
        while order:
            size = max(1, self._memory.tokens // max(1, lengths[order[0]]))
            yield order[:size]
            order = order[size:]

    def _part(self, seen: Tensor, ids: Tensor, lengths: Tensor) -> Tensor:
        ids = ids[:, : int(lengths.max())]
        if self._memory.cached and torch.is_grad_enabled():
            found = checkpoint(self._cost, seen, ids, lengths, use_reentrant=False)
            return cast("Tensor", found)
        return self._cost(seen, ids, lengths)

    def _cost(self, seen: Tensor, ids: Tensor, lengths: Tensor) -> Tensor:
        """Sum of the cross-entropies; each token is told from those before it."""
        hidden = self.decoder(
            input_ids=ids[:, :-1], encoder_hidden_states=seen, use_cache=False
        ).logits
        places = torch.arange(ids.shape[1] - 1, device=ids.device)
        real = places[None] < lengths[:, None] - 1
        parts = zip(
            torch.split(hidden[real], _WORDS), torch.split(ids[:, 1:][real], _WORDS), strict=True
        )
        found = [checkpoint(self._odds, *part, use_reentrant=False) for part in parts]
        return torch.stack(found).sum() if found else seen.sum() * 0

    def _odds(self, hidden: Tensor, wanted: Tensor) -> Tensor:
        logits = self.head(hidden).float()
        return functional.cross_entropy(logits, wanted, reduction="sum")


def _decoder_like(encoder: Any) -> Any:
    """A decoder of the encoder's architecture that attends to a vector; with fresh weights."""
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(encoder.config)
    config.is_decoder = config.add_cross_attention = True
    refusal = ConfigError(
        f"there is no decoder for a {type(encoder).__name__}",
        where="objective tsdae",
        do="use simcse, or a base model of the kind of BERT, RoBERTa, XLM-RoBERTa or ELECTRA",
    )
    try:
        decoder = AutoModelForCausalLM.from_config(config, dtype=encoder.dtype)
    except ValueError as error:
        raise refusal from error
    if not any("cross" in name for name, _ in decoder.named_parameters()):
        raise refusal
    return decoder


def _tie(decoder: nn.Module, encoder: nn.Module) -> None:
    """Let the decoder use the encoder's parameters wherever their names are the same."""
    for name, own in list(decoder.named_parameters()):
        if "cross" in name:
            continue
        shared = _parameter(encoder, name)
        if shared is None or shared.shape != own.shape:
            raise ConfigError(
                f"the decoder's {name} is not in the model",
                where="objective tsdae",
                do="use simcse instead",
            )
        path, _, key = name.rpartition(".")
        setattr(decoder.get_submodule(path), key, shared)


def _parameter(model: nn.Module, name: str) -> nn.Parameter | None:
    """A parameter by its name, also in what was taken off (`frozen`); of an adapter, its base's."""
    found: Any = model
    for part in name.split("."):
        found = getattr(found, "stands_for", found)
        found = getattr(found, part, None)
    return found if isinstance(found, nn.Parameter) else None


def _taken_off(model: nn.Module, layer: nn.Module) -> Any:
    """Take a layer off the model, which then gives what it would have given to it."""
    name = next(name for name, module in model.named_modules() if module is layer)
    path, _, key = name.rpartition(".")
    setattr(model.get_submodule(path), key, nn.Identity())
    return layer
