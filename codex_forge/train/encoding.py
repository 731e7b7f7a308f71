"""The vectors of a batch: each distinct text runs through the model once, beside texts of its size.

A batch of pairs holds short queries and long chunks. Its texts are sorted by length and cut into
sub-batches, so that next to nothing is computed for padding. With `train.cached` a sub-batch's
activations are forgotten and computed again in the backward pass: memory then holds one sub-batch,
whatever the batch, for every loss (GradCache: Gao et al., Scaling Deep Contrastive Learning Batch
Size under Memory Limited Setup, 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.checkpoint import checkpoint

from codex_forge.model.cutting import OVERHEAD, cut
from codex_forge.model.encoder import on_device
from codex_forge.train.data.needs import NEEDS
from codex_forge.train.data.rows import Rows
from codex_forge.train.data.texts import TextTable
from codex_forge.train.guards import MicroBatch
from codex_forge.train.report.summary import Tally

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from codex_forge.train.layers.activations import ActivationCache

MICRO_BATCH = {"cpu": 4096, "cuda": 262_144}
"""Tokens of a sub-batch, padding included, where the config does not say."""

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Tower:
    """A model that encodes texts of a table by their numbers."""

    def __init__(
        self,
        model: SentenceTransformer,
        table: TextTable,
        memory: MicroBatch,
        *,
        precision: str = "fp32",
        tally: Tally | None = None,
    ) -> None:
        """`memory` bounds what runs together; `precision` is `fp32`, `bf16` or `fp16`."""
        self.model, self.table, self.memory = model, table, memory
        self.precision = precision
        self.run: Callable[..., Any] = model
        """What runs: the model, or what `torch.compile` made of it."""
        self.cache: ActivationCache | None = None
        """Hands in what layers give that were frozen and taken off the model."""
        self._tally = tally
        self.dtype = _TYPES[precision]
        self._pad = int(getattr(model.tokenizer, "pad_token_id", None) or 0)
        self._prompts = _PromptLengths(model, table)

    def __call__(self, numbers: NDArray[np.int32], *, counted: bool = True) -> torch.Tensor:
        """Vectors of distinct texts, float32, shape (texts, dimension), in the order given.

        Those of training are `counted` in the tally.
        """
        longest_first = np.argsort(-self.table.lengths[numbers], kind="stable")
        chosen = numbers[longest_first]
        parts = list(self.cut(chosen))
        with self.autocast():  # one region for all parts: the weights are cast once
            found = torch.cat([self._encode(part, counted) for part in parts])
        place = {int(number): i for i, number in enumerate(np.concatenate(parts))}
        back = torch.tensor([place[int(number)] for number in numbers], device=found.device)
        return found.float()[back]

    def of_ids(self, ids: Sequence[NDArray[np.int32]]) -> torch.Tensor:
        """Vectors of texts that are not in the table, by their token ids; as `__call__`."""
        lengths = np.array([len(own) for own in ids], dtype=np.int32)
        order = np.argsort(-lengths, kind="stable")
        with self.autocast():
            found = []
            for part in self._cut(lengths[order]):
                chosen = [ids[i] for i in order[part]]
                self._count(lengths[order[part]])
                found.append(self._run(self.padded(chosen)))
        back = np.empty(len(order), dtype=np.int64)
        back[order] = np.arange(len(order))
        return torch.cat(found).float()[torch.from_numpy(back).to(found[0].device)]

    def cut(self, numbers: NDArray[Any]) -> Iterator[NDArray[Any]]:
        """Texts that run together, of texts of the table that come longest first."""
        parts = (numbers[part] for part in self._cut(self.table.lengths[numbers]))
        yield from self._prompts.apart(parts)

    def _cut(self, lengths: NDArray[np.int32]) -> Iterator[slice]:
        """Sub-batches of texts that come longest first."""
        overhead = OVERHEAD.get(self.model.device.type, OVERHEAD["cuda"])
        return cut(lengths, self.memory.tokens, overhead)

    def features(self, part: NDArray[Any]) -> dict[str, Any]:
        """What the model takes for texts of the table."""
        ids = [self.table.ids(int(number)) for number in part]
        return {**self.padded(ids), **self._prompts.features(int(part[0]))}

    def padded(self, ids: Sequence[NDArray[np.int32]]) -> dict[str, torch.Tensor]:
        """Ids and mask of shape (texts, tokens), padded on the right."""
        longest = max(map(len, ids))
        filled = np.full((len(ids), longest), self._pad, dtype=np.int64)
        mask = np.zeros((len(ids), longest), dtype=np.int64)
        for row, own in enumerate(ids):
            filled[row, : len(own)] = own
            mask[row, : len(own)] = 1
        device = self.model.device
        return {"input_ids": on_device(filled, device), "attention_mask": on_device(mask, device)}

    def autocast(self) -> AbstractContextManager[Any]:
        """The number format of the computation."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.model.device.type, dtype=self.dtype)

    def _encode(self, part: NDArray[Any], counted: bool) -> torch.Tensor:
        if counted:
            self._count(self.table.lengths[part])
        return self._run(self.features(part), part)

    def _count(self, lengths: NDArray[np.int32]) -> None:
        if self._tally is not None:
            padded = int(lengths.max()) * len(lengths)
            self._tally.add(texts=len(lengths), tokens=int(lengths.sum()), padded=padded)

    def _run(self, features: dict[str, Any], part: NDArray[Any] | None = None) -> torch.Tensor:
        def run(ids: torch.Tensor) -> torch.Tensor:
            if self.cache is not None and part is not None:
                self.cache.hand(part)
            vectors: torch.Tensor = self.run({**features, "input_ids": ids})["sentence_embedding"]
            return vectors

        if self.memory.cached and torch.is_grad_enabled():
            found: torch.Tensor = checkpoint(run, features["input_ids"], use_reentrant=False)
            return found
        return run(features["input_ids"])


class _PromptLengths:
    """Some models leave the prompt out of the pooling: they must be told how long it is."""

    def __init__(self, model: SentenceTransformer, table: TextTable) -> None:
        self._table = table
        pooling = next((m for m in model if hasattr(m, "include_prompt")), None)
        self._lengths: dict[str, int] = {}
        if pooling is not None and not pooling.include_prompt:
            for role in ("query", "document"):
                if prompt := table.prompt(role):
                    told = model.preprocess(["x"], prompt=prompt).get("prompt_length", 0)
                    self._lengths[role] = int(told)

    def apart(self, parts: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        """Parts of one role each, where that matters."""
        for part in parts:
            roles = np.array([self._table.role(int(n)) for n in part]) if self._lengths else None
            if roles is None or (roles == roles[0]).all():
                yield part
            else:
                yield from (part[roles == role] for role in np.unique(roles))

    def features(self, number: int) -> dict[str, int]:
        """What the pooling wants to know of a part, by one of its texts."""
        if not self._lengths:
            return {}
        length = self._lengths.get(self._table.role(number), 0)
        return {"prompt_length": length} if length else {}


class Collate:
    """Row numbers of a batch -> what a training step needs; no tensor of token ids yet."""

    def __init__(self, rows: Rows, tally: Tally | None = None) -> None:
        """The rows of a stage; SimCSE encodes each column on its own, also a text that repeats."""
        self._rows, self._tally = rows, tally
        self._apart = NEEDS[rows.objective].apart
        self._matrix = np.stack(list(rows.columns.values()))

    def __len__(self) -> int:
        return int(self._matrix.shape[1])

    def __call__(self, numbers: list[int]) -> dict[str, Any]:
        """`texts`: distinct numbers of texts, a list for each run of the model; `columns`: for each
        column its run and the positions of its rows in it; `label`: a tensor, or not there.
        """
        part = self._matrix[:, numbers]
        if self._tally is not None:
            self._tally.add(rows=len(numbers), asked=part.size)
        batch: dict[str, Any] = {"rows": numbers}
        if self._apart:
            batch["texts"] = list(part)
            batch["columns"] = [(i, np.arange(len(numbers))) for i in range(len(part))]
        else:
            distinct, places = np.unique(part, return_inverse=True)
            batch["texts"] = [distinct]
            batch["columns"] = [(0, own) for own in places.reshape(part.shape)]
        if self._rows.labels is not None:
            batch["label"] = torch.from_numpy(self._rows.labels[numbers])
        return batch
