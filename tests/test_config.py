"""The config: every mistake is named with its file and its full key, and the value is frozen."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from codex_forge.config import RunConfig, flatten, keys_of, load_config, parse_config
from codex_forge.config.load import type_name
from codex_forge.errors import EXIT_CHANGE_SOMETHING, ConfigError
from tests.conftest import ROOT, run_module

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
SMALLEST = "name: abc\nstore: here\ncorpus: {chunks: c.jsonl}\nmodel: {base: m}\n"
UNSET = "CODEX_FORGE_TESTS_UNSET"
SET = "CODEX_FORGE_TESTS_SET"


def parse(more: str = "", *overrides: str) -> RunConfig:
    return parse_config(SMALLEST + more, overrides, where="run.yaml")


def refusal(more: str = "", *overrides: str) -> str:
    with pytest.raises(ConfigError) as refused:
        parse(more, *overrides)
    assert refused.value.exit_code == EXIT_CHANGE_SOMETHING
    return str(refused.value)


def value_of(config: RunConfig, key: str) -> Any:
    found: Any = config
    for part in key.split("."):
        found = getattr(found, part)
    return found


# --- files -----------------------------------------------------------------------------------


def test_there_are_configs() -> None:
    assert CONFIGS


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_of_the_repository_loads(path: Path) -> None:
    config = load_config(path)
    assert config.name
    assert config.corpus.chunks or config.pairs.data


def test_a_file_on_disk_is_read_and_named(tmp_path: Path) -> None:
    path = tmp_path / "wot.yaml"
    path.write_text(SMALLEST + "train: {learning_rat: 1e-5}\n")
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    assert str(refused.value) == (
        f"{path}: unknown key train.learning_rat; did you mean train.learning_rate?"
    )


def test_a_config_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(SMALLEST.encode() + b"# caf\xe9\n")
    for path in (tmp_path / "missing.yaml", tmp_path, latin):
        with pytest.raises(ConfigError, match=re.escape(f"{path}: cannot read the config")):
            load_config(path)


# --- unknown keys ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more, key, meant",
    [
        ("train: {learning_rat: 1}", "train.learning_rat", "train.learning_rate"),
        ("seeed: 3", "seeed", "seed"),
        ("trian: {epochs: 1}", "trian", "train"),
        ("pairs: {split: {trian: 0.3}}", "pairs.split.trian", "pairs.split.train"),
        ("embed: {chroma: {pth: x}}", "embed.chroma.pth", "embed.chroma.path"),
        (
            "compare: {tiers: [{name: minimal, at_least: 1, nam: x}]}",
            "compare.tiers.0.nam",
            "compare.tiers.0.name",
        ),
        # keys of another section, spelled right or nearly so
        ("learning_rate: 3e-4", "learning_rate", "train.learning_rate"),
        ("lerning_rate: 3e-4", "lerning_rate", "train.learning_rate"),
        ("audit: {epochs: 1}", "audit.epochs", "train.epochs"),
        ("pairs: {per_entity: 3}", "pairs.per_entity", "pairs.synthesis.per_entity"),
    ],
)
def test_an_unknown_key_is_named_with_the_key_that_was_meant(
    more: str, key: str, meant: str
) -> None:
    told = refusal(more)
    assert told == f"run.yaml: unknown key {key}; did you mean {meant}?"


def test_a_key_like_no_other_lists_the_keys_of_its_section() -> None:
    told = refusal("pairs: {split: {zzzz: 1}}")
    assert told == (
        "run.yaml: unknown key pairs.split.zzzz; "
        "known: pairs.split.by, pairs.split.dev, pairs.split.fold, pairs.split.folds, "
        "pairs.split.group_by, pairs.split.test, pairs.split.train"
    )
    told = refusal("compare: {tiers: [{name: minimal, at_least: 1, zzzz: x}]}")
    assert told.endswith("known: compare.tiers.0.at_least, compare.tiers.0.name")


def test_every_mistake_is_shown_up_to_ten() -> None:
    many = "\n".join(f"{'abcdefghijkl'[i] * 4}: 1" for i in range(12))
    told = refusal(many).splitlines()
    assert len(told) == 11
    assert told[-1].strip() == "and 2 more"
    two = refusal("seed: -1\ntrain: {epochs: 0}")
    assert "seed: " in two
    assert "train.epochs: " in two


# --- values ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "override, key",
    [
        ("seed=-1", "seed"),
        ("train.epochs=0", "train.epochs"),
        ("train.epochs=.nan", "train.epochs"),
        ("train.epochs=inf", "train.epochs"),
        ("train.learning_rate=2", "train.learning_rate"),
        ("train.learning_rate=0", "train.learning_rate"),
        ("train.warmup_ratio=1", "train.warmup_ratio"),
        ("train.max_steps=-2", "train.max_steps"),
        ("pairs.min_topic_coverage=0", "pairs.min_topic_coverage"),
        ("pairs.negatives.bm25=-0.5", "pairs.negatives.bm25"),
        ("pairs.split.train=0.9", "pairs.split"),
        ("pairs.synthesis.templates=[no name here]", "pairs.synthesis.templates"),
        ("audit.max_truncated_share=1.01", "audit.max_truncated_share"),
        ("evaluate.k=[5, 0]", "evaluate.k.1"),
        ("evaluate.depth=9", "evaluate.depth"),
        ("compare.confidence=1", "compare.confidence"),
        ("compare.resamples=99", "compare.resamples"),
        ("compare.tiers=[]", "compare"),
        ("compare.tiers=[{name: minimal, at_least: 2}, {name: x, at_least: 1}]", "compare"),
        ("compare.gate.min_tier=marvellous", "compare"),
        ("name=x", "name"),
        ("name=../escape", "name"),
        ("name='a b c'", "name"),
        # wrong types
        ("seed=7.5", "seed"),
        ("seed=seven", "seed"),
        ("seed=yes", "seed"),
        ("train.epochs=on", "train.epochs"),
        ("train.epochs=many", "train.epochs"),
        ("train.epochs=", "train.epochs"),
        ("train.require_audit=perhaps", "train.require_audit"),
        ("train.phases=[eazy]", "train.phases.0"),
        ("model.device=gpu", "model.device"),
        ("model.revision=1234567", "model.revision"),
        ("name=123", "name"),
        ("evaluate.k=5", "evaluate.k"),
        ("train=3", "train"),
        ("train=", "train"),
        ("store=", "store"),
    ],
)
def test_a_value_that_cannot_be_names_the_full_key(override: str, key: str) -> None:
    assert refusal("", override).startswith(f"run.yaml: {key}: ")


@pytest.mark.parametrize(
    "more, words",
    [
        ("train:\n", "must be a section, with its keys below it"),
        ("evaluate: {k: 5}", "must be a list"),
        ("model: {base: 123}", "given twice"),
        ("train: {schedule: square}", "'linear'"),
    ],
)
def test_a_wrong_value_is_explained_in_plain_words(more: str, words: str) -> None:
    told = refusal(more)
    assert words in told
    assert "instance of" not in told
    assert "tuple" not in told


@pytest.mark.parametrize("missing", ["name", "store", "model"])
def test_a_missing_key_is_named(missing: str) -> None:
    tree = yaml.safe_load(SMALLEST)
    del tree[missing]
    with pytest.raises(ConfigError) as refused:
        parse_config(yaml.safe_dump(tree), where="run.yaml")
    assert str(refused.value) == f"run.yaml: {missing} is missing; add it"


def test_a_missing_key_of_a_section_has_its_full_name() -> None:
    with pytest.raises(ConfigError, match=r"^run.yaml: model.base is missing; add it$"):
        parse_config(SMALLEST.replace("{base: m}", "{device: cpu}"), where="run.yaml")


@pytest.mark.parametrize("text", ["", "[]", "just words", "3"])
def test_a_file_that_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^run.yaml: is not a mapping of sections; see"):
        parse_config(text, where="run.yaml")


def test_one_path_may_stand_for_a_list() -> None:
    assert parse().corpus.chunks == ("c.jsonl",)
    assert parse("", "corpus.chunks=[a, b]").corpus.chunks == ("a", "b")


# --- YAML ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more, line, words",
    [
        ("seed: 1\nseed: 2\n", 6, "'seed' is given twice"),
        ("train:\n  epochs: 1\n  scale: 2\n  epochs: 3\n", 8, "'epochs' is given twice"),
        ("seed: 7\n1: 2\n", 6, "key 1 is not a word"),
        ("seed: 7\ntrain: [1\nname: x: y\n", 7, ""),
        ("seed: 7\n\ttrain: 1\n", 6, ""),
        ("seed: !!python/object:os.system x\n", 5, "python/object"),
    ],
)
def test_bad_yaml_is_found_by_file_and_line(more: str, line: int, words: str) -> None:
    told = refusal(more)
    assert told.startswith(f"run.yaml:{line}: not valid YAML (")
    assert words in told


# --- variables -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value, environment, expected",
    [
        (f"${{{UNSET}:-9}}", None, 9),
        (f'"${{{UNSET}:-9}}"', None, 9),
        (f"${{{SET}:-9}}", "11", 11),
        (f"${{{SET}}}", "11", 11),
        (f"${{{SET}:-9}}", "", 9),
        (f"1${{{SET}}}", "2", 12),  # a part of a value: text, read as the key's type
    ],
)
def test_a_variable_gives_a_typed_value(
    value: str, environment: str | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(UNSET, raising=False)
    if environment is not None:
        monkeypatch.setenv(SET, environment)
    seed = parse(f"seed: {value}\n").seed
    assert seed == expected
    assert type(seed) is int


def test_variables_are_filled_within_text_lists_and_overrides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(SET, "/data")
    monkeypatch.delenv(UNSET, raising=False)
    config = parse(
        f"evaluate: {{slices: ['x${{{SET}}}', plain]}}\n",
        f"store=${{{SET}}}/runs-${{{UNSET}:-dev}}",
        f"embed.chroma.path=${{{UNSET}:-null}}",
    )
    assert config.store == "/data/runs-dev"
    assert config.evaluate.slices == ("x/data", "plain")
    assert config.embed.chroma.path is None


def test_an_unset_variable_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(UNSET, raising=False)
    told = refusal(f"seed: ${{{UNSET}}}\n")
    assert told == (
        f"run.yaml: the variable {UNSET} is not set; export {UNSET}, or write ${{{UNSET}:-default}}"
    )


# --- overrides -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "override, key, expected",
    [
        ("seed=8", "seed", 8),
        ("train.epochs=2", "train.epochs", 2.0),
        ("train.learning_rate=1e-5", "train.learning_rate", 1e-5),  # text to YAML 1.1
        ("train.learning_rate=3E-4", "train.learning_rate", 3e-4),
        ("evaluate.k=[1, 20]", "evaluate.k", (1, 20)),
        ("train.phases=[easy]", "train.phases", ("easy",)),
        ("model.revision=null", "model.revision", None),
        ("model.revision=12345e7", "model.revision", "12345e7"),
        ("model.revision='1234567'", "model.revision", "1234567"),
        ("train.require_audit=false", "train.require_audit", False),
        ("pairs.split={train: 0.5, dev: 0.25, test: 0.25}", "pairs.split.dev", 0.25),
        ("pairs.synthesis.per_name=1", "pairs.synthesis.per_name", 1),
        ("model.query_prompt='search_query: '", "model.query_prompt", "search_query: "),
        ("store=s3://bucket/a=b", "store", "s3://bucket/a=b"),
    ],
)
def test_an_override_sets_one_key(override: str, key: str, expected: object) -> None:
    found = value_of(parse("train: {weight_decay: 0.5}\n", override), key)
    assert found == expected
    assert type(found) is type(expected)


def test_an_override_wins_and_leaves_its_neighbours() -> None:
    config = parse("train: {epochs: 5, scale: 30}\n", "train.epochs=2", "train.epochs=3")
    assert (config.train.epochs, config.train.scale) == (3.0, 30.0)


@pytest.mark.parametrize(
    "override, words",
    [
        ("train.max_steps=0", "must be 1 or more, or -1 for all steps of the epochs"),
        ("embed.served.name=bm25", "ends like the names of other artifacts"),
        ("embed.variant=x-hybrid", "ends like the names of other artifacts"),
        ("compare.candidate=../up", "'../up' cannot be the name of an artifact"),
        ("compare={baseline: a, candidate: a}", "baseline and candidate are the same"),
        ("compare.tiers=[{name: not judged, at_least: 2}]", "tiers need names of their own"),
        ("embed.precision=int8", "openvino"),
        ("train.learning_rat=1", "unknown key train.learning_rat; did you mean train.learning_r"),
        ("lerning=1", "unknown key lerning"),
        ("train", "cannot read the override 'train'; write section.key=value"),
        ("=3", "cannot read the override '=3'; write section.key=value"),
        ("name.first=x", "name in the override 'name.first=x' is not a section"),
        ("evaluate.k=[1", "override evaluate.k:1: not valid YAML"),
        ("train.=3", "unknown key train."),
    ],
)
def test_an_override_that_cannot_be_is_refused(override: str, words: str) -> None:
    assert words in refusal("", override)


# --- secrets and stores ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "store",
    [
        "s3://AKIAEXAMPLE:s3cr3t@bucket/prefix",
        "s3://AKIAEXAMPLE:s3c/s3cr3t@bucket/prefix",
        "http://AKIAEXAMPLE:s3cr3t@host/bucket",
    ],
)
def test_credentials_in_the_store_are_refused_and_not_repeated(store: str) -> None:
    told = refusal("", f"store={store}")
    assert told.startswith("run.yaml: store: credentials do not belong in a URL; set AWS_ACCESS")
    assert "s3cr3t" not in told
    assert "AKIAEXAMPLE" not in told


@pytest.mark.parametrize("store", ["http://host/x", "gs://bucket/x", "s3://", "s3:/b/x", "s3:///x"])
def test_a_store_that_is_neither_folder_nor_bucket_is_refused(store: str) -> None:
    assert refusal("", f"store={store}").startswith("run.yaml: store: ")


@pytest.mark.parametrize(
    "store",
    ["artifacts", "/data/run@home", "s3://bucket", "s3://bucket/a@b:c", "s3://arn:aws:s3:x:1:y/p"],
)
def test_usual_stores_are_taken(store: str) -> None:
    assert parse("", f"store={store}").store == store


# --- the value -------------------------------------------------------------------------------


def test_the_config_is_frozen() -> None:
    config = parse()
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 8  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        config.train.epochs = 8  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        config.pairs.split.train = 1.0  # type: ignore[misc]
    assert isinstance(config.corpus.chunks, tuple)
    assert hash(config) == hash(parse())


@pytest.mark.parametrize(
    "overrides, names",
    [
        ([], ("abc", "abc", "abc-base", "abc", "abc")),
        (["embed.model=base"], ("abc-base", "abc-base", "abc-base", "abc", "abc")),
        (["evaluate.retriever=bm25"], ("abc", "abc-bm25", "abc-base", "abc", "abc")),
        (["evaluate.retriever=hybrid"], ("abc", "abc-hybrid", "abc-base", "abc", "abc")),
        (
            ["evaluate.retriever=chroma", "embed.model=base", "evaluate.part=dev"],
            ("abc-base", "abc-base-chroma-dev", "abc-base", "abc", "abc"),
        ),
        (
            ["embed={model: served, served: {url: 'http://x', model: y, name: z}}"],
            ("abc-z", "abc-z", "abc-base", "abc", "abc"),
        ),
        (["evaluate.part=dev"], ("abc", "abc-dev", "abc-base", "abc", "abc")),
        (["compare.baseline=old"], ("abc", "abc", "old", "abc", "abc-vs-old")),
        (["compare.candidate=new"], ("abc", "abc", "abc-base", "new", "new-vs-abc-base")),
    ],
)
def test_the_names_of_artifacts_follow_from_the_config(
    overrides: list[str], names: tuple[str, ...]
) -> None:
    config = parse("", *overrides)
    assert names == (
        config.embed_name,
        config.evaluate_name,
        config.baseline_name,
        config.candidate_name,
        config.compare_name,
    )


def test_a_config_survives_its_own_json() -> None:
    config = load_config(CONFIGS[0])
    assert RunConfig.model_validate(json.loads(config.model_dump_json())) == config


def test_every_key_is_listed_and_described() -> None:
    keys = dict(keys_of(RunConfig))
    optional = ("pairs.synthesis.generator.", "train.lora.")
    always = {k for k in keys if "[]" not in k and not k.startswith(optional)}
    assert always == set(flatten(parse().model_dump()))
    assert [key for key, field in keys.items() if not field.description] == []
    assert [key for key, field in keys.items() if "typing." in type_name(field.annotation)] == []


@pytest.mark.parametrize(
    "key, words",
    [
        ("train.learning_rate", "float"),
        ("train.max_pairs", "int | none"),
        ("embed.model", "trained | base | served"),
        ("corpus.chunks", "list of str"),
        ("evaluate.k", "list of int"),
        ("train.require_audit", "bool"),
        ("compare.tiers", "list of Tier"),
        ("pairs.data[].columns", "mapping of str to str"),
    ],
)
def test_a_type_is_written_as_people_write_it(key: str, words: str) -> None:
    assert type_name(dict(keys_of(RunConfig))[key].annotation) == words


# --- the schema ------------------------------------------------------------------------------


@pytest.mark.parametrize("override", ["corpus.chunks=[]", "corpus={}"])
def test_a_run_without_anything_to_read_is_refused(override: str) -> None:
    told = "run.yaml: there is nothing to read; give corpus.chunks, or pairs.data, or both"
    assert refusal("", override) == told


def test_the_keys_of_lists_of_sections_are_listed() -> None:
    keys = {key for key, _ in keys_of(RunConfig)}
    assert {"pairs.data[].files", "pairs.synthesis.generator.url", "compare.tiers[].name"} <= keys


def test_the_schema_that_is_shipped_is_the_one_that_is_printed() -> None:
    printed = run_module("jobs", "schema")
    assert printed.returncode == 0
    assert printed.stdout == (ROOT / "configs" / "schema.json").read_text()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_schema_takes_every_config(path: Path) -> None:
    schema = json.loads((ROOT / "configs" / "schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    text = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda m: os.environ.get(m[1]) or m[2], path.read_text())
    tree = yaml.safe_load(text)
    train = tree.setdefault("train", {})
    train["learning_rate"] = float(train.get("learning_rate", 1e-5))  # YAML 1.1: text
    jsonschema.validate(tree, schema)
    tree["train"]["learning_rat"] = 1
    with pytest.raises(jsonschema.ValidationError, match="learning_rat"):
        jsonschema.validate(tree, schema)


def test_reading_a_config_imports_no_torch() -> None:
    program = (
        "import sys; from codex_forge.config import load_config;"
        f"load_config({str(CONFIGS[0])!r}); print(sorted({{'torch', 'fsspec'}} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "override",
    [
        "store=s3://KEY:hunter2/bucket",
        "store=s3://KEY:hunter2@bucket/prefix",
        "corpus.chunks=http://user:hunter2@127.0.0.1:8765/chunks.jsonl",
        "corpus.questions=[s3://KEY:hunter2@bucket/questions.json]",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(override: str) -> None:
    with pytest.raises(ConfigError, match="credentials do not belong in a URL") as refused:
        load_config(ROOT / "configs" / "quickstart.yaml", [override])
    assert "hunter2" not in str(refused.value)


def test_a_key_given_for_its_variable_is_refused_and_not_repeated() -> None:
    generator = "{url: 'http://localhost:1/v1', model: m, api_key_variable: sk-hunter2}"
    told = refusal("", f"pairs.synthesis.generator={generator}")
    assert "api_key_variable: must be the name of an environment variable" in told
    assert "hunter2" not in told


def test_a_name_that_cannot_be_one_is_told_in_words() -> None:
    assert refusal("", "name=ab").startswith("run.yaml: name: must be 3 to 100 letters, digits")


def test_a_port_is_no_secret() -> None:
    url = "http://127.0.0.1:8765/chunks.jsonl"
    config = load_config(ROOT / "configs" / "quickstart.yaml", [f"corpus.chunks={url}"])
    assert config.corpus.chunks == (url,)
