"""Words taken out of texts that are tokenised already, as TSDAE does before it encodes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


class Damage:
    """Takes words out of texts that are tokenised already."""

    def __init__(self, tokenizer: Any, deletion: float) -> None:
        """`deletion` is the share of words that go. Pieces of a word go together, as far as the
        vocabulary tells where a word begins (`##`, `▁`, `Ġ`).
        """
        words: dict[str, int] = tokenizer.get_vocab()
        self._deletion = deletion
        self._special = np.zeros(1 + max(words.values()), dtype=np.bool_)
        self._special[[i for i in tokenizer.all_special_ids if i != tokenizer.unk_token_id]] = True
        self._begins = _begins(words, len(self._special))

    def __call__(
        self,
        ids: Sequence[int] | NDArray[np.int32],
        generator: torch.Generator | None = None,
        kept: int = 0,
    ) -> NDArray[np.int32]:
        """The token ids that are left, in their order; special ones are, and at least one word.

        Args:
            ids: token ids of a text.
            generator: decides which; torch's own when not given, so that a resumed run repeats it.
            kept: this many tokens at the start stay in any case: a prompt.
        """
        own = np.asarray(ids, dtype=np.int32)
        stays = self._special[own]
        stays[:kept] = True
        begins = self._begins[own] | np.concatenate([[True], stays[:-1]])
        word = np.cumsum(begins & ~stays) - 1
        count = int(word[-1]) + 1 if len(word) else 0
        if not count:
            return own
        gone = torch.rand(count, generator=generator).numpy() < self._deletion
        if gone.all():
            gone[int(torch.randint(count, (1,), generator=generator))] = False
        left: NDArray[np.int32] = own[stays | ~gone[word]]
        return left


def _begins(words: dict[str, int], size: int) -> NDArray[np.bool_]:
    """Which tokens begin a word; all, where the vocabulary does not tell."""
    marks = {mark: sum(word.startswith(mark) for word in words) for mark in ("##", "▁", "Ġ")}
    mark = max(marks, key=lambda mark: marks[mark])
    found = np.ones(size, dtype=np.bool_)
    if marks[mark]:
        for word, number in words.items():
            found[number] = word.startswith(mark) != (mark == "##")
    return found
