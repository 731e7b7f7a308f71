"""The section `train` of a run's YAML: the stages of a training, and how it is run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_serializer, field_validator, model_validator

from codex_forge.config.section import Count, Positive, Section, Share, refuse_secret

Objective = Literal[
    "multiple_negatives_ranking",
    "triplet",
    "cosent",
    "angle",
    "cosine",
    "contrastive",
    "online_contrastive",
    "simcse",
    "tsdae",
    "distill_embedding",
    "distill_margin_mse",
    "distill_kl",
]
Phase = Literal["easy", "medium", "hard"]
Positives = Annotated[float, Field(gt=0.0)]


class StageConfig(Section):
    """One stage of a training; in `train.stages` a key that is not given is as in `train`."""

    name: str = Field(default="", pattern=r"^[A-Za-z0-9._-]{0,40}$")
    """What logs and the summary call the stage; its objective when not given."""
    objective: Objective = "multiple_negatives_ranking"
    """The loss. Pairs or triplets: `multiple_negatives_ranking`, `triplet`; scored pairs:
    `cosent`, `angle`, `cosine`; labelled pairs: `contrastive`, `online_contrastive`; texts alone:
    `simcse`, `tsdae`; with `distillation.teachers`: `distill_embedding` (any text),
    `distill_margin_mse` and `distill_kl` (pairs with negatives)."""
    matryoshka_dims: tuple[Positive, ...] = ()
    """The loss is also asked of the first n numbers of a vector, for each n given (such as
    [768, 512, 256, 128, 64]; those above the model's width are left out); () = off."""
    texts: Literal["chunks", "queries", "both"] = "chunks"
    """Which texts of the train pairs `simcse`, `tsdae` and `distill_embedding` read."""
    phases: tuple[Phase, ...] = ("easy", "medium", "hard")
    """Train on pairs of these phases; BM25 alone finds the positives of `easy` ones."""
    sources: tuple[str, ...] = ()
    """Train on pairs whose `source` is one of these (`question`, `entity` ...); () = all."""
    domains: tuple[str, ...] = ()
    """Train on pairs whose `domain` is one of these; () = all."""
    max_pairs: Positive | None = None
    """Train on at most this many pairs, drawn by seed."""
    num_negatives: Count = 1
    """Mined negatives of a pair that enter the batch."""
    epochs: Positives = 1.0
    """Passes over the stage's data."""
    max_steps: Annotated[int, Field(ge=-1)] = -1
    """Stop after this many optimizer steps; -1 = by epochs."""
    batch_size: Positive = 64
    """Pairs of one device that share a loss: the others are each other's negatives."""
    gradient_accumulation: Positive = 1
    """Batches in an optimizer step."""
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 2e-5
    """Peak learning rate of AdamW."""
    schedule: Literal["linear", "cosine", "cosine_with_restarts", "constant_with_warmup"] = "linear"
    """Shape of the learning rate after the warmup."""
    restarts: Positive = 1
    """Cycles of `cosine_with_restarts`."""
    warmup_ratio: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """Share of the steps in which the learning rate rises; `warmup_steps` wins when given."""
    warmup_steps: Count | None = None
    """Steps in which the learning rate rises."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    """Decoupled weight decay of AdamW."""
    scale: Positives = 20.0
    """Factor on the cosine (1 / temperature) of the ranking, SimCSE, CoSENT, AnglE and
    `distill_kl` losses."""
    margin: Positives = 0.5
    """Of the cosine distance, in the triplet and contrastive losses."""
    deletion: Share = 0.6
    """Share of the words that TSDAE takes out of a text before it is to be told again."""

    @field_validator("max_steps")
    @classmethod
    def _some_steps(cls, value: int) -> int:
        if value == 0:
            raise ValueError("must be 1 or more, or -1 for all steps of the epochs")
        return value

    @property
    def title(self) -> str:
        """What logs call the stage."""
        return self.name or self.objective


class LoraConfig(Section):
    """Low-rank adapters (Hu et al., 2021): trained instead of the weights, merged on save."""

    rank: Positive = 16
    """Rank of the adapters."""
    alpha: Positives = 32.0
    """The adapters' output is scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Dropout before the adapters."""
    targets: tuple[str, ...] = ()
    """Names of linear layers that get an adapter; () = those of the attention, found by kind."""


class DistillationConfig(Section):
    """Teachers of the `distill_*` objectives; their vectors are computed once and kept."""

    teachers: tuple[str, ...] = ()
    """Models, written as `model.base` is; several are an ensemble: their unit vectors are averaged
    (or, of different widths, their similarities)."""
    weights: tuple[Positives, ...] = ()
    """Weight of each teacher; () = equal."""
    query_prompt: str = ""
    """Put before queries for teachers that bring no prompt of their own."""
    document_prompt: str = ""
    """Put before chunks for teachers that bring no prompt of their own."""
    temperature: Positives = 1.0
    """Of `distill_kl`: above 1 softens the teachers' distribution."""

    @model_validator(mode="after")
    def _a_weight_for_each(self) -> DistillationConfig:
        if self.weights and len(self.weights) != len(self.teachers):
            raise ValueError("weights must be as many as teachers, or none")
        return self

    @field_validator("teachers")
    @classmethod
    def _no_secret_in_a_teacher(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for teacher in value:
            refuse_secret(teacher)
        return value


class ValidationConfig(Section):
    """What the model is measured on while it trains: dev questions, and dev pairs."""

    metric: str = "auto"
    """Chooses the best checkpoint: `ndcg@10`, `mrr@10`, `recall@1`, `recall@5`, `recall@10` of dev
    questions, `spearman`, `pearson`, `roc_auc`, `average_precision` of scored dev pairs, or `loss`
    of dev pairs; `auto`: `ndcg@10` with questions, `spearman` with scores, else
    `average_precision`."""
    every_steps: Count = 0
    """Optimizer steps between measurements; 0 = at the end of each epoch. The base model is
    measured before the first step, and the last step always."""
    keep: Literal["best", "last"] = "best"
    """Which weights a stage ends with: those of its best measurement, or its last."""
    patience: Count = 0
    """A stage ends early after this many measurements without a gain; 0 = never."""
    max_questions: Positive = 1_000
    """At most this many dev questions are asked, drawn by seed."""
    max_chunks: Positive = 1_000
    """They are asked of at most this many chunks: what answers them first, then mined negatives,
    then others, drawn by seed."""


class TrainConfig(StageConfig):
    """Fine-tuning with the sentence-transformers trainer, in one stage or several."""

    stages: tuple[StageConfig, ...] = ()
    """Stages in their order, each going on from the weights of the one before; () = one stage."""
    max_grad_norm: Positives = 1.0
    """Gradients are clipped to this norm."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format of the computation; `auto`: bf16 on hardware that multiplies it, else fp32."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    """Dropout of the layers that train; the model's own when not given."""
    freeze_embeddings: bool = False
    """Leave the token embeddings as they are."""
    freeze_layers: Count = 0
    """Leave this many layers at the bottom as they are, and the embeddings under them. What they
    give is computed once for each text, without dropout, and kept."""
    frozen_cache_gib: Annotated[float, Field(ge=0.0)] = 8.0
    """GiB of disk for what frozen layers give; texts beyond are computed each time."""
    lora: LoraConfig | None = None
    """Train adapters instead of the weights."""
    cached: bool = False
    """Forget activations and compute them again in the backward pass (GradCache): memory then
    grows with `micro_batch_tokens`, not with `batch_size`; about a third slower."""
    micro_batch_tokens: Count = 0
    """Tokens, padding included, that run through the model together; 0 = as measured best."""
    compile: bool = False
    """Compile the model with torch.compile. Meant for GPUs: on the CPU where it was measured it
    took minutes, needed a C++ compiler, and made steps slower."""
    distillation: DistillationConfig = DistillationConfig()
    validation: ValidationConfig = ValidationConfig()
    report_to: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    """Also send the metric history there; TensorBoard's files go into the artifact, the others take
    their address and key from the environment."""
    logging_steps: Positive = 10
    """Steps between lines of the metric history."""
    save_minutes: Annotated[float, Field(ge=0.0)] = 5.0
    """Minutes between checkpoints on the store; 0 = not by time. A stopped job saves one too."""
    save_steps: Count = 0
    """Optimizer steps between checkpoints on the store; 0 = not by steps."""
    save_total_limit: Positive = 2
    """Checkpoints kept on the store while training; all go when the model is published."""
    require_audit: bool = True
    """Refuse to train when the audit of these pairs is missing or failed."""

    @field_serializer("stages")
    def _as_given(self, stages: tuple[StageConfig, ...]) -> list[dict[str, Any]]:
        return [stage.model_dump(mode="json", exclude_unset=True) for stage in stages]

    @property
    def resolved_stages(self) -> tuple[StageConfig, ...]:
        """The stages with every key in place: what a stage leaves out is as in `train`."""
        shared = {name: getattr(self, name) for name in StageConfig.model_fields}
        if not self.stages:
            return (StageConfig.model_validate(shared),)
        given = [_given(stage) for stage in self.stages]
        return tuple(
            StageConfig.model_validate({**shared, "name": f"stage-{i}", **stage})
            for i, stage in enumerate(given, start=1)
        )

    @model_validator(mode="after")
    def _stages_have_their_own_names(self) -> TrainConfig:
        names = [stage.name for stage in self.resolved_stages]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two stages are called {twice[0]!r}; give each its own name")
        return self

    @model_validator(mode="after")
    def _all_layers_tell_again(self) -> TrainConfig:
        damaged = any(stage.objective == "tsdae" for stage in self.resolved_stages)
        if damaged and (self.freeze_layers or self.freeze_embeddings or self.lora):
            raise ValueError(
                "objective tsdae trains all layers; leave freeze_layers, freeze_embeddings and "
                "lora out"
            )
        return self

    @model_validator(mode="after")
    def _distilling_needs_teachers(self) -> TrainConfig:
        for stage in self.resolved_stages:
            if stage.objective.startswith("distill_") and not self.distillation.teachers:
                raise ValueError(f"objective {stage.objective} needs train.distillation.teachers")
        return self


def _given(stage: StageConfig) -> dict[str, Any]:
    return {name: getattr(stage, name) for name in stage.model_fields_set}
