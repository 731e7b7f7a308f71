"""The losses that a train config can name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codex_forge.config.sections import TrainConfig

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer


def make_loss(config: TrainConfig, model: SentenceTransformer) -> torch.nn.Module:
    """The loss of `train.objective` for this model.

    `multiple_negatives_ranking`: cross-entropy of the positive among all positives and negatives
    of the batch (Henderson et al., 2017; van den Oord et al., 2018, as InfoNCE).
    """
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    loss: torch.nn.Module = MultipleNegativesRankingLoss(model, scale=config.scale)
    return loss
