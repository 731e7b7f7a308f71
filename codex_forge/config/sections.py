"""The sections of a run's YAML: each key has its one default here and its meaning under it."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from codex_forge.config.pairs import PairsConfig
from codex_forge.config.section import Paths, Positive, Section, Share, refuse_secret
from codex_forge.config.sweep import SweepConfig
from codex_forge.config.train import TrainConfig
from codex_forge.config.use import UseConfig

NO_TIER = ("change strategy", "too few questions", "not judged")
"""What stands in the place of a tier that is not reached, or not judged."""
FOLD = "{fold}"
"""Stands for the number of a fold in the name of an evaluate artifact."""
OF_THIS_RUN = ("base", "bm25", "hybrid", "base-hybrid", "chroma", "base-chroma")
"""What `compare.others` may call the evaluate artifacts of its own run."""


class CorpusConfig(Section):
    """The documents of the domain: chunks, alias indexes and the question bank."""

    chunks: Paths = ()
    """Files of chunks, a JSON object a line (`text`, `filename`, `*_mentions`); globs and URLs."""
    indexes: Paths = ()
    """Files of entities with their aliases (`*_index.json`); globs and URLs."""
    questions: Paths = ()
    """Files of test questions (`{"questions": [...]}`); globs and URLs."""
    encoding: str = "auto"
    """Of the files: `auto` (UTF-8, or what a byte order mark says), or a name such as `cp1252`."""
    on_bad_record: Literal["fail", "reject"] = "fail"
    """`fail` stops at bad records and shows them; `reject` sets them aside with their reason."""

    @field_validator("chunks", "indexes", "questions")
    @classmethod
    def _no_secret_in_a_url(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            refuse_secret(url)
        return value


class ModelConfig(Section):
    """The embedding model that everything starts from."""

    base: str = Field(min_length=1)
    """A folder, `package:NAME/FOLDER` (inside an installed Python package), a model hub id, or an
    `s3://` URL of a model's folder or of a train artifact (`s3://bucket/forge/train/wiki`)."""
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


class AuditConfig(Section):
    """Token lengths, pair quality and leaks, as a verdict that `train` asks for."""

    max_truncated_share: Share = 0.05
    """The audit fails when more than this share of any kind of text is truncated."""
    max_evidence_lost_share: Share = 0.01
    """The audit fails when in more than this share of pairs an expected topic lies past the cut."""
    max_defect_share: Share = 0.0
    """The audit fails when more than this share of train pairs has a defect."""
    worst: Positive = 10
    """How many of the longest texts of each kind the report lists."""
    probe: bool = False
    """Measure the memory of training on the model itself (loads it), instead of estimating it."""


class ChromaConfig(Section):
    """The ChromaDB collection that mirrors the embeddings: in a folder, or on a server."""

    path: str | None = None
    """Folder of an embedded database; without `path` and `url` no collection is written."""
    url: str | None = None
    """A server (`http://host:8000`), instead of `path`; shards write to it side by side. A token
    is read from the variable CODEX_FORGE_CHROMA_TOKEN."""
    batch_size: Positive = 2000
    """Rows in one upsert; fewer where the database takes fewer."""

    @field_validator("url")
    @classmethod
    def _no_secret_in_a_url(cls, value: str | None) -> str | None:
        return None if value is None else _http_url(value)

    @model_validator(mode="after")
    def _one_place(self) -> ChromaConfig:
        if self.path and self.url:
            raise ValueError("give path or url, not both")
        return self

    @property
    def place(self) -> str | None:
        """Where the collection is, if anywhere."""
        return self.path or self.url


class ServedConfig(Section):
    """An embedding model behind HTTP, to compare with: it is never trained."""

    api: Literal["ollama", "openai"] = "openai"
    """Ollama's `/api/embed`, or OpenAI's `/v1/embeddings`, which many servers speak."""
    url: str = ""
    """The server, such as `http://127.0.0.1:11434`, or `https://api.openai.com/v1`."""
    model: str = ""
    """What the server calls the model."""
    name: str = Field(default="served", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,40}$")
    """Its artifacts are `<name of the run>-<this>`."""

    @field_validator("name")
    @classmethod
    def _is_no_other_s(cls, value: str) -> str:
        return _no_other_s(value)

    query_prompt: str = ""
    """Put before every query."""
    document_prompt: str = ""
    """Put before every chunk."""
    batch_size: Positive = 64
    """Texts in one request."""
    requests: Positive = 4
    """Requests at a time."""
    key_variable: str | None = None
    """The environment variable that holds the API key; sent to no other server."""
    timeout: Annotated[float, Field(gt=0)] = 60.0
    """Seconds that one request may take; it is tried again with growing pauses."""

    @field_validator("url")
    @classmethod
    def _no_secret_in_a_url(cls, value: str) -> str:
        return _http_url(value) if value else value


class EmbedConfig(Section):
    """The corpus as vectors: Parquet on the store, and a ChromaDB collection."""

    model: Literal["trained", "base", "served"] = "trained"
    """Which model `embed` and `evaluate` use; artifacts of the base model are `<name>-base`, those
    of a served one `<name>-<embed.served.name>`."""
    served: ServedConfig = ServedConfig()
    variant: str = Field(default="", pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,40})?$")
    """Goes on the names of the artifacts of `embed` and `evaluate` (`int8`: `<name>-int8`), so that
    vectors of one model that are kept in two ways stand side by side."""
    batch_tokens: Positive | None = None
    """Tokens encoded at once, padding included; the default depends on the device."""
    engine: Literal["torch", "openvino"] = "torch"
    """What computes the transformer; `openvino` is for CPUs, and needs `codex-forge[openvino]`."""
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "auto"
    """Of the computation; `auto` is fp32 on a CPU and fp16 on a GPU; `int8` needs
    `embed.engine=openvino`, which knows no fp16."""
    dtype: Literal["float32", "float16", "int8", "binary"] = "float32"
    """Of the vectors that are kept: int8 is a quarter of float32, binary a thirty-second."""
    dimensions: Positive | None = None
    """Numbers kept of a vector, the first ones: for models trained with `train.matryoshka_dims`."""
    reuse: bool = True
    """Take vectors of unchanged chunks from the artifact that is replaced, if the same model and
    settings made them."""
    rows_per_block: Positive = 1_024
    """Rows in a Parquet file: committed as soon as it is full; a killed job repeats at most one."""
    chroma: ChromaConfig = ChromaConfig()

    @field_validator("variant")
    @classmethod
    def _is_no_other_s(cls, value: str) -> str:
        return _no_other_s(value)

    @model_validator(mode="after")
    def _the_served_model_is_named(self) -> EmbedConfig:
        if self.model == "served" and not (self.served.url and self.served.model):
            raise ValueError("embed.model=served needs embed.served.url and embed.served.model")
        return self

    @model_validator(mode="after")
    def _the_engine_knows_the_precision(self) -> EmbedConfig:
        if self.precision == "int8" and self.engine != "openvino":
            raise ValueError("embed.precision=int8 needs embed.engine=openvino")
        if self.precision == "fp16" and self.engine == "openvino":
            raise ValueError("embed.engine=openvino computes in fp32, bf16 or int8, not in fp16")
        return self


class HybridConfig(Section):
    """Words and meaning together."""

    fusion: Literal["weighted", "rrf"] = "weighted"
    """`weighted`: scores of each scaled to 0..1 and added; `rrf`: reciprocal ranks are added."""
    weight: Share | None = None
    """Of the dense scores (the rest is BM25's); chosen on the dev questions when not given."""
    rrf_k: Positive = 60
    """Of reciprocal rank fusion: the larger, the less the first ranks count."""


class Scenario(Section):
    """A query whose answer must be found."""

    query: str = Field(min_length=1)
    """What is asked."""
    expects: Annotated[Paths, Field(min_length=1)]
    """File names or chunk ids, one of which must be among the first `k`."""
    k: Positive = 5
    """How far down the answer may be."""


class EvaluateConfig(Section):
    """Retrieval on the test questions: the 0-5 topic rubric and IR measures."""

    retriever: Literal["dense", "chroma", "bm25", "hybrid"] = "dense"
    """`dense`: exact cosine over the embed artifact; `chroma`: its collection, as a service asks it
    (`<name>-chroma`); `bm25`: words alone (`<name>-bm25`); `hybrid`: dense and BM25 together
    (`<name>-hybrid`)."""
    hybrid: HybridConfig = HybridConfig()
    part: Literal["test", "dev", "all"] = "test"
    """Which questions: `test`; `dev` (named `<name>-dev`) for choosing between models; or `all`
    (`<name>-all`), trained ones too, which no verdict, tier or gate ever judges."""
    k: tuple[Positive, ...] = Field(default=(1, 3, 5, 10), min_length=1)
    """Cut-offs of recall and precision."""
    rubric_k: Positive = 5
    """The rubric looks at this many chunks."""
    depth: Annotated[int, Field(ge=10)] = 100
    """Chunks a query in the run file."""
    slices: tuple[str, ...] = ("category", "difficulty")
    """Question fields whose values are reported apart; `exposure` is always one."""
    must_pass: tuple[Scenario, ...] = ()
    """Queries that must find their answer; `compare.gate` asks for all of them."""
    high_overlap: Share = 0.5
    """Pairs that share at least this much of their words and differ in meaning are a trap."""
    low_overlap: Share = 0.2
    """Pairs that share at most this much of their words and mean the same are the other trap."""
    latency_queries: Positive = 100
    """Queries that are timed one by one."""

    @model_validator(mode="after")
    def _depth_suffices(self) -> EvaluateConfig:
        if max(*self.k, self.rubric_k, *(each.k for each in self.must_pass)) > self.depth:
            raise ValueError("depth must not be below k, rubric_k and the k of must_pass")
        return self


def _no_other_s(ending: str) -> str:
    """Refuse the ending of a name that artifacts of another sort have."""
    if ending.rsplit("-", 1)[-1] in ("base", "bm25", "hybrid", "chroma", "dev", "all"):
        raise ValueError(f"{ending!r} ends like the names of other artifacts; choose another")
    return ending


def _http_url(value: str) -> str:
    refuse_secret(value)
    if not re.match(r"https?://[^/]", value):
        raise ValueError("must begin with http:// or https://")
    return value.rstrip("/")


class Tier(Section):
    """A name for a level of the rubric."""

    name: str
    """What the level is called."""
    at_least: Annotated[float, Field(ge=0.0, le=5.0)]
    """Lowest rubric of the level."""


class MeasureTier(Section):
    """A name for a level of other measures than the rubric."""

    name: str
    """What the level is called."""
    at_least: dict[str, Annotated[float, Field(ge=-1.0, le=1.0)]] = Field(min_length=1)
    """Measure -> its lowest value; all of them must be reached at the lower end of the interval."""

    def __hash__(self) -> int:
        """A mapping has none; nothing changes it here."""
        return hash((self.name, *self.at_least.items()))


class GateConfig(Section):
    """What a candidate must reach for the job to succeed."""

    enforce: bool = False
    """Exit 3 when the gate is not met."""
    min_tier: str = "minimal"
    """The lowest tier that passes, judged at the lower end of the interval."""
    min_measure_tier: str | None = None
    """The lowest of `compare.measure_tiers` that passes; none is asked for when not given."""
    require_improved: bool = True
    """The verdict must be `improved`."""
    must_pass: bool = True
    """Every query of `evaluate.must_pass` must find its answer."""


class CompareConfig(Section):
    """Baseline against candidate on the same questions, with uncertainty."""

    baseline: str | None = None
    """Name of the evaluate artifact to beat; `<name>-base` when not given. With folds it holds
    `{fold}`, such as `mine-fold{fold}-bm25`."""
    candidate: str | None = None
    """Name of the evaluate artifact that is judged; `<name>` when not given; `{fold}` as above."""
    others: tuple[str, ...] = ()
    """Evaluate artifacts shown beside the two, each compared with the baseline: their names, or
    `bm25`, `base`, `hybrid`, `base-hybrid`, `chroma` for those of this run."""
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
    measure_tiers: tuple[MeasureTier, ...] = (
        MeasureTier(name="minimum", at_least={"spearman": 0.55, "roc_auc": 0.82}),
        MeasureTier(name="production", at_least={"spearman": 0.65, "roc_auc": 0.85, "f1": 0.75}),
        MeasureTier(name="stretch", at_least={"spearman": 0.75, "roc_auc": 0.90}),
    )
    """Levels of other measures in rising order: of scored pairs (`spearman`, `pearson`, `roc_auc`,
    `average_precision`, `f1`) or of retrieval (`recall@5`, `mrr@10` ...); those whose measures were
    not taken are left out."""
    gate: GateConfig = GateConfig()

    @field_validator("baseline", "candidate", "others")
    @classmethod
    def _are_names(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        for name in (value,) if isinstance(value, str) else value or ():
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._{}-]{0,149}", name):
                raise ValueError(f"{name!r} cannot be the name of an artifact")
        return value

    @model_validator(mode="after")
    def _two_are_compared(self) -> CompareConfig:
        if self.baseline is not None and self.baseline == self.candidate:
            raise ValueError("baseline and candidate are the same")
        return self

    @model_validator(mode="after")
    def _tiers_rise(self) -> CompareConfig:
        levels = [tier.at_least for tier in self.tiers]
        if not levels or levels != sorted(set(levels)):
            raise ValueError("tiers must be given in rising order of at_least")
        names = [tier.name for tier in self.tiers]
        if len(set(names)) < len(names) or set(names) & set(NO_TIER):
            raise ValueError(f"tiers need names of their own, and none of {', '.join(NO_TIER)}")
        if self.gate.min_tier not in names:
            raise ValueError(f"gate.min_tier {self.gate.min_tier!r} is not one of the tiers")
        wanted = self.gate.min_measure_tier
        if wanted is not None and wanted not in {tier.name for tier in self.measure_tiers}:
            raise ValueError(f"gate.min_measure_tier {wanted!r} is not one of measure_tiers")
        return self


class RunConfig(Section):
    """One run: shared facts at the top, a section for each mode."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,98}[A-Za-z0-9]$")
    """Names the run's artifacts: 3 to 100 letters, digits, `.`, `_`, `-`."""
    store: str = Field(min_length=1)
    """Where artifacts live: a folder, or `s3://bucket/prefix`."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 7
    """Every random choice follows from it."""
    use: UseConfig = UseConfig()
    corpus: CorpusConfig = CorpusConfig()
    model: ModelConfig
    pairs: PairsConfig = PairsConfig()
    audit: AuditConfig = AuditConfig()
    train: TrainConfig = TrainConfig()
    embed: EmbedConfig = EmbedConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    compare: CompareConfig = CompareConfig()
    sweep: SweepConfig = SweepConfig()

    @model_validator(mode="after")
    def _there_is_something_to_read(self) -> RunConfig:
        if not self.corpus.chunks and not self.pairs.data:
            raise ValueError("there is nothing to read; give corpus.chunks, or pairs.data, or both")
        return self

    @field_validator("store")
    @classmethod
    def _no_secret_in_the_store(cls, value: str) -> str:
        refuse_secret(value)
        if "://" in value and not value.startswith(("s3://", "file://", "memory://")):
            raise ValueError("must be a folder or s3://bucket/prefix")
        if value.startswith("s3:") and not re.match(r"s3://[^/]", value):
            raise ValueError("names no bucket; write s3://bucket/prefix")
        return value

    @model_validator(mode="after")
    def _names_of_folds_hold_the_fold(self) -> RunConfig:
        folds = self.pairs.split.folds
        for side in ("baseline", "candidate"):
            name = getattr(self.compare, side)
            if name is not None and bool(folds) != (FOLD in name):
                must = "must" if folds else "can, without pairs.split.folds, not"
                raise ValueError(f"compare.{side} {name!r} {must} hold {FOLD}")
        return self

    @property
    def run_name(self) -> str:
        """Name of the artifacts of this run, or of this fold of it (`<name>-fold0`)."""
        split = self.pairs.split
        return f"{self.name}-fold{split.fold}" if split.folds else self.name

    @property
    def pairs_name(self) -> str:
        """Name of the pairs artifact that this run reads: its own, or that of `use.pairs`."""
        return self.use.pairs or self.run_name

    @property
    def audit_name(self) -> str:
        """Name of the audit artifact that this run reads: its own, or that of `use.audit`."""
        return self.use.audit or self.run_name

    @property
    def base_vectors_name(self) -> str:
        """Name of the embed artifact of the base model, without variants."""
        return f"{self.use.base or self.name}-base"

    @property
    def embed_name(self) -> str:
        """Name of the embed artifact that this config writes or reads.

        All folds share the base model's vectors: those depend on the corpus alone.
        """
        whose = {"trained": self.run_name, "base": self.use.base or self.name, "served": self.name}
        stem = whose[self.embed.model]
        return f"{stem}-{self._ending}" if self._ending else stem

    @property
    def evaluate_name(self) -> str:
        """Name of the evaluate artifact that this config writes."""
        stem = self.run_name
        retriever = self.evaluate.retriever
        if retriever != "bm25" and self._ending:
            stem += f"-{self._ending}"
        if retriever != "dense":
            stem += f"-{retriever}"
        return stem if self.evaluate.part == "test" else f"{stem}-{self.evaluate.part}"

    @property
    def _ending(self) -> str:
        models = {"trained": "", "base": "base", "served": self.embed.served.name}
        return "-".join(filter(None, (models[self.embed.model], self.embed.variant)))

    @property
    def other_names(self) -> tuple[str, ...]:
        """Names of the evaluate artifacts that `compare` shows beside; `{fold}` as below."""
        return tuple(
            f"{self._compared}-{name}" if name in OF_THIS_RUN else name
            for name in self.compare.others
        )

    @property
    def baseline_name(self) -> str:
        """Name of the evaluate artifact that `compare` takes as the baseline.

        With folds it stands for one a fold, and holds `{fold}`.
        """
        return self.compare.baseline or f"{self._compared}-base"

    @property
    def candidate_name(self) -> str:
        """Name of the evaluate artifact that `compare` judges; `{fold}` as in the baseline's."""
        return self.compare.candidate or self._compared

    @property
    def _compared(self) -> str:
        return f"{self.name}-fold{FOLD}" if self.pairs.split.folds else self.name

    @property
    def compare_name(self) -> str:
        """Name of the compare artifact: the run's, or what is compared when that is chosen."""
        ending = "-crossfit" if self.pairs.split.folds else ""
        if self.compare.baseline is None and self.compare.candidate is None:
            return f"{self.name}{ending}"
        sides = (self.candidate_name, self.baseline_name)
        return (
            "-vs-".join(side.replace(f"-fold{FOLD}", "").replace(FOLD, "") for side in sides)
            + ending
        )
