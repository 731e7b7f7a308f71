"""One step of a stage: a batch in, its loss out, for every objective.

The library's losses see vectors only. With several ranks each sees those of all, and computes the
loss of the whole batch: so one process and many take the same step, whatever the loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from codex_forge.train import ranks
from codex_forge.train.data.damage import Damage
from codex_forge.train.encoding import Tower
from codex_forge.train.losses.tsdae import TsdaeLoss

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from codex_forge.train.data.distillation import Teacher


class Step(nn.Module):
    """A loss over the vectors of a batch; its parameters are the model's and the loss's own."""

    def __init__(self, tower: Tower, objective: nn.Module, teacher: Teacher | None = None) -> None:
        """`objective` takes a list of `{"sentence_embedding": (rows, dimension)}`, and labels: the
        batch's, or the vectors that the `teacher` has for the texts of its one column.
        """
        super().__init__()
        self.model: SentenceTransformer = tower.model
        self.objective = objective
        self._tower, self._teacher = tower, teacher

    def forward(self, batch: dict[str, Any]) -> torch.Tensor:
        """The mean loss of the batch over all ranks, the same number on each."""
        columns = [ranks.gathered(column) for column in self._columns(batch)]
        label = self._label(batch)
        if label is not None:
            label = ranks.gathered(label.to(columns[0].device))
        loss: torch.Tensor = self.objective([{"sentence_embedding": c} for c in columns], label)
        return loss

    def _columns(self, batch: dict[str, Any]) -> list[torch.Tensor]:
        """The vectors of each column of the batch, shape (rows, dimension)."""
        runs = [self._tower(numbers) for numbers in batch["texts"]]
        return [
            runs[run][torch.as_tensor(places, device=runs[run].device)]
            for run, places in batch["columns"]
        ]

    def _label(self, batch: dict[str, Any]) -> torch.Tensor | None:
        if self._teacher is None:
            return batch.get("label")
        ((run, places),) = batch["columns"]
        return self._teacher.of(batch["texts"][run][places])


class TellingStep(nn.Module):
    """TSDAE: words are taken out of each text, and a decoder tells it again from its vector."""

    def __init__(self, tower: Tower, deletion: float) -> None:
        """`deletion` is the share of words that go."""
        super().__init__()
        self.model: SentenceTransformer = tower.model
        self.objective = TsdaeLoss(tower.model, tower.memory)
        self._tower, self._damage = tower, Damage(tower.model.tokenizer, deletion)
        self._dice = torch.Generator()
        self._kept = {role: _prompt_tokens(tower, role) for role in ("query", "document")}

    def forward(self, batch: dict[str, Any]) -> torch.Tensor:
        """The mean loss of the batch over all ranks; its gradient is this rank's share."""
        table = self._tower.table
        ((run, places),) = batch["columns"]
        numbers = batch["texts"][run][places]
        whole = [table.ids(int(number)) for number in numbers]
        kept = [self._kept[table.role(int(number))] for number in numbers]
        vectors = self._tower.of_ids(self._damaged(numbers, whole, kept))
        features = self._tower.padded(whole)
        mask = features["attention_mask"]
        tokens = int(sum(ranks.from_all(TsdaeLoss.told(mask))))
        with self._tower.autocast():
            share: torch.Tensor = self.objective(vectors, features["input_ids"], mask, tokens)
        total = ranks.gathered(share[None]).sum().detach()
        return share + (total - share).detach()

    def _damaged(
        self, numbers: NDArray[Any], whole: list[NDArray[np.int32]], kept: list[int]
    ) -> list[NDArray[np.int32]]:
        """What is left of each text: the same, whichever rank has it and whatever is beside it."""
        seed = ranks.from_first(int(torch.randint(2**62, ())))
        found = []
        for number, ids, prompt in zip(numbers, whole, kept, strict=True):
            self._dice.manual_seed(seed + int(number))
            found.append(self._damage(ids, self._dice, prompt))
        return found


def _prompt_tokens(tower: Tower, role: str) -> int:
    """How many tokens at the start of a text are its prompt's: they are not damaged."""
    prompt = tower.table.prompt(role)
    if not prompt:
        return 0
    tokenizer = tower.model.tokenizer
    with_it, without = (tokenizer(text)["input_ids"] for text in (prompt, ""))
    return len(with_it) - len(without)
