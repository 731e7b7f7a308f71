"""Every objective is the library's own loss; it learns; pairs that cannot train it are refused."""

from __future__ import annotations

import copy
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.sentence_transformer.losses.contrastive import SiameseDistanceMetric
from sentence_transformers.sentence_transformer.losses.triplet import TripletDistanceMetric
from sentence_transformers.util import pairwise_cos_sim
from torch import Tensor, nn
from torch.nn import functional

from codex_forge.artifact import Artifact, Draft, Recipe, begin, open_artifact
from codex_forge.config.train import Objective, StageConfig
from codex_forge.errors import ConfigError, InputError
from codex_forge.jsonl import write_jsonl
from codex_forge.storage import Store
from codex_forge.train.data.needs import NEEDS, check, stem_of
from codex_forge.train.losses.objectives import make_loss
from tests.conftest import ROOT
from tests.tiny_models import some_texts, tiny_model

ROWS, WIDTH = 6, 32
TEMPERATURE = 2.0
OBJECTIVES: tuple[Objective, ...] = tuple(name for name in NEEDS if name != "tsdae")
SCORES = torch.tensor([0.9, 0.1, 0.5, 0.5, 0.3, 1.0])
LABELS = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0, 1.0])


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformer:
    return tiny_model("Bert", tmp_path_factory.mktemp("tiny")).train()


@pytest.fixture
def model(fresh: SentenceTransformer) -> SentenceTransformer:
    """A tiny BERT without dropout, in training mode."""
    return copy.deepcopy(fresh)


def stage(objective: str, **settings: Any) -> StageConfig:
    return StageConfig.model_validate(
        {"objective": objective, "num_negatives": 2, "margin": 0.3, "scale": 15.0, **settings}
    )


def column_texts(objective: Objective) -> list[list[str]]:
    """Texts by column; some stand in several rows."""
    texts = some_texts(24, 8)
    need = NEEDS[objective]
    if need.kind == "texts":
        return [texts[:ROWS]] * (2 if need.apart else 1)
    columns = [texts[ROWS * c : ROWS * (c + 1)] for c in range(4 if need.kind == "pairs" else 2)]
    columns[1][0] = columns[1][3]
    return columns


def labels_of(objective: Objective, teacher_width: int = WIDTH) -> Tensor | None:
    generator = torch.Generator().manual_seed(3)
    if objective == "distill_embedding":
        return torch.randn(ROWS, teacher_width, generator=generator)
    if objective == "distill_margin_mse":
        return torch.rand(ROWS, 2, generator=generator)
    if objective == "distill_kl":
        return torch.rand(ROWS, 3, generator=generator)
    return {"score": SCORES, "label": LABELS, None: None}[NEEDS[objective].label]


class OnUnitVectors(nn.Module):
    """Half the squared distance between unit vectors, written out."""

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, columns: list[dict[str, Tensor]], labels: Tensor) -> Tensor:
        (features,) = columns
        vectors = functional.normalize(self.model(features)["sentence_embedding"], dim=1)
        return (vectors - functional.normalize(labels, dim=1)).square().sum(1).mean() / 2


class OneByOne(nn.Module):
    """The library's triplet loss, asked for each negative in turn."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, columns: list[dict[str, Tensor]], labels: Tensor | None) -> Tensor:
        anchor, positive, *negatives = columns
        found = [self.loss([anchor, positive, negative], labels) for negative in negatives]
        return torch.stack(found).mean()


class Scaled(nn.Module):
    """Calls a loss with labels times a number."""

    def __init__(self, loss: nn.Module, factor: float) -> None:
        super().__init__()
        self.loss, self.factor = loss, factor

    def forward(self, columns: list[dict[str, Tensor]], labels: Tensor) -> Tensor:
        return cast("Tensor", self.loss(columns, labels * self.factor))


COSINE_DISTANCE = SiameseDistanceMetric.COSINE_DISTANCE
LIBRARY: dict[Objective, Callable[[Any], nn.Module]] = {
    "multiple_negatives_ranking": lambda m: losses.MultipleNegativesRankingLoss(m, scale=15.0),
    "triplet": lambda m: OneByOne(
        losses.TripletLoss(m, TripletDistanceMetric.COSINE, triplet_margin=0.3)
    ),
    "cosent": lambda m: losses.CoSENTLoss(m, scale=15.0),
    "angle": lambda m: losses.AnglELoss(m, scale=15.0),
    "cosine": losses.CosineSimilarityLoss,
    "contrastive": lambda m: losses.ContrastiveLoss(m, COSINE_DISTANCE, 0.3),
    "online_contrastive": lambda m: losses.OnlineContrastiveLoss(m, COSINE_DISTANCE, 0.3),
    "simcse": lambda m: losses.MultipleNegativesRankingLoss(m, scale=15.0),
    "distill_embedding": OnUnitVectors,
    "distill_margin_mse": lambda m: losses.MarginMSELoss(m, similarity_fct=pairwise_cos_sim),
    "distill_kl": lambda m: Scaled(
        losses.DistillKLDivLoss(
            m,
            similarity_fct=lambda a, b: 15.0 * pairwise_cos_sim(a, b),
            temperature=TEMPERATURE,
        ),
        15.0,
    ),
}
"""What each objective is said to be, on a model that encodes each column by itself."""


def over_dims(model: SentenceTransformer, loss: nn.Module, dims: list[int]) -> nn.Module:
    wrapped: nn.Module = losses.MatryoshkaLoss(model, loss, dims)
    return wrapped


def outcome(model: SentenceTransformer, loss: Tensor) -> tuple[float, dict[str, Tensor]]:
    """The loss, and the gradient of each weight that has one."""
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return float(loss.detach()), found


def vectors_of(model: SentenceTransformer, columns: list[list[str]]) -> list[dict[str, Tensor]]:
    """Each distinct text encoded once, and its vector wherever the text stands."""
    distinct = list(dict.fromkeys(text for column in columns for text in column))
    vectors = model(model.preprocess(distinct))["sentence_embedding"]
    at = {text: row for row, text in enumerate(distinct)}
    return [{"sentence_embedding": vectors[[at[text] for text in column]]} for column in columns]


@pytest.mark.parametrize("dims", [(), (64, 8, 16, 8)], ids=["whole", "matryoshka"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_loss_and_gradients_are_the_librarys(
    objective: Objective, dims: tuple[int, ...], model: SentenceTransformer
) -> None:
    columns, labels = column_texts(objective), labels_of(objective)
    library = LIBRARY[objective](model)
    if dims:
        library = over_dims(model, library, [32, 16, 8])
    wanted, gradients = outcome(model, library([model.preprocess(c) for c in columns], labels))

    ours = make_loss(stage(objective, matryoshka_dims=dims), WIDTH, temperature=TEMPERATURE)
    loss, found = outcome(model, ours(vectors_of(model, columns), labels))
    assert loss == pytest.approx(wanted, rel=1e-4)
    assert wanted > 0
    assert found.keys() == gradients.keys()
    most = max(float(gradient.abs().max()) for gradient in gradients.values())
    assert most > 0
    for name, gradient in gradients.items():
        assert float((found[name] - gradient).abs().max()) < 1e-4 * most, name


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_few_steps_lower_the_loss(objective: Objective, model: SentenceTransformer) -> None:
    columns, labels = column_texts(objective), labels_of(objective)
    columns[-1] = columns[-1] if NEEDS[objective].kind == "texts" else some_texts(40, 8)[-ROWS:]
    loss = make_loss(stage(objective), WIDTH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    seen = []
    for _ in range(12):
        optimizer.zero_grad()
        found = loss(vectors_of(model, columns), labels)
        found.backward()
        optimizer.step()
        seen.append(float(found.detach()))
    assert seen[-1] < 0.8 * seen[0], seen


def test_a_teacher_of_another_width_is_matched_in_its_cosines(model: SentenceTransformer) -> None:
    columns = column_texts("distill_embedding")
    labels = labels_of("distill_embedding", 12)
    assert labels is not None
    loss = make_loss(stage("distill_embedding"), WIDTH, teacher_width=12)
    features = vectors_of(model, columns)
    vectors = features[0]["sentence_embedding"]
    squares = [
        (
            torch.cosine_similarity(vectors[i], vectors[j], 0)
            - torch.cosine_similarity(labels[i], labels[j], 0)
        )
        ** 2
        for i in range(ROWS)
        for j in range(ROWS)
        if i != j
    ]
    assert float(loss(features, labels).detach()) == pytest.approx(
        float(torch.stack(squares).mean().detach()), rel=1e-4
    )
    one = [{"sentence_embedding": vectors[:1]}]
    assert float(loss(one, labels[:1]).detach()) == pytest.approx(0.0, abs=1e-9)

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    first = float(loss(features, labels).detach())
    for _ in range(12):
        optimizer.zero_grad()
        found = loss(vectors_of(model, columns), labels)
        found.backward()
        optimizer.step()
    assert float(found.detach()) < 0.8 * first


def test_a_loss_leaves_the_vectors_it_is_given_as_they_are() -> None:
    vectors = [{"sentence_embedding": torch.randn(ROWS, WIDTH)} for _ in range(2)]
    before = [column["sentence_embedding"] for column in vectors]
    make_loss(stage("cosent", matryoshka_dims=[8]), WIDTH)(vectors, SCORES)
    for column, own in zip(vectors, before, strict=True):
        assert column["sentence_embedding"] is own


def test_lengths_above_the_models_are_left_out_and_the_whole_is_in(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="codex_forge")
    given = stage("cosent", matryoshka_dims=[768, 512, 256, 128, 64], name="narrow")
    assert cast("Any", make_loss(given, 384)).matryoshka_dims == (384, 256, 128, 64)
    assert "narrow" in caplog.text
    assert "cut to 256, 128, 64 numbers" in caplog.text
    assert "left out: 768, 512, above the model's 384" in caplog.text
    assert isinstance(make_loss(stage("cosent", matryoshka_dims=[768]), 384), losses.CoSENTLoss)


@pytest.mark.parametrize("objective", ["cosent", "angle", "contrastive", "online_contrastive"])
def test_a_batch_with_nothing_to_tell_apart_is_no_nan(objective: Objective) -> None:
    vectors = torch.randn(2, ROWS, WIDTH, requires_grad=True)
    for value in (0.0, 1.0):
        loss = make_loss(stage(objective, matryoshka_dims=[8]), WIDTH)
        found = loss([{"sentence_embedding": v} for v in vectors], torch.full((ROWS,), value))
        (gradient,) = torch.autograd.grad(found, vectors)
        assert torch.isfinite(found)
        assert torch.isfinite(gradient).all()


# --- what the data must hold ---------------------------------------------------------------------

PAIR = {"query": "q", "positive": "p", "negatives": ["a", "b"], "phase": "easy"}
BARE = {**PAIR, "negatives": []}
SCORED = {"text_a": "a", "text_b": "b", "score": 0.3, "phase": "easy"}
LABELLED = {"text_a": "a", "text_b": "b", "label": 1, "phase": "easy"}


def artifact(folder: Path, **files: list[dict[str, Any]]) -> Artifact:
    """A pairs artifact of these rows: `pairs` and `scored`."""
    store = Store(str(folder / "store"))
    (folder / "cache").mkdir(parents=True)
    draft = begin(store, Recipe("pairs", "small", {}, {}), folder / "cache", force=False)
    assert isinstance(draft, Draft)
    for stem, rows in files.items():
        write_jsonl(draft.path(f"{stem}-train.jsonl"), rows)
    draft.commit({}, {})
    draft.lease.release(0)
    return open_artifact(store, "pairs", "small", folder / "cache")


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_data_of_its_own_kind_will_do(objective: Objective, tmp_path: Path) -> None:
    rows: dict[str, dict[str, list[dict[str, Any]]]] = {
        "pairs": {"pairs": [BARE, PAIR]},
        "scored": {"scored": [SCORED, LABELLED]},
        "texts": {"pairs": [BARE]},
    }
    check(stage(objective), artifact(tmp_path, **rows[NEEDS[objective].kind]))


def test_texts_are_taken_from_scored_pairs_where_there_are_no_others(tmp_path: Path) -> None:
    scored = artifact(tmp_path / "scored", scored=[SCORED])
    both = artifact(tmp_path / "both", scored=[SCORED], pairs=[PAIR])
    objectives: tuple[Objective, ...] = ("simcse", "tsdae", "distill_embedding")
    for objective in objectives:
        check(stage(objective), scored)
        assert stem_of(objective, scored) == "scored-train"
        assert stem_of(objective, both) == "pairs-train"
    assert stem_of("cosent", both) == "scored-train"


def refused(given: StageConfig, folder: Path, **rows: list[dict[str, Any]]) -> str:
    with pytest.raises((InputError, ConfigError)) as error:
        check(given, artifact(folder, **rows))
    return str(error.value)


@pytest.mark.parametrize(
    "objective", ["multiple_negatives_ranking", "triplet", "distill_margin_mse", "distill_kl"]
)
def test_scored_pairs_have_no_positives(objective: str, tmp_path: Path) -> None:
    said = refused(stage(objective), tmp_path / "1", scored=[SCORED])
    assert "holds scored or labelled pairs only" in said
    assert f"objective {objective}" in said
    assert "use cosent, angle or cosine, or give pairs" in said
    said = refused(stage(objective), tmp_path / "2", scored=[LABELLED])
    assert "use contrastive or online_contrastive, or give pairs" in said
    assert "cosent" not in said


@pytest.mark.parametrize("objective", ["cosent", "angle", "cosine", "contrastive"])
def test_pairs_have_no_scores(objective: Objective, tmp_path: Path) -> None:
    said = refused(stage(objective), tmp_path, pairs=[PAIR])
    assert "holds no scored pairs" in said
    assert f"a {NEEDS[objective].label}" in said
    assert "use multiple_negatives_ranking or triplet" in said


@pytest.mark.parametrize("objective", ["contrastive", "online_contrastive"])
def test_scores_are_no_labels(objective: str, tmp_path: Path) -> None:
    said = refused(stage(objective, name="last"), tmp_path, scored=[SCORED, SCORED])
    assert "its pairs have a score, none has a label" in said
    assert f"objective {objective} of stage last needs a label" in said
    assert "use cosent, angle or cosine" in said


@pytest.mark.parametrize("objective", ["cosent", "angle", "cosine"])
def test_labels_are_no_scores(objective: str, tmp_path: Path) -> None:
    said = refused(stage(objective), tmp_path, scored=[LABELLED])
    assert "its pairs have a label, none has a score" in said
    assert "use contrastive or online_contrastive" in said


@pytest.mark.parametrize("objective", ["triplet", "distill_margin_mse", "distill_kl"])
def test_a_negative_is_needed(objective: str, tmp_path: Path) -> None:
    said = refused(stage(objective, num_negatives=0), tmp_path / "1", pairs=[PAIR])
    assert f"objective {objective} needs 1 mined negative" in said
    assert "train.num_negatives=0" in said


def test_more_negatives_than_any_pair_has_are_refused(tmp_path: Path) -> None:
    given = stage("multiple_negatives_ranking", num_negatives=3)
    said = refused(given, tmp_path / "1", pairs=[BARE, PAIR])
    assert "no pair has 3 negatives" in said
    assert "lower train.num_negatives" in said
    check(given.model_copy(update={"num_negatives": 0}), artifact(tmp_path / "2", pairs=[BARE]))


def test_tsdae_has_no_shorter_vectors(tmp_path: Path) -> None:
    said = refused(stage("tsdae", matryoshka_dims=[64]), tmp_path, pairs=[PAIR])
    assert "train.matryoshka_dims" in said


def test_what_is_asked_before_training_needs_no_torch() -> None:
    rooms = "needs", "teachers", "distillation"
    names = ", ".join(f"codex_forge.train.data.{room}" for room in rooms)
    code = f"import {names}, sys; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == 0
