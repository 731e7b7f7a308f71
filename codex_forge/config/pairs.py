"""The `pairs:` section of a run's YAML."""

from __future__ import annotations

import string
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from codex_forge.config.section import Count, Paths, Positive, Section, Share, refuse_secret

_ROUNDING = 1e-6

Weight = Annotated[float, Field(ge=0.0)]
Phase = Literal["easy", "medium", "hard"]

COLUMNS = (
    "query", "positive", "negative", "negatives", "text_a", "text_b", "score", "label",
    "domain", "category", "phase", "part", "id",
)  # fmt: skip
"""What a column of ready-made data can mean. `negative_1`, `negative_2` ... are negatives too."""


class SplitConfig(Section):
    """How the question bank is divided; questions with the same answer stay together."""

    train: Share = 0.3
    """Share of questions that may be trained on."""
    dev: Share = 0.1
    """Share of questions that training may look at to choose."""
    test: Share = 0.6
    """Share of questions that only `evaluate` reads."""
    by: Literal["question", "entity", "file"] = "question"
    """What is held out: questions; or all that touches an entity, or a file, of a held-out one."""
    group_by: tuple[str, ...] = ()
    """More question fields whose equal values keep questions in one part, such as `entity`."""
    folds: Annotated[int, Field(ge=0, le=100)] = 0
    """Cross-fitting: the bank in so many folds, each scored by a model that never saw it."""
    fold: Count = 0
    """Which fold is held out; the run's artifacts are then named `<name>-fold0` and so on."""

    @model_validator(mode="after")
    def _shares_add_up(self) -> SplitConfig:
        if abs(self.train + self.dev + self.test - 1.0) > _ROUNDING:
            raise ValueError(
                f"train + dev + test must be 1, and {self.train:g} + {self.dev:g} + {self.test:g} "
                f"is {self.train + self.dev + self.test:g}; give all three"
            )
        return self

    @model_validator(mode="after")
    def _fold_is_one_of_them(self) -> SplitConfig:
        if self.folds == 1:
            raise ValueError("folds must be 0 (none), or 2 and more")
        if self.fold >= max(1, self.folds):
            raise ValueError(f"fold {self.fold} is not below folds ({self.folds})")
        return self


class TemplateSet(Section):
    """Wordings for entities and mentions of one language, one category, or both."""

    templates: tuple[str, ...] = Field(min_length=1)
    """Wordings of a query; `{name}` stands for the name."""
    language: str = ""
    """For chunks whose `language` field says so; any language when not given."""
    category: str = ""
    """For chunks of this `wiki_type`; any type when not given."""

    @field_validator("templates")
    @classmethod
    def _each_names_the_name(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _checked(value)


class GeneratorConfig(Section):
    """Queries written by a language model behind an OpenAI-compatible endpoint."""

    url: str
    """Base URL of the endpoint, such as `http://localhost:8000/v1`."""
    model: str = Field(min_length=1)
    """Name of the model, as the endpoint knows it."""
    prompt: str = (
        "Write {count} short, different questions that a reader might ask and that the text "
        "below answers. One a line, nothing else.\n\n{text}"
    )
    """What is asked for one chunk; holds `{count}` and `{text}`."""
    queries_per_chunk: Positive = 3
    """Questions asked for one chunk."""
    max_chunks: Positive = 1_000
    """At most so many chunks are asked about, drawn by seed."""
    max_tokens: Positive = 2_000_000
    """Budget: no new request once the endpoint has counted so many tokens, all runs together."""
    concurrency: Annotated[int, Field(ge=1, le=256)] = 4
    """Requests under way at once."""
    timeout: Annotated[float, Field(gt=0.0)] = 60.0
    """Seconds that one request may take."""
    temperature: Annotated[float, Field(ge=0.0)] = 0.0
    """Randomness of the model."""
    api_key_variable: str = Field(
        default="OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$"
    )
    """Environment variable that holds the key; the key itself never stands in a config."""

    @field_validator("url")
    @classmethod
    def _is_plain(cls, value: str) -> str:
        refuse_secret(value)
        if not value.startswith(("http://", "https://")):
            raise ValueError("must be an http:// or https:// URL")
        return value.rstrip("/")

    @field_validator("prompt")
    @classmethod
    def _has_its_places(cls, value: str) -> str:
        fields = [name for _, name, _, _ in string.Formatter().parse(value) if name is not None]
        if sorted(set(fields)) != ["count", "text"]:
            raise ValueError("must hold {count} and {text}, and no other {}")
        return value


class SynthesisConfig(Section):
    """Queries made from what the corpus and the alias indexes say."""

    templates: tuple[str, ...] = ("{name}", "tell me about {name}", "who or what is {name}")
    """Wordings of a query; `{name}` stands for an entity's name, an alias or a mention."""
    template_sets: tuple[TemplateSet, ...] = ()
    """Wordings by language and category; the set that says most about a chunk wins."""
    per_entity: Count = 8
    """At most this many queries for an entity, over its names and aliases."""
    per_name: Positive = 2
    """At most this many wordings of one name."""
    from_mentions: bool = True
    """Also make queries from mentions of chunks that no index names."""
    from_titles: bool = False
    """Also make queries from titles: a chunk's `title` field, or its first line when short."""
    sentences_per_chunk: Count = 0
    """Also make so many queries of a chunk's own sentences (inverse cloze task)."""
    sentence_kept: Share = 0.1
    """Share of those whose sentence stays in the positive as well; else it is cut out."""
    synthetic_expansion: Positive = 5
    """Queries made of a train question: itself, and rewordings through its entities' aliases."""
    generator: GeneratorConfig | None = None
    """A language model that writes questions; none is asked when not given."""

    @field_validator("templates")
    @classmethod
    def _each_names_the_name(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _checked(value)


class NegativesConfig(Section):
    """Hard negatives: how many, from where, and what may never be one.

    The weights are shares of the draws while every source has chunks left; a small one fills up
    what the others could not give.
    """

    num: Count = 3
    """Negatives of a pair; fewer when the guard leaves fewer."""
    related_entity: Weight = 0.01
    """Weight of chunks about an entity that the positive also mentions."""
    overlapping_mentions: Weight = 0.01
    """Weight of chunks that share a mention with the positive."""
    same_type: Weight = 0.01
    """Weight of chunks of the positive's type about another entity."""
    bm25: Weight = 1.0
    """Weight of chunks that BM25 ranks high for the query."""
    bm25_depth: Positive = 30
    """How far down the BM25 ranking a negative may come from."""
    tfidf_band: Weight = 0.0
    """Weight of chunks whose TF-IDF cosine with the positive lies in the band."""
    band: tuple[Share, Share] = (0.3, 0.5)
    """Lower and upper end of the band."""
    nearest: Weight = 0.0
    """Weight of chunks nearest to the query by the base model (its embed artifact is needed)."""
    nearest_depth: Positive = 100
    """How far down the model's ranking a negative may come from."""
    relative_margin: Share = 0.05
    """`nearest` takes none that is more similar to the query than (1 - this) x the positive is."""
    generic_topic_share: Share = 0.01
    """A topic in more than this share of all chunks does not alone make a chunk a positive."""
    near_duplicate: Annotated[float, Field(gt=0.0, le=1.0)] = 0.8
    """A chunk this similar (Jaccard of word 3-grams) to an answer is no negative."""
    cross_encoder: str | None = None
    """A cross-encoder (folder, `package:`, or hub id) that every negative must get past."""
    cross_encoder_margin: Share = 0.1
    """A negative may score at most (1 - this) x the positive's score there."""

    @field_validator("band")
    @classmethod
    def _rises(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] >= value[1]:
            raise ValueError("must rise")
        return value


class AugmentationConfig(Section):
    """More train queries by small random changes of words (EDA), seeded; labels are kept.

    Each copy has one of the three changes. Chinese and Japanese are changed by pieces of two
    characters; a text of one word has no copies.
    """

    copies: Count = 0
    """Changed copies of each train query, and of each text of scored and labelled pairs."""
    deletion: Share = 0.1
    """Share of the words that a copy drops."""
    swap: Share = 0.1
    """Share of the words that a copy swaps with another."""
    duplication: Share = 0.1
    """Share of the words that a copy says twice."""


class ValidationConfig(Section):
    """What is removed from train pairs, with its reason kept."""

    min_characters: Positive = 2
    """A query or positive with fewer letters and digits is near-empty."""
    drop_inverted: bool = False
    """Remove pairs whose positive is less similar to the query than a negative (TF-IDF)."""


class ReadyData(Section):
    """Ready-made training data: pairs, triplets, n-tuples, scored or labelled pairs."""

    files: Paths = Field(min_length=1)
    """JSONL, JSON, CSV, TSV or Parquet, also `.gz`; globs and URLs."""
    columns: dict[str, str] = {}  # noqa: RUF012 - frozen with its section
    """What our names are called there, such as `query: question`; equal names need no word."""
    score_range: tuple[float, float] = (0.0, 1.0)
    """Lowest and highest score there; they become 0 and 1."""

    @field_validator("files")
    @classmethod
    def _no_secret_in_a_url(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            refuse_secret(url)
        return value

    @field_validator("columns")
    @classmethod
    def _are_known(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            stem, _, number = name.partition("_")
            if name not in COLUMNS and not (stem == "negative" and number.isdigit()):
                raise ValueError(
                    f"{name!r} is none of {', '.join(COLUMNS)}; write our name first, then the "
                    "name there"
                )
        return value

    @field_validator("score_range")
    @classmethod
    def _rises(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] >= value[1]:
            raise ValueError("must rise")
        return value


class PairsConfig(Section):
    """Training pairs from chunks, alias indexes and questions, split honestly."""

    data: tuple[ReadyData, ...] = ()
    """Ready-made training data, beside the corpus or instead of it."""
    min_topic_coverage: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    """A chunk answers a question when it covers this share of its expected topics, or more."""
    positives_per_query: Positive = 3
    """At most this many positives for a query, the best covering first."""
    cross_category: Count = 0
    """At most this many more positives of a query from chunks of another `wiki_type`."""
    near_duplicate: Annotated[float, Field(gt=0.0, le=1.0)] = 0.7
    """Train queries this similar (Jaccard of character 4-grams) to a test question are removed."""
    split: SplitConfig = SplitConfig()
    synthesis: SynthesisConfig = SynthesisConfig()
    negatives: NegativesConfig = NegativesConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    validation: ValidationConfig = ValidationConfig()


def _checked(templates: tuple[str, ...]) -> tuple[str, ...]:
    for template in templates:
        if template.count("{name}") != 1 or template.count("{") != 1:
            raise ValueError(f"template {template!r} must hold {{name}} once and no other {{}}")
    return templates
