"""What frozen layers give for each text of a training, computed once and kept in a file.

The file is a plain matrix, a row for each token, in the number format of the computation; its name
carries a hash of all that its content depends on, so that a resumed run or the next trial of a
sweep finds it. Texts that have no room in it are computed each time, to the same format.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from codex_forge.train.data.texts import TextTable
from codex_forge.train.layers.frozen import Frozen
from codex_forge.train.layers.kept import KeptFile
from codex_forge.train.layers.probing import Features, probe

log = logging.getLogger("codex_forge")

_GIB = 2**30
_STORED = {torch.float32: np.float32, torch.bfloat16: np.int16, torch.float16: np.int16}
"""How numpy holds the bits of a format."""


class ActivationCache:
    """Hands a model whose frozen layers were taken off what these give, by the texts' numbers."""

    def __init__(
        self,
        folder: Path,
        texts: TextTable,
        frozen: Frozen,
        *,
        dtype: torch.dtype,
        limit_gib: float,
        tokens_per_forward: int,
        numbers: Sequence[int] | NDArray[np.int32] | None = None,
    ) -> None:
        """Compute what is not there yet. All ranks must call it; they share the work.

        Args:
            folder: where files are kept, those of other runs too.
            texts: the table; it may grow later.
            frozen: the layers; their model must be on its device.
            dtype: of the computation: float32, bfloat16 or float16.
            limit_gib: GiB of all files in the folder; the longest texts are kept, as each of their
                tokens costs most. 0 = keep nothing.
            tokens_per_forward: tokens, padding included, that run together.
            numbers: the texts to keep; all that are in the table now when not given.

        Raises:
            Preempted: a signal came.
        """
        self._texts, self._frozen, self._dtype = texts, frozen, dtype
        self._device = frozen.model.device
        self._pad = int(getattr(frozen.model.tokenizer, "pad_token_id", None) or 0)
        self._lengths = texts.lengths
        self._starts = np.full(len(self._lengths), -1, dtype=np.int64)
        """Row of the file where a text begins; -1: it is not there."""
        self._width = int(self._forward(probe(frozen.model)).shape[-1])
        self._type = next(iter(frozen.weights.values())).dtype
        self._data: Any = None
        wanted = np.arange(len(self._lengths)) if numbers is None else np.unique(numbers)
        kept = self._chosen(wanted, limit_gib * _GIB)
        if len(kept):
            self._keep(folder, kept, limit_gib * _GIB, tokens_per_forward)
        log.info(
            "  the output of %d frozen layers is kept for %s of %s texts, %.2f GiB in %s",
            frozen.layers,
            f"{int((self._starts >= 0).sum()):,}",
            f"{len(wanted):,}",
            0.0 if self._data is None else self._data.nbytes / _GIB,
            folder,
        )

    def hand(self, numbers: Sequence[int] | NDArray[Any]) -> None:
        """Let the next forward pass start from what the frozen layers give for these texts."""
        self._frozen.hand(self.hidden(numbers))

    def hidden(self, numbers: Sequence[int] | NDArray[Any]) -> torch.Tensor:
        """What they give, shape (texts, tokens of the longest, width), on the model's device.

        Padded on the right with zeros; in the format of the model's weights.
        """
        asked = np.asarray(numbers, dtype=np.int64)
        self._grow(int(asked.max()))
        is_kept = self._starts[asked] >= 0
        if is_kept.all():
            found = self._read(asked)
        elif not is_kept.any():
            found = self._compute(asked)
        else:
            shape = (len(asked), int(self._lengths[asked].max()), self._width)
            found = torch.zeros(shape, dtype=self._dtype, device=self._device)
            for rows, part in ((is_kept, self._read), (~is_kept, self._compute)):
                own = part(asked[rows])
                at = torch.from_numpy(np.flatnonzero(rows)).to(self._device)
                found[:, : own.shape[1]].index_copy_(0, at, own)
        return found.to(self._type)

    # --- reading and computing -------------------------------------------------------------------

    def _read(self, numbers: NDArray[np.int64]) -> torch.Tensor:
        lengths, places = self._lengths[numbers], np.arange(self._lengths[numbers].max())
        last = np.minimum(places, lengths[:, None] - 1)  # padding reads the text's last token
        rows = torch.from_numpy((self._starts[numbers][:, None] + last).reshape(-1))
        on_gpu = self._device.type == "cuda"
        out = torch.empty((len(rows), self._width), dtype=self._dtype, pin_memory=on_gpu)
        torch.index_select(self._data, 0, rows, out=out)
        found = out.to(self._device, non_blocking=on_gpu).view(*last.shape, self._width)
        return self._without_padding(found, lengths)

    def _compute(self, numbers: NDArray[np.int64]) -> torch.Tensor:
        lengths = self._lengths[numbers]
        ids = np.full((len(numbers), int(lengths.max())), self._pad, dtype=np.int64)
        for row, number in enumerate(numbers):
            ids[row, : lengths[row]] = self._texts.ids(int(number))
        mask = np.arange(ids.shape[1]) < lengths[:, None]
        features = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
        given = {k: torch.from_numpy(v).to(self._device) for k, v in features.items()}
        return self._without_padding(self._forward(given), lengths)

    def _forward(self, features: Features) -> torch.Tensor:
        half = self._dtype != torch.float32
        with torch.autocast(self._device.type, self._dtype) if half else nullcontext():
            return self._frozen.bottom(features).to(self._dtype)

    def _without_padding(self, found: torch.Tensor, lengths: NDArray[np.int32]) -> torch.Tensor:
        if (lengths == lengths[0]).all():
            return found
        is_padding = np.arange(found.shape[1]) >= lengths[:, None]
        found.masked_fill_(torch.from_numpy(is_padding[..., None]).to(self._device), 0)
        return found

    def _grow(self, number: int) -> None:
        """The table has got more texts since: they are not kept."""
        if number >= len(self._lengths):
            self._lengths = self._texts.lengths
            more = len(self._lengths) - len(self._starts)
            self._starts = np.concatenate([self._starts, np.full(more, -1, dtype=np.int64)])

    # --- the file --------------------------------------------------------------------------------

    def _chosen(self, numbers: NDArray[Any], limit: float) -> NDArray[np.int64]:
        """The texts to keep, in the order of the file: longest first."""
        order = numbers[np.lexsort((numbers, -self._lengths[numbers]))].astype(np.int64)
        row = self._width * self._dtype.itemsize
        return order[np.cumsum(self._lengths[order], dtype=np.int64) * row <= limit]

    def _keep(self, folder: Path, kept: NDArray[np.int64], limit: float, together: int) -> None:
        """Find or make the file, and open it."""
        path = folder / f"activations-{self._key(kept, together)}.bin"
        ends = np.cumsum(self._lengths[kept], dtype=np.int64)
        starts = ends - self._lengths[kept]
        row = self._width * self._dtype.itemsize
        cuts = self._cuts(kept, together)
        chunks = np.split(kept, cuts[1:])
        file = KeptFile(path, int(ends[-1]) * row, limit)
        pieces = [int(starts[cut]) * row for cut in cuts]
        if file.provide(pieces, lambda i: self._bytes(chunks[i]), "batches of frozen layers"):
            shape = (int(ends[-1]), self._width)
            matrix = np.memmap(path, _STORED[self._dtype], mode="c", shape=shape)
            self._data = torch.from_numpy(matrix).view(self._dtype)
            self._starts[kept] = starts

    def _cuts(self, kept: NDArray[np.int64], together: int) -> list[int]:
        """Where the texts that run together begin; the same in every run."""
        cuts = [0]
        while cuts[-1] < len(kept):
            cuts.append(cuts[-1] + max(1, together // int(self._lengths[kept[cuts[-1]]])))
        return cuts[:-1]

    def _bytes(self, numbers: NDArray[np.int64]) -> memoryview:
        """All tokens of texts, one after another."""
        found = self._compute(numbers)
        is_token = np.arange(found.shape[1]) < self._lengths[numbers][:, None]
        return _bytes_of(found[torch.from_numpy(is_token).to(self._device)])

    def _key(self, kept: NDArray[np.int64], together: int) -> str:
        """Hash of all that the content depends on: weights, config, texts, number format."""
        frozen = self._frozen
        config: Any = getattr(frozen.model[0].model.config, "to_dict", dict)()
        config.pop("_name_or_path", None)
        device = torch.cuda.get_device_name(self._device) if torch.cuda.is_available() else ""
        said = [config, frozen.layers, str(self._dtype), together, device, torch.__version__]
        digest = hashlib.blake2b(json.dumps(said, sort_keys=True, default=str).encode())
        for name, weight in frozen.weights.items():
            digest.update(name.encode())
            digest.update(_bytes_of(weight.detach()))
        digest.update(self._lengths[kept].tobytes())
        for number in kept:
            digest.update(self._texts.ids(int(number)).tobytes())
        return digest.hexdigest()[:32]


def _bytes_of(values: torch.Tensor) -> memoryview:
    flat: Any = values.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return memoryview(flat)
