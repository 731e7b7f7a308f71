"""Texts as token ids, as a model's own preprocessing gives them, sorted by length.

A fast tokenizer gives the ids of thousands of texts at once, lets other threads work meanwhile, and
pads nothing. Whether it gives what the model's preprocessing would (some models do more: templates,
query expansion, several inputs) is looked up on a few of the texts; where not, the model's own way
is left to encode them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codex_forge.model.locate import DOCUMENT

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_PROMPTS = {"query": ("query",), "document": DOCUMENT}
"""Of each role the names under which a model may hold its prompt, the first one first."""

_CHECKED = 8
"""Texts by which a tokenizer is held against the model's preprocessing."""
_THREADS = min(16, os.cpu_count() or 1)
_FEWEST = 64
"""Texts that are worth a thread."""

_NO_LIMIT = 10**6

Ids = list[list[int]]


class Layout(NamedTuple):
    """How a model wants its ids padded, and what it wants beside them."""

    pad: int
    left: bool
    types: bool
    """Whether it is given token types, all 0."""
    beside: dict[str, Any]
    """What is no tensor: the modality, the length of the prompt."""


@dataclass(frozen=True)
class Tokens:
    """Token ids of `n` texts, longest first."""

    order: NDArray[np.int64]
    """Positions of the texts, longest first; shape (n,)."""
    lengths: NDArray[np.int32]
    """Tokens of each, falling, prompt and special tokens included; shape (n,)."""
    ids: NDArray[np.int32]
    """All ids, text after text; shape (sum of lengths,)."""
    layout: Layout

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return np.concatenate(([0], np.cumsum(self.lengths, dtype=np.int64)))

    def padded(self, part: slice) -> dict[str, NDArray[np.int64]]:
        """What the model takes for some of the texts, each array of shape (texts, longest)."""
        lengths = self.lengths[part, None]
        longest = int(lengths[0, 0])
        places = np.arange(longest)
        there = places >= longest - lengths if self.layout.left else places < lengths
        filled = np.full(there.shape, self.layout.pad, dtype=np.int64)
        filled[there] = self.ids[self._starts[part.start] : self._starts[part.stop]]
        found = {"input_ids": filled, "attention_mask": there.astype(np.int64)}
        if self.layout.types:
            found["token_type_ids"] = np.zeros_like(filled)
        return found


class Tokeniser:
    """Tokenises texts of one role for a model; safe to be called from another thread."""

    def __init__(self, model: SentenceTransformer, role: str) -> None:
        """`role` is `query` or `document`."""
        self._model, self._role = model, role
        name = next((name for name in _PROMPTS[role] if name in model.prompts), None)
        name = name or model.default_prompt_name
        self._prompt: str | None = None if name is None else model.prompts.get(name)
        self._encode = _fast(model)
        self._pool = ThreadPoolExecutor(_THREADS)
        self._layout: Layout | None = None
        self._looked = False

    def __call__(self, texts: Sequence[str]) -> Tokens | None:
        """Tokens of texts; None where the model has to be left to its own way."""
        if not self._looked:
            self._layout = self._look(texts)
            self._looked = True
        if self._layout is None:
            return None
        ids = self._ids(texts)
        return _sorted(ids, self._layout) if all(ids) else None

    def _ids(self, texts: Sequence[str]) -> Ids:
        if self._encode is None:
            return []
        whole = [self._prompt + text for text in texts] if self._prompt else list(texts)
        if len(whole) <= _FEWEST:
            return self._encode(whole)
        size = max(_FEWEST, -(-len(whole) // (2 * _THREADS)))
        parts = [whole[at : at + size] for at in range(0, len(whole), size)]
        return [ids for part in self._pool.map(self._encode, parts) for ids in part]

    def _look(self, texts: Sequence[str]) -> Layout | None:
        """How the model pads, when its tokenizer alone gives what its preprocessing gives."""
        if self._encode is None:
            return None
        few = sorted(filter(str.strip, texts), key=len)
        few = few[:: max(1, len(few) // _CHECKED)]
        few += [" ".join(["one text", *few]), _long(self._model)]
        told = self._model.preprocess(few, prompt=self._prompt, task=self._role)
        layout = _layout(told, self._model.tokenizer)
        ids = self._ids(few)
        if layout is None or not all(ids):
            return None
        ours = _sorted(ids, layout)
        padded = ours.padded(slice(0, len(few)))
        same = padded.keys() == {name for name in told if name not in layout.beside} and all(
            np.array_equal(given, told[name].numpy()[ours.order]) for name, given in padded.items()
        )
        return layout if same else None


def _fast(model: SentenceTransformer) -> Callable[[list[str]], Ids] | None:
    """A copy of the model's fast tokenizer that truncates as the model does; None without one."""
    from tokenizers import Tokenizer

    tokenizer = getattr(model, "tokenizer", None)
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        return None
    copy = Tokenizer.from_str(fast.to_str())
    copy.no_padding()
    copy.no_truncation()
    if most := _limit(model):
        side = getattr(tokenizer, "truncation_side", "right")
        copy.enable_truncation(most, direction=side)
    return lambda texts: [found.ids for found in copy.encode_batch_fast(texts)]


def _layout(told: dict[str, Any], tokenizer: Any) -> Layout | None:
    """How a model pads, by what its preprocessing gave; None when it gave what we cannot give."""
    from torch import Tensor

    tensors = {name for name, value in told.items() if isinstance(value, Tensor)}
    types = told.get("token_type_ids")
    if not {"input_ids", "attention_mask"} <= tensors or tokenizer.pad_token_id is None:
        return None
    if types is not None and bool(types.any()):
        return None
    return Layout(
        pad=int(tokenizer.pad_token_id),
        left=tokenizer.padding_side == "left",
        types=types is not None,
        beside={name: value for name, value in told.items() if name not in tensors},
    )


def _long(model: SentenceTransformer) -> str:
    """A text of more tokens than the model keeps."""
    return "a b " * (_limit(model) or 1)


def _limit(model: SentenceTransformer) -> int | None:
    """Tokens that a model keeps; some tokenizers say that they keep 10^30."""
    most = model.max_seq_length
    return most if most is not None and most < _NO_LIMIT else None


def _sorted(ids: Ids, layout: Layout) -> Tokens:
    lengths = np.fromiter(map(len, ids), np.int32, len(ids))
    order = np.argsort(-lengths, kind="stable")
    flat = chain.from_iterable(ids[i] for i in order)
    return Tokens(order, lengths[order], np.fromiter(flat, np.int32, int(lengths.sum())), layout)
