"""The sections of a run's YAML: each key has its one default here and its meaning under it."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

_ROUNDING = 1e-6

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]


def _refuse_secret(url: str) -> None:
    """Configs go into manifests and logs: no URL in them may carry credentials."""
    scheme, _, rest = url.partition("://")
    # A secret may hold `/`: then what looks like the bucket is `KEY:SECR`.
    host = rest.split("/", 1)[0]
    if re.search(r"[?&](x-amz-|awsaccesskeyid=|signature=|sig=|token=)", url, re.IGNORECASE):
        raise ValueError("a signed URL is a secret; give the plain one and credentials apart")
    port = scheme in ("http", "https") and host.rpartition(":")[2].isdigit()
    if "@" in host or (":" in host and not port and not host.startswith("arn:")):
        raise ValueError("credentials do not belong in a URL; set AWS_ACCESS_KEY_ID and so on")


def _one_is_a_list(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Paths = Annotated[
    tuple[str, ...],
    BeforeValidator(_one_is_a_list),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
"""Paths, globs and URLs; one may stand without the brackets of a list."""


class Section(BaseModel):
    """A frozen value; a key that it does not know is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: object, info: ValidationInfo) -> object:
        """YAML reads `on` and `yes` as true, which Python takes for the number 1."""
        field = cls.model_fields[info.field_name or ""]
        if isinstance(value, bool) and field.annotation is not bool:
            raise ValueError("must not be true or false; quote it if it is a word")
        return value


class CorpusConfig(Section):
    """The documents of the domain: chunks, alias indexes and the question bank."""

    chunks: Paths = Field(min_length=1)
    """Files of chunks, a JSON object a line (`text`, `filename`, `*_mentions`); globs and URLs."""
    indexes: Paths = ()
    """Files of entities with their aliases (`*_index.json`); globs and URLs."""
    questions: Paths = ()
    """Files of test questions (`{"questions": [...]}`); globs and URLs."""
    on_bad_record: Literal["fail", "reject"] = "fail"
    """`fail` stops at bad records and shows them; `reject` sets them aside with their reason."""

    @field_validator("chunks", "indexes", "questions")
    @classmethod
    def _no_secret_in_a_url(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            _refuse_secret(url)
        return value


class ModelConfig(Section):
    """The embedding model that everything starts from."""

    base: str = Field(min_length=1)
    """A folder, `package:NAME/FOLDER` (inside an installed Python package), or a model hub id."""
    revision: str | None = None
    """Commit or tag of a model hub id."""
    max_seq_length: Positive | None = None
    """Tokens kept of a text; the model's own limit when not given."""
    query_prompt: str = ""
    """Put before every query (such as `search_query: `); travels with the trained model."""
    document_prompt: str = ""
    """Put before every chunk (such as `search_document: `); travels with the trained model."""
    trust_remote_code: bool = False
    """Run Python code that the model's repository ships. Off unless you have read that code."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; `auto` takes the accelerator when there is one."""


class SplitConfig(Section):
    """How the question bank is divided; questions with the same answer stay together."""

    train: Share = 0.3
    """Share of questions that may be trained on."""
    dev: Share = 0.1
    """Share of questions that training may look at to choose."""
    test: Share = 0.6
    """Share of questions that only `evaluate` reads."""
    group_by: tuple[str, ...] = ()
    """More question fields whose equal values keep questions in one part, such as `entity`."""

    @model_validator(mode="after")
    def _shares_add_up(self) -> SplitConfig:
        if abs(self.train + self.dev + self.test - 1.0) > _ROUNDING:
            raise ValueError("train + dev + test must be 1")
        return self


class SynthesisConfig(Section):
    """Queries made from what the corpus and the alias indexes say."""

    templates: tuple[str, ...] = ("{name}", "tell me about {name}", "who or what is {name}")
    """Wordings of a query; `{name}` stands for an entity's name, an alias or a mention."""
    per_entity: Count = 8
    """At most this many queries for an entity, over its names and aliases."""
    per_name: Positive = 2
    """At most this many wordings of one name."""
    from_mentions: bool = True
    """Also make queries from mentions of chunks that no index names."""
    synthetic_expansion: Positive = 5
    """Queries made of a train question: itself, and rewordings through its entities' aliases."""

    @field_validator("templates")
    @classmethod
    def _each_names_the_name(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for template in value:
            if template.count("{name}") != 1 or template.count("{") != 1:
                raise ValueError(f"template {template!r} must hold {{name}} once and no other {{}}")
        return value


class NegativesConfig(Section):
    """Hard negatives: how many, from where, and what may never be one."""

    num: Count = 3
    """Negatives of a pair; fewer when the guard leaves fewer."""
    related_entity: Annotated[float, Field(ge=0.0)] = 1.0
    """Weight of chunks about an entity that the positive also mentions."""
    overlapping_mentions: Annotated[float, Field(ge=0.0)] = 1.0
    """Weight of chunks that share a mention with the positive."""
    same_type: Annotated[float, Field(ge=0.0)] = 1.0
    """Weight of chunks of the positive's type about another entity."""
    bm25: Annotated[float, Field(ge=0.0)] = 2.0
    """Weight of chunks that BM25 ranks high for the query."""
    bm25_depth: Positive = 30
    """How far down the BM25 ranking a negative may come from."""
    generic_topic_share: Share = 0.01
    """A topic in more than this share of all chunks does not alone make a chunk a positive."""


class PairsConfig(Section):
    """Training pairs from chunks, alias indexes and questions, split honestly."""

    min_topic_coverage: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    """A chunk answers a question when it covers this share of its expected topics, or more."""
    positives_per_query: Positive = 3
    """At most this many positives for a query, the best covering first."""
    near_duplicate: Annotated[float, Field(gt=0.0, le=1.0)] = 0.7
    """Train queries this similar (Jaccard of character 4-grams) to a test question are removed."""
    split: SplitConfig = SplitConfig()
    synthesis: SynthesisConfig = SynthesisConfig()
    negatives: NegativesConfig = NegativesConfig()


class AuditConfig(Section):
    """Token lengths, pair quality and leaks, as a verdict that `train` asks for."""

    max_truncated_share: Share = 0.05
    """The audit fails when more than this share of any kind of text is truncated."""
    max_defect_share: Share = 0.0
    """The audit fails when more than this share of train pairs has a defect."""
    worst: Positive = 10
    """How many of the longest texts of each kind the report lists."""


class TrainConfig(Section):
    """Fine-tuning with the sentence-transformers trainer."""

    objective: Literal["multiple_negatives_ranking"] = "multiple_negatives_ranking"
    """The loss: in-batch negatives and the mined ones, cross-entropy over scaled cosine."""
    epochs: Annotated[float, Field(gt=0.0)] = 1.0
    """Passes over the train pairs."""
    max_steps: Annotated[int, Field(ge=-1)] = -1
    """Stop after this many optimizer steps; -1 = by epochs."""
    phases: tuple[Literal["easy", "medium", "hard"], ...] = ("easy", "medium", "hard")
    """Train on pairs of these phases; BM25 alone finds the positives of `easy` ones."""
    max_pairs: Positive | None = None
    """Train on at most this many pairs, drawn by seed."""
    num_negatives: Count = 1
    """Mined negatives of a pair that enter the batch."""
    batch_size: Positive = 64
    """Pairs in a micro-batch on one device."""
    gradient_accumulation: Positive = 1
    """Micro-batches in an optimizer step."""
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 2e-5
    """Peak learning rate of AdamW."""
    schedule: Literal["linear", "cosine", "cosine_with_restarts", "constant_with_warmup"] = "linear"
    """Shape of the learning rate after the warmup."""
    warmup_ratio: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """Share of the steps in which the learning rate rises; `warmup_steps` wins when given."""
    warmup_steps: Count | None = None
    """Steps in which the learning rate rises."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    """Decoupled weight decay of AdamW."""
    max_grad_norm: Annotated[float, Field(gt=0.0)] = 1.0
    """Gradients are clipped to this norm."""
    scale: Annotated[float, Field(gt=0.0)] = 20.0
    """Factor on the cosine in the loss (1 / temperature)."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format of the computation; `auto`: bf16 on hardware that multiplies it, else fp32."""
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


class ChromaConfig(Section):
    """The ChromaDB collection that mirrors the embeddings."""

    path: str | None = None
    """Folder of an embedded database; no collection is written when not given."""
    batch_size: Positive = 2000
    """Rows in one upsert."""


class EmbedConfig(Section):
    """The corpus as vectors: Parquet on the store, and a ChromaDB collection."""

    model: Literal["trained", "base"] = "trained"
    """Which model `embed` and `evaluate` use; the base model's artifacts are `<name>-base`."""
    batch_size: Positive = 64
    """Texts encoded at once."""
    rows_per_block: Positive = 1_024
    """Rows in a Parquet file: committed as soon as it is full; a killed job repeats at most one."""
    chroma: ChromaConfig = ChromaConfig()


class EvaluateConfig(Section):
    """Retrieval on the test questions: the 0-5 topic rubric and IR measures."""

    retriever: Literal["dense", "bm25"] = "dense"
    """`dense`: exact cosine over the embed artifact; `bm25`: words alone, named `<name>-bm25`."""
    part: Literal["test", "dev"] = "test"
    """Which questions: `test`, or `dev` (named `<name>-dev`) for choosing between models."""
    k: tuple[Positive, ...] = Field(default=(1, 3, 5, 10), min_length=1)
    """Cut-offs of recall and precision."""
    rubric_k: Positive = 5
    """The rubric looks at this many chunks."""
    depth: Annotated[int, Field(ge=10)] = 100
    """Chunks a query in the run file."""
    slices: tuple[str, ...] = ("category", "difficulty")
    """Question fields whose values are reported apart; `exposure` is always one."""
    latency_queries: Positive = 100
    """Queries that are timed one by one."""

    @model_validator(mode="after")
    def _depth_suffices(self) -> EvaluateConfig:
        if max(*self.k, self.rubric_k) > self.depth:
            raise ValueError("depth must not be below k and rubric_k")
        return self


class Tier(Section):
    """A name for a level of the rubric."""

    name: str
    at_least: Annotated[float, Field(ge=0.0, le=5.0)]


class GateConfig(Section):
    """What a candidate must reach for the job to succeed."""

    enforce: bool = False
    """Exit 3 when the gate is not met."""
    min_tier: str = "minimal"
    """The lowest tier that passes, judged at the lower end of the interval."""
    require_improved: bool = True
    """The verdict must be `improved`."""


class CompareConfig(Section):
    """Baseline against candidate on the same questions, with uncertainty."""

    baseline: str | None = None
    """Name of the evaluate artifact to beat; `<name>-base` when not given."""
    candidate: str | None = None
    """Name of the evaluate artifact that is judged; `<name>` when not given."""
    resamples: Annotated[int, Field(ge=100)] = 10_000
    """Bootstrap resamples and random sign flips."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    """Coverage of the intervals."""
    shown: Positive = 10
    """Questions with the largest gain and loss that the report shows side by side."""
    tiers: tuple[Tier, ...] = (
        Tier(name="minimal", at_least=2.0),
        Tier(name="good", at_least=2.5),
        Tier(name="usable", at_least=3.0),
        Tier(name="excellent", at_least=3.5),
    )
    """Rubric levels in rising order; below the first the advice is to change strategy."""
    gate: GateConfig = GateConfig()

    @model_validator(mode="after")
    def _tiers_rise(self) -> CompareConfig:
        levels = [tier.at_least for tier in self.tiers]
        if not levels or levels != sorted(set(levels)):
            raise ValueError("tiers must be given in rising order of at_least")
        if self.gate.min_tier not in {tier.name for tier in self.tiers}:
            raise ValueError(f"gate.min_tier {self.gate.min_tier!r} is not one of the tiers")
        return self


class RunConfig(Section):
    """One run: shared facts at the top, a section for each mode."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,98}[A-Za-z0-9]$")
    """Names the run's artifacts: 3 to 100 letters, digits, `.`, `_`, `-`."""
    store: str = Field(min_length=1)
    """Where artifacts live: a folder, or `s3://bucket/prefix`."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 7
    """Every random choice follows from it."""
    corpus: CorpusConfig
    model: ModelConfig
    pairs: PairsConfig = PairsConfig()
    audit: AuditConfig = AuditConfig()
    train: TrainConfig = TrainConfig()
    embed: EmbedConfig = EmbedConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    compare: CompareConfig = CompareConfig()

    @field_validator("store")
    @classmethod
    def _no_secret_in_the_store(cls, value: str) -> str:
        _refuse_secret(value)
        if "://" in value and not value.startswith(("s3://", "file://", "memory://")):
            raise ValueError("must be a folder or s3://bucket/prefix")
        if value.startswith("s3:") and not re.match(r"s3://[^/]", value):
            raise ValueError("names no bucket; write s3://bucket/prefix")
        return value

    @property
    def embed_name(self) -> str:
        """Name of the embed artifact that this config writes or reads."""
        return self.name if self.embed.model == "trained" else f"{self.name}-base"

    @property
    def evaluate_name(self) -> str:
        """Name of the evaluate artifact that this config writes."""
        stem = f"{self.name}-bm25" if self.evaluate.retriever == "bm25" else self.embed_name
        return stem if self.evaluate.part == "test" else f"{stem}-dev"

    @property
    def baseline_name(self) -> str:
        """Name of the evaluate artifact that `compare` takes as the baseline."""
        return self.compare.baseline or f"{self.name}-base"

    @property
    def candidate_name(self) -> str:
        """Name of the evaluate artifact that `compare` judges."""
        return self.compare.candidate or self.name

    @property
    def compare_name(self) -> str:
        """Name of the compare artifact: the run's, or what is compared when that is chosen."""
        if self.compare.baseline is None and self.compare.candidate is None:
            return self.name
        return f"{self.candidate_name}-vs-{self.baseline_name}"
