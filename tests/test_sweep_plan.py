"""The plan of a sweep: which trials there are, what they are called, and what they share."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_forge.config import RunConfig, load_config, parse_config
from codex_forge.errors import ConfigError
from codex_forge.sweep.labels import label_of, name_of
from codex_forge.sweep.plan import Plan, plan_of, ranges
from codex_forge.sweep.run import table
from tests.conftest import ROOT, run_module

SMALLEST = "name: abc\nstore: here\ncorpus: {chunks: c.jsonl}\nmodel: {base: m}\n"
TAKEN = re.compile(r"(base|bm25|hybrid|chroma|dev|all|fold\d+)")


def config_of(more: str = "", *overrides: str) -> RunConfig:
    return parse_config(SMALLEST + more, overrides, where="run.yaml")


def plan(more: str = "", *overrides: str) -> Plan:
    return plan_of(config_of(more, *overrides))


def of_trials(*trials: dict[str, Any]) -> Plan:
    return plan("", f"sweep.trials={json.dumps(trials)}")


def refusal(more: str = "", *overrides: str) -> str:
    with pytest.raises(ConfigError) as refused:
        plan(more, *overrides)
    return str(refused.value)


# --- which trials there are ------------------------------------------------------------------


def test_without_grid_and_trials_there_are_27() -> None:
    found = plan()
    assert len(found.trials) == 27
    assert found.keys == ["train.learning_rate", "train.epochs", "train.warmup_steps"]
    values = [list(trial.overrides.values()) for trial in found.trials]
    assert values[:4] == [[1e-5, 2, 50], [1e-5, 2, 100], [1e-5, 2, 200], [1e-5, 4, 50]]
    assert values[-1] == [5e-5, 6, 200]
    for trial in found.trials:
        train = trial.config.train
        assert [train.learning_rate, train.epochs, train.warmup_steps] == list(
            trial.overrides.values()
        )


def test_the_grid_comes_first_and_then_the_trials() -> None:
    found = plan("sweep: {grid: {train.epochs: [1, 2], seed: [7, 8]}, trials: [{train.scale: 30}]}")
    assert [dict(trial.overrides) for trial in found.trials] == [
        {"train.epochs": 1.0, "seed": 7},
        {"train.epochs": 1.0, "seed": 8},
        {"train.epochs": 2.0, "seed": 7},
        {"train.epochs": 2.0, "seed": 8},
        {"train.scale": 30.0},
    ]
    assert [trial.index for trial in found.trials] == list(range(5))
    assert found.keys == ["train.epochs", "seed", "train.scale"]


def test_trials_alone_come_without_the_usual_grid() -> None:
    assert [t.label for t in of_trials({"train.epochs": 3}).trials] == ["epochs-3"]


def test_a_grid_may_be_given_on_the_command_line() -> None:
    found = plan("", "sweep.grid.train.epochs=[1, 2]", "sweep.grid.seed=[3]")
    assert [trial.label for trial in found.trials] == ["seed-3-epochs-1", "seed-3-epochs-2"]
    assert found.keys == ["train.epochs"]


def test_a_value_may_be_a_mapping_a_list_or_nothing() -> None:
    found = of_trials(
        {"train.lora": {"rank": 4}},
        {"train.lora.rank": 8},
        {"train.lora": None, "train.freeze_layers": 2},
        {"train.stages": [{"objective": "simcse", "epochs": 1}, {"epochs": 2}]},
        {"evaluate.retriever": "hybrid", "evaluate.hybrid.weight": 0.5},
    )
    loras = [trial.config.train.lora for trial in found.trials]
    assert [lora.rank if lora else None for lora in loras] == [4, 8, None, None, None]
    assert found.trials[4].evaluate_name == f"{found.trials[4].name}-hybrid-dev"
    assert [stage.epochs for stage in found.trials[3].config.train.resolved_stages] == [1, 2]


def test_the_plan_for_machines_says_all() -> None:
    tree = plan("sweep: {grid: {train.epochs: [1, 2]}}").tree()
    assert tree == {
        "name": "abc",
        "trials": [
            {
                "index": 0,
                "name": "abc-epochs-1",
                "label": "epochs-1",
                "overrides": {"train.epochs": 1.0},
            },
            {
                "index": 1,
                "name": "abc-epochs-2",
                "label": "epochs-2",
                "overrides": {"train.epochs": 2.0},
            },
        ],
        "array_size": 2,
    }


def test_the_table_shows_every_trial_and_the_indexes() -> None:
    lines = list(table(plan("sweep: {grid: {train.epochs: [1, 2], seed: [7]}}")))
    assert lines[0].split() == ["index", "train.epochs", "name"]
    assert lines[1].split() == ["0", "1.0", "abc-seed-7-epochs-1"]
    assert lines[-1] == "2 trials: an array of size 2, indexes 0-1"


@pytest.mark.parametrize(
    "indexes, told",
    [([], ""), ([3], "3"), ([0, 1, 2], "0-2"), ([7, 0, 3, 5, 6], "0,3,5-7"), ([0, 2], "0,2")],
)
def test_indexes_as_sbatch_takes_them(indexes: list[int], told: str) -> None:
    assert ranges(indexes) == told


# --- mistakes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trials, words",
    [
        ([{"train.epoch": 2}], "trials[0]: unknown key train.epoch; did you mean train.epochs?"),
        ([{"train.epochs": 2}, {"train.epochs": -2}], "trials[1]: train.epochs: input should be"),
        ([{"train": {"epochs": 2}}], "trials[0]: train is a whole section; give keys of it"),
        ([{"name": "x"}], "trials[0]: name cannot vary: each trial gets its own"),
        ([{"store": "x"}], "trials[0]: store cannot vary: all trials share one store"),
        ([{"embed.chroma.path": "x"}], "embed.chroma.path cannot vary: trials write no collection"),
        ([{"evaluate.part": "test"}], "evaluate.part cannot vary: all trials are measured alike"),
        ([{"evaluate.rubric_k": 3}], "evaluate.rubric_k cannot vary: all trials are measured"),
        ([{"evaluate.retriever": "bm25"}], "[0]: evaluate.retriever=bm25: would not tell trials"),
        ([{"compare.resamples": 500}], "compare.resamples cannot vary: no trial reads it"),
        ([{"sweep.metric": "x"}], "sweep.metric cannot vary"),
        (
            [{"train.epochs": 2}, {"train.epochs": 2.0}],
            "sweep.trials[0] and sweep.trials[1] are the same trial",
        ),
        ([{"seed": 7}, {"train.scale": 20}], "sweep.trials[0] and sweep.trials[1] are the same"),
        ([{"pairs.split.train": 0.4}], "trials[0]: pairs.split: train + dev + test must be 1"),
    ],
)
def test_a_trial_that_cannot_be_is_named(trials: list[dict[str, Any]], words: str) -> None:
    assert words in refusal("", f"sweep.trials={json.dumps(trials)}")


@pytest.mark.parametrize(
    "override, words",
    [
        ("sweep.grid={train.epochs: []}", "train.epochs has no values"),
        ("sweep.grid={train.epochs: 3}", "train.epochs: must be a list"),
        ("sweep.grid={}", "the grid is empty"),
        ("sweep.grid={train.epochs: [1, 1.0]}", "(train.epochs=1.0) are the same trial"),
        ("embed.model=base", "embed.model=base: trials train a model"),
        ("evaluate.retriever=bm25", "evaluate.retriever=bm25: would not tell trials apart"),
        (f"name={'n' * 95}", "leaves no room for those of trials"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(override: str, words: str) -> None:
    assert words in refusal("", override)


def test_a_sweep_that_cannot_be_stops_no_other_mode() -> None:
    assert config_of("sweep: {trials: [{train.epoch: 2}]}").name == "abc"


# --- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "overrides, label",
    [
        ({"train.epochs": 2.0, "train.learning_rate": 1e-5}, "epochs-2-learning_rate-1e-05"),
        ({"train.learning_rate": 1e-5, "train.epochs": 2.0}, "epochs-2-learning_rate-1e-05"),
        ({"train.max_steps": -1}, "max_steps--1"),
        ({"train.freeze_embeddings": True}, "freeze_embeddings-true"),
        ({"train.lora": None}, "lora-none"),
        ({"train.validation.metric": "ndcg"}, "validation.metric-ndcg"),
        ({"embed.dtype": "int8"}, "embed.dtype-int8"),
        ({"model.base": "/models/mini lm"}, "model.base-mini-lm-f38fbfd5"),
        ({"train.domains": ["a"]}, "domains-" + "cc7ae3a7"),
        ({}, "as-it-stands"),
    ],
)
def test_a_label_says_what_differs(overrides: dict[str, Any], label: str) -> None:
    found = label_of(overrides)
    if re.search(r"[0-9a-f]{8}$", label):
        assert re.fullmatch(re.sub(r"[0-9a-f]{8}$", "[0-9a-f]{8}", label), found)
    else:
        assert found == label


def test_a_name_never_ends_like_those_of_other_artifacts() -> None:
    for word in ("base", "hybrid", "my-all", "fold0"):
        assert not TAKEN.fullmatch(label_of({"model.base": word}).rsplit("-", 1)[-1])


_VALUES = st.one_of(
    st.integers(-5, 10**6),
    st.floats(1e-9, 1e9),
    st.booleans(),
    st.none(),
    st.text(max_size=60),
    st.lists(st.integers(), max_size=3),
)


@given(
    st.dictionaries(
        st.sampled_from(("train.epochs", "seed", "model.base", "embed.dtype", "train.sources")),
        _VALUES,
        min_size=1,
    )
)
def test_any_value_gives_a_name_that_artifacts_may_have(overrides: dict[str, Any]) -> None:
    name = name_of("abc", label_of(overrides))
    assert config_of("", f"name={json.dumps(name)}").name == name
    assert not TAKEN.fullmatch(name.rsplit("-", 1)[-1])


def test_a_long_name_is_cut_and_stays_its_own() -> None:
    names = [name_of("n" * 60, f"epochs-{i}-{'x' * 60}") for i in range(2)]
    assert all(len(name) <= 100 for name in names)
    assert len(set(names)) == 2
    assert name_of("n" * 89, "epochs-1") == f"{'n' * 89}-epochs-1"
    with pytest.raises(ConfigError, match="leaves no room"):
        name_of("n" * 95, "epochs-1")


def test_the_identity_of_a_trial_is_what_it_has_otherwise() -> None:
    before = {t.name: t.config for t in plan("sweep: {grid: {train.epochs: [1, 2]}}").trials}
    after = {t.name: t.config for t in plan("sweep: {grid: {train.epochs: [3, 2, 1]}}").trials}
    for name, config in before.items():
        assert after[name].train == config.train
        assert after[name].use == config.use


# --- what trials share -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "overrides, shared",
    [
        ({"train.epochs": 2}, ("abc", "abc", "abc")),
        ({"seed": 8}, ("abc", "abc", "abc")),
        ({"audit.worst": 3, "seed": 8}, ("abc", "abc-audit.worst-3", "abc")),
        ({"model.max_seq_length": 64}, ("abc", "abc-model.max_seq_length-64", "abc")),
        (
            {"pairs.cross_category": 1, "train.epochs": 2},
            ("abc-pairs.cross_category-1", "abc-pairs.cross_category-1", "abc"),
        ),
        (
            {"pairs.cross_category": 1, "seed": 8, "audit.worst": 3},
            (
                "abc-pairs.cross_category-1-seed-8",
                "abc-audit.worst-3-pairs.cross_category-1-seed-8",
                "abc",
            ),
        ),
    ],
)
def test_a_trial_makes_only_what_its_settings_change(
    overrides: dict[str, Any], shared: tuple[str, ...]
) -> None:
    trial = of_trials(overrides).trials[0]
    use = trial.config.use
    assert (use.pairs, use.audit, use.base) == shared
    assert [(each.mode, each.name) for each in trial.before] == [
        (mode, name) for mode, name in (("pairs", use.pairs), ("audit", use.audit)) if name != "abc"
    ]


def test_trials_that_agree_in_what_makes_pairs_share_them() -> None:
    found = plan("sweep: {grid: {pairs.cross_category: [0, 1, 2], train.epochs: [1, 2]}}")
    assert [trial.config.pairs_name for trial in found.trials] == [
        *["abc"] * 2,  # as in the run
        *["abc-pairs.cross_category-1"] * 2,
        *["abc-pairs.cross_category-2"] * 2,
    ]
    for trial in found.trials[2:]:
        made = trial.before[0].config
        assert made.pairs == trial.config.pairs
        assert made.train.epochs == 1  # what trials differ in is not theirs


def test_pairs_that_ask_a_model_have_vectors_of_their_own_corpus() -> None:
    more = "pairs: {negatives: {nearest: 1}}\nsweep: {trials: [{corpus.on_bad_record: reject}]}"
    trial = plan(more).trials[0]
    own = "abc-corpus.on_bad_record-reject"
    assert [(each.mode, each.name) for each in trial.before] == [
        ("embed", f"{own}-base"),
        ("pairs", own),
        ("audit", own),
    ]
    assert trial.before[1].config.base_vectors_name == f"{own}-base"
    of_pairs = plan(more.replace("corpus.on_bad_record: reject", "pairs.cross_category: 1"))
    assert [each.mode for each in of_pairs.trials[0].before] == ["pairs", "audit"]
    assert of_pairs.trials[0].before[0].config.base_vectors_name == "abc-base"


def test_a_trial_is_scored_on_dev_and_writes_no_collection() -> None:
    more = "embed: {chroma: {path: here}}\nsweep: {trials: [{train.epochs: 2}]}"
    trial = plan(more).trials[0]
    assert trial.config.evaluate_name == trial.evaluate_name == "abc-epochs-2-dev"
    assert trial.config.embed.chroma.place is None


def test_a_fold_has_trials_of_its_own() -> None:
    more = "pairs: {split: {folds: 3, fold: 1}}\nsweep: {trials: [{train.epochs: 2}]}"
    trial = plan(more).trials[0]
    assert plan(more).name == "abc-fold1"
    assert trial.config.run_name == "abc-epochs-2-fold1"
    assert trial.config.pairs_name == "abc-fold1"


# --- the key `use` ---------------------------------------------------------------------------


def test_without_use_a_run_reads_its_own() -> None:
    config = config_of()
    names = (config.pairs_name, config.audit_name, config.base_vectors_name, config.embed_name)
    assert names == ("abc", "abc", "abc-base", "abc")


def test_use_names_the_artifacts_of_another_run() -> None:
    config = config_of("use: {pairs: one, audit: two, base: three}")
    assert (config.pairs_name, config.audit_name) == ("one", "two")
    assert config.base_vectors_name == "three-base"
    based = config_of("use: {base: three}\nembed: {model: base}")
    assert (based.embed_name, based.evaluate_name) == ("three-base", "abc-base")


@pytest.mark.parametrize("mode", ["pairs", "audit"])
def test_a_mode_does_not_make_what_the_run_reads_of_another(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"{SMALLEST}use: {{{mode}: other}}\n".replace("here", str(tmp_path / "store")))
    told = run_module(f"jobs.{mode}", str(path))
    assert told.returncode == 2
    assert f"use.{mode}: this run reads the {mode} of 'other' and makes none" in told.stderr
    assert not (tmp_path / "store").exists()


def test_the_base_model_s_vectors_of_another_run_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"{SMALLEST}use: {{base: other}}\n".replace("here", str(tmp_path / "store")))
    told = run_module("jobs.embed", str(path), "embed.model=base")
    assert told.returncode == 2
    assert "use.base: this run reads the base model's vectors of 'other'" in told.stderr


def test_a_key_and_one_above_it_are_not_given_together() -> None:
    trial = "sweep.trials=[{train.lora.rank: 8, train.lora: {rank: 16}}]"
    with pytest.raises(ConfigError, match=r"train\.lora\.rank is given beside train\.lora"):
        plan_of(load_config(ROOT / "configs" / "sweep.yaml", ["sweep.grid={}", trial]))


def test_there_is_one_zero() -> None:
    def trials(*values: str) -> Plan:
        grid = f"sweep.grid={{train.weight_decay: [{', '.join(values)}]}}"
        return plan_of(load_config(ROOT / "configs" / "sweep.yaml", ["sweep.trials=[]", grid]))

    with pytest.raises(ConfigError, match="are the same trial"):
        trials("0.0", "-0.0")
    assert trials("-0.0").trials[0].name == trials("0.0").trials[0].name


def test_a_long_list_of_trials_is_not_carried_by_each_of_them() -> None:
    many = ", ".join(f"{{seed: {seed}}}" for seed in range(1000, 1200))
    config = load_config(
        ROOT / "configs" / "sweep.yaml", ["sweep.grid={}", f"sweep.trials=[{many}]"]
    )
    trials = plan_of(config).trials
    assert len(trials) == 200
    assert {trial.config.sweep.trials for trial in trials} == {()}


# --- the door --------------------------------------------------------------------------------


def test_the_door_tells_the_plan_for_people_and_machines() -> None:
    config = str(ROOT / "configs" / "sweep.yaml")
    size = int(run_module("jobs.sweep", config, "--size").stdout)
    tree = json.loads(run_module("jobs.sweep", config, "--plan", "--json").stdout)
    shown = run_module("jobs.sweep", config, "--plan").stdout
    assert (
        size
        == tree["array_size"]
        == len(tree["trials"])
        == len(plan_of(load_config(config)).trials)
    )
    assert all(trial["name"] in shown for trial in tree["trials"])


def test_a_plan_may_be_cut_short_by_its_reader() -> None:
    program = f"{sys.executable} -m jobs.sweep configs/quickstart.yaml --plan | head -1"
    told = subprocess.run(
        ["bash", "-o", "pipefail", "-c", program], cwd=ROOT, capture_output=True, text=True
    )
    assert told.stdout.startswith("index")
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize(
    "given, words",
    [
        (["--json"], "--json goes with --plan"),
        (["--accept-missing"], "--accept-missing goes with --collect"),
        (["--shards", "0"], "--shards 0 must be at least 1"),
        (["--shards", "5"], "--shards 5 needs an index"),
    ],
)
def test_the_door_refuses_what_does_not_go_together(given: list[str], words: str) -> None:
    told = run_module("jobs.sweep", str(ROOT / "configs" / "sweep.yaml"), *given)
    assert told.returncode == 2
    assert words in told.stderr


@pytest.mark.parametrize("variable", ["JOB_COMPLETION_INDEX", "SLURM_ARRAY_TASK_ID"])
def test_a_task_of_an_array_does_not_run_all_trials(variable: str, tmp_path: Path) -> None:
    config = str(ROOT / "configs" / "sweep.yaml")
    store = f"store={tmp_path / 'store'}"
    told = run_module("jobs.sweep", config, store, env={variable: "3"})
    assert told.returncode == 2
    assert f"{variable}=3 asks for one trial, and no --shards is given" in told.stderr
    told = run_module("jobs.sweep", config, store, "--missing", env={variable: "3"})
    assert told.returncode == 0


def test_no_gate_starts_whatever_the_gate_would_say(tmp_path: Path) -> None:
    config = str(ROOT / "configs" / "sweep.yaml")
    store = f"store={tmp_path / 'store'}"
    told = run_module("jobs.sweep", config, store, "--force")
    assert told.returncode == 3
    assert "--no-gate" in told.stderr
    told = run_module("jobs.sweep", config, store, "--no-gate")
    assert told.returncode == 2
    assert "there is no pairs artifact" in told.stderr


@pytest.mark.parametrize("switch", ["--missing", "--size"])
def test_a_reader_that_does_not_wait_makes_no_error_of_ours(switch: str, tmp_path: Path) -> None:
    """It is gone before the first word: the process ends as any other of a pipe, by the signal."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "jobs.sweep", "configs/sweep.yaml", switch]
    told = subprocess.run(
        [*command, f"store={tmp_path}"], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    assert told.returncode == -signal.SIGPIPE
    assert "Traceback" not in told.stderr


def test_the_door_imports_no_torch_to_plan_and_look(tmp_path: Path) -> None:
    program = """
import sys
from jobs.sweep import DOOR
given = [sys.argv[1], f"store={sys.argv[2]}"]
codes = [DOOR.main([*given, *more]) for more in (["--plan"], ["--missing"], [])]
heavy = {"torch", "transformers", "sentence_transformers", "matplotlib"}
print(codes, sorted(heavy & set(sys.modules)))
"""
    command = [sys.executable, "-c", program, "configs/sweep.yaml", str(tmp_path / "store")]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1] == "[0, 0, 3] []"
