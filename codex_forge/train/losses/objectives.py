"""The losses that a stage can name: the library's own, over vectors that are already there.

What data each of them needs is in `needs`. `tsdae` is in a room of its own. All of them are asked
of the whole batch, of all ranks, in float32.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.sentence_transformer.losses.contrastive import SiameseDistanceMetric
from sentence_transformers.sentence_transformer.losses.triplet import TripletDistanceMetric
from sentence_transformers.util import pairwise_cos_sim
from torch import Tensor, nn
from torch.nn import functional

from codex_forge.config.train import StageConfig

log = logging.getLogger("codex_forge")

Features = dict[str, Tensor]


class Given(nn.Module):
    """Stands where the library's losses expect a model, and gives back the vectors it is given."""

    def __init__(self, dimension: int) -> None:
        """Vectors have `dimension` numbers."""
        super().__init__()
        self._dimension = dimension

    def forward(self, features: Features) -> Features:
        """The features; a copy, since the Matryoshka loss cuts what it gets in place."""
        return dict(features)

    def get_embedding_dimension(self) -> int:
        """Length of a vector, by the name that the library asks for."""
        return self._dimension


def make_loss(
    stage: StageConfig, dimension: int, *, teacher_width: int | None = None, temperature: float = 1
) -> nn.Module:
    """The loss of a stage, called as `loss([{"sentence_embedding": column}, ...], labels)`.

    Args:
        stage: names it; not `tsdae`.
        dimension: length of the model's vectors.
        teacher_width: length of the teachers' vectors, for `distill_embedding`.
        temperature: of `distill_kl`.

    With `matryoshka_dims` the loss is the sum of those over vectors cut to each length (Kusupati et
    al., Matryoshka Representation Learning, 2022); the full length is always among them.
    """
    given = Given(dimension)
    if stage.objective == "distill_embedding":
        loss = _like_the_teacher(given, teacher_width or dimension)
    elif stage.objective == "distill_kl":
        loss = _like_its_ranking(given, stage.scale, temperature)
    else:
        loss = _LOSSES[stage.objective](given, stage)
    dims = _dims(stage, dimension)
    return losses.MatryoshkaLoss(given, loss, dims) if len(dims) > 1 else loss


def _dims(stage: StageConfig, dimension: int) -> list[int]:
    """Lengths that the loss is asked of, longest first."""
    if not stage.matryoshka_dims:
        return [dimension]
    left_out = sorted({n for n in stage.matryoshka_dims if n > dimension}, reverse=True)
    dims = sorted({dimension, *stage.matryoshka_dims} - set(left_out), reverse=True)
    log.info("  %s: vectors are also trained cut to %s numbers", stage.title, _listed(dims[1:]))
    if left_out:
        log.info("  left out: %s, above the model's %d", _listed(left_out), dimension)
    return dims


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) or "no other"


class EachNegative(losses.TripletLoss):  # type: ignore[misc]
    """The library's triplet loss, the mean over all negatives of a row."""

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        """Columns `anchor`, `positive`, `negative_1` ..., each of shape (rows, dimension)."""
        anchor, positive, *negatives = embeddings
        times = len(negatives)
        threes = [anchor.repeat(times, 1), positive.repeat(times, 1), torch.cat(negatives)]
        found: Tensor = super().compute_loss_from_embeddings(threes, labels)
        return found


class SimilarityLoss(nn.Module):
    """How far the cosines between the texts of a batch are from the teacher's; any widths.

    The mean square over all pairs of two texts; after Tung & Mori, Similarity-Preserving Knowledge
    Distillation, 2019, on cosines.
    """

    def __init__(self, model: nn.Module) -> None:
        """`model` gives the vectors."""
        super().__init__()
        self.model = model

    def forward(self, sentence_features: list[Features], labels: Tensor) -> Tensor:
        """`labels` are the teacher's vectors of the one column there is, (texts, its width)."""
        vectors = self.model(*sentence_features)["sentence_embedding"]
        off = _cosines(vectors) - _cosines(labels.to(vectors.device).detach())
        return off.pow(2).sum() / max(1, len(off) * (len(off) - 1))


def _cosines(vectors: Tensor) -> Tensor:
    unit = functional.normalize(vectors.float(), dim=-1)
    return unit @ unit.T


def _like_the_teacher(given: Given, teacher_width: int) -> nn.Module:
    """One minus the cosine with the teacher's vector: half the squared distance of unit vectors.

    Reimers & Gurevych, Making Monolingual Sentence Embeddings Multilingual using Knowledge
    Distillation, 2020. A teacher of another width is matched in its similarities.
    """
    if teacher_width != given.get_embedding_dimension():
        return SimilarityLoss(given)
    loss: nn.Module = losses.EmbedDistillLoss(given, distance_metric="cosine")
    return loss


def _like_its_ranking(given: Given, scale: float, temperature: float) -> nn.Module:
    """KL divergence from the teacher's distribution over positive and negatives (Hinton et al.,
    Distilling the Knowledge in a Neural Network, 2015).

    Both distributions are softmaxes of `scale` x cosine / temperature: cosines alone lie so close
    together that every candidate would be as likely as the next. Labels are the teacher's cosines.
    """

    def scaled(one: Tensor, other: Tensor) -> Tensor:
        cosines: Tensor = pairwise_cos_sim(one, other)
        return scale * cosines

    loss: nn.Module = losses.DistillKLDivLoss(
        given,
        similarity_fct=scaled,
        student_temperature=temperature,
        teacher_temperature=temperature / scale,
    )
    return loss


def _ranking(given: Given, stage: StageConfig) -> Any:
    """Cross-entropy of the positive among all positives and negatives of the batch.

    Henderson et al., Efficient Natural Language Response Suggestion, 2017; InfoNCE of van den Oord
    et al., 2018. On a text and itself, each with another dropout: Gao et al., SimCSE, 2021.
    """
    return losses.MultipleNegativesRankingLoss(given, scale=stage.scale)


def _triplet(given: Given, stage: StageConfig) -> Any:
    """Schroff et al., FaceNet, 2015, with the cosine distance."""
    return EachNegative(given, TripletDistanceMetric.COSINE, stage.margin)


def _cosent(given: Given, stage: StageConfig) -> Any:
    """Su, CoSENT, 2022: pairs of pairs in the order of their scores."""
    return losses.CoSENTLoss(given, scale=stage.scale)


def _angle(given: Given, stage: StageConfig) -> Any:
    """Li & Li, AnglE-optimized Text Embeddings, 2023: CoSENT on angles in complex space."""
    return losses.AnglELoss(given, scale=stage.scale)


def _cosine(given: Given, stage: StageConfig) -> Any:
    """Mean squared error of the cosine (Reimers & Gurevych, Sentence-BERT, 2019)."""
    return losses.CosineSimilarityLoss(given)


def _contrastive(given: Given, stage: StageConfig) -> Any:
    """Hadsell et al., Dimensionality Reduction by Learning an Invariant Mapping, 2006."""
    return losses.ContrastiveLoss(given, SiameseDistanceMetric.COSINE_DISTANCE, stage.margin)


def _online_contrastive(given: Given, stage: StageConfig) -> Any:
    """The contrastive loss summed over the hard pairs of a batch alone."""
    return losses.OnlineContrastiveLoss(given, SiameseDistanceMetric.COSINE_DISTANCE, stage.margin)


def _margin_mse(given: Given, stage: StageConfig) -> Any:
    """How much nearer the positive is than each negative, told by the teacher's cosines.

    Hofstätter et al., Improving Efficient Neural Ranking Models with Cross-Architecture Knowledge
    Distillation, 2020; here on cosines.
    """
    return losses.MarginMSELoss(given, similarity_fct=pairwise_cos_sim)


_LOSSES: dict[str, Callable[[Given, StageConfig], Any]] = {
    "multiple_negatives_ranking": _ranking,
    "triplet": _triplet,
    "cosent": _cosent,
    "angle": _angle,
    "cosine": _cosine,
    "contrastive": _contrastive,
    "online_contrastive": _online_contrastive,
    "simcse": _ranking,
    "distill_margin_mse": _margin_mse,
}
