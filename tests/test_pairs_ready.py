"""Ready-made data through the doors: beside a corpus, and instead of one."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from codex_forge.errors import EXIT_CHANGE_SOMETHING
from codex_forge.jsonl import line_of, read_json, read_jsonl
from codex_forge.metrics import rubric
from codex_forge.trec import read_qrels, read_run
from tests.conftest import MINILM, ROOT, Corpus, Knock
from tests.made_pairs import Row, chunk, done, entity, made, opened, question, report, rows

TRAIN_TWO_STEPS = ("train.max_steps=2", "train.batch_size=8", "train.logging_steps=1")


def ready(folder: Path, records: list[Row], **more: object) -> list[Row]:
    """An entry of `pairs.data` over a file that holds the records."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "ready.jsonl"
    path.write_text("".join(map(line_of, records)))
    return [{"files": str(path), **more}]


# Beside a corpus.


@pytest.fixture
def village(tmp_path: Path) -> Corpus:
    chunks = [
        chunk(f"{name}.md", f"{name} is a village by the river.", wiki_type="place")
        for name in ("Altburg", "Kessel", "Neudorf")
    ]
    index = {name: entity(name, f"{name}.md") for name in ("Altburg", "Kessel", "Neudorf")}
    asked = [question(1, "Where would one look for old Altburg?", "x", relevant=["Altburg.md"])]
    return Corpus(tmp_path / "village", chunks, index, asked)


ALL_TEST = {"split": {"train": 0.0, "dev": 0.0, "test": 1.0}}


def test_rows_are_taken_as_they_are(village: Corpus, tmp_path: Path) -> None:
    records: list[Row] = [
        {
            "id": "one",
            "query": "how is bread baked",
            "positive": "In an oven.",
            "negatives": ["On a roof.", "In a lake."],
            "phase": "hard",
            "domain": "kitchen",
            "category": "food",
            "part": "train",
        },
        {"id": "two", "query": "how is beer brewed", "positive": "In vats.", "part": "train"},
        {"id": "three", "query": "who mends shoes", "positive": "The cobbler.", "part": "dev"},
        {"id": "four", "query": "who digs wells", "positive": "Nobody here.", "part": "test"},
    ]
    pairs = made(village, tmp_path, pairs={**ALL_TEST, "data": ready(tmp_path / "r", records)})
    found = {r["query_id"]: r for r in rows(pairs, "pairs-train") if r["source"] == "ready"}
    assert list(found) == ["one", "two"]
    assert found["one"] == {
        "query": "how is bread baked",
        "positive": "In an oven.",
        "negatives": ["On a roof.", "In a lake."],
        "query_id": "one",
        "positive_id": "",
        "negative_ids": ["", ""],
        "negative_sources": ["given", "given"],
        "negative_similarities": [None, None],
        "negative_hardness": ["", ""],
        "similarity": None,
        "phase": "hard",
        "source": "ready",
        "category": "food",
        "domain": "kitchen",
        "topics": [],
    }
    assert found["two"]["phase"] == "medium"
    assert [row["query_id"] for row in rows(pairs, "pairs-dev")] == ["three"]
    assert [row["query_id"] for row in rows(pairs, "pairs-test")] == ["four"]
    assert pairs.counts["pairs_test"] == pairs.counts["pairs_dev"] == 1
    assert report(pairs)["train_queries_by_source"]["ready"] == 2
    assert report(pairs)["negatives_by_source"]["given"] == 2
    assert [r["query_id"] for r in rows(pairs, "questions-test")] == ["1"]


def test_rows_that_leak_are_removed_and_counted(village: Corpus, tmp_path: Path) -> None:
    """Against the questions of the corpus, and against the data's own test part."""
    records: list[Row] = [
        {"query": "where would one look for OLD Altburg", "positive": "There.", "part": "train"},
        {"query": "who digs the deepest wells of all?", "positive": "Me.", "part": "train"},
        {"query": "who digs the deepest wells of all", "positive": "You.", "part": "test"},
        {"query": "what does the baker sell", "positive": "Bread rolls.", "part": "train"},
        {"query": "what does the baker sell", "positive": "bread  Rolls.", "part": "train"},
        {"query": "what does the tailor sell", "positive": "what does the tailor sell"},
    ]
    records[-1]["part"] = "train"
    pairs = made(village, tmp_path, pairs={**ALL_TEST, "data": ready(tmp_path / "r", records)})
    found = [r["query"] for r in rows(pairs, "pairs-train") if r["source"] == "ready"]
    assert found == ["what does the baker sell"]
    told = report(pairs)["rejected"]
    assert told == {
        "pair: query_is_positive": 1,
        "query: near-duplicate of a held-out question": 2,
        "query: the same query and positive": 1,
    }
    assert sum(told.values()) == pairs.counts["rejected"] == len(rows(pairs, "rejected"))


def test_a_corpus_query_does_not_paraphrase_the_data_s_test_part(
    village: Corpus, tmp_path: Path
) -> None:
    records: list[Row] = [
        {"query": "tell me all about Kessel", "positive": "Held out.", "part": "test"},
        {"query": "how is bread baked", "positive": "In an oven.", "part": "train"},
    ]
    settings = {
        **ALL_TEST,
        "data": ready(tmp_path / "r", records),
        "synthesis": {"templates": ["tell me all about {name}"]},
    }
    pairs = made(village, tmp_path, pairs=settings)
    queries = {row["query"] for row in rows(pairs, "pairs-train")}
    assert "tell me all about Kessel" not in queries
    assert "tell me all about Neudorf" in queries


def test_what_one_pair_of_a_query_rewards_no_other_punishes(
    village: Corpus, tmp_path: Path
) -> None:
    """The corpus and the data ask the same, and each has another answer."""
    village.questions = []
    records: list[Row] = [
        {
            "id": "bad",
            "query": "kessel",
            "positive": "A kettle, in German.",
            "negatives": ["Kessel is a village by the river."],
        },
        {"id": "good", "query": "neudorf", "positive": "A new village.", "negatives": ["Rain."]},
    ]
    settings = {
        "data": ready(tmp_path / "r", records),
        "split": {"train": 1.0, "dev": 0.0, "test": 0.0},
        "synthesis": {"templates": ["{name}"]},
    }
    pairs = made(village, tmp_path, pairs=settings)
    found = [r["query_id"] for r in rows(pairs, "pairs-train") if r["source"] == "ready"]
    assert found == ["good"]
    assert report(pairs)["rejected"] == {"pair: negative_answers_elsewhere": 1}
    config = village.folder / "run.yaml"
    done("audit", config)
    audit = opened(village.folder / "store", tmp_path, kind="audit")
    assert audit.manifest.summary == {"verdict": "pass"}


def test_records_that_cannot_be_read_are_set_aside_with_their_reason(
    village: Corpus, tmp_path: Path, knock: Knock
) -> None:
    records: list[Row] = [
        {"query": "how is bread baked", "positive": "In an oven."},
        {"query": "how is beer brewed", "positive": ""},
    ]
    config = village.write(pairs={**ALL_TEST, "data": ready(tmp_path / "r", records)})
    assert knock("pairs", config) == EXIT_CHANGE_SOMETHING
    done("pairs", config, "corpus.on_bad_record=reject")
    pairs = opened(village.folder / "store", tmp_path)
    (bad,) = [r for r in rows(pairs, "rejected") if r["kind"] == "record"]
    assert "ready.jsonl:2: positive: is empty" in bad["reason"]
    assert bad["record"] == records[1]
    assert report(pairs)["rejected"]["bad record"] == 1
    assert pairs.counts["rejected"] == sum(report(pairs)["rejected"].values())


# Scored pairs.


def test_no_copy_of_a_scored_pair_repeats_another_pair(village: Corpus, tmp_path: Path) -> None:
    records: list[Row] = [
        {"text_a": "old red mill", "text_b": "a building", "label": 1, "part": "train"},
        {"text_a": "red mill", "text_b": "a building", "label": 0, "part": "train"},
        {"text_a": "old mill", "text_b": "a building", "label": 0, "part": "train"},
        {"text_a": "old red", "text_b": "a building", "label": 1, "part": "test"},
    ]
    settings = {
        **ALL_TEST,
        "data": ready(tmp_path / "r", records),
        "augmentation": {"copies": 8},
    }
    pairs = made(village, tmp_path, pairs=settings)
    found = [
        tuple(sorted((r["text_a"].casefold(), r["text_b"].casefold())))
        for part in ("train", "test")
        for r in rows(pairs, f"scored-{part}")
    ]
    assert len(set(found)) == len(found) > 4
    assert report(pairs)["rejected"]["scored pair: repeats a pair"] > 0
    done("audit", village.folder / "run.yaml")


def test_no_text_of_a_scored_pair_is_a_held_out_question(village: Corpus, tmp_path: Path) -> None:
    records: list[Row] = [
        {"text_a": "Where would one look for old Altburg", "text_b": "On a map.", "label": 1},
        {"text_a": "a baker bakes", "text_b": "In an oven.", "label": 1},
        {"text_a": "a brewer brews", "text_b": "On a roof.", "label": 0},
    ]
    data = ready(tmp_path / "r", [{**record, "part": "train"} for record in records])
    pairs = made(village, tmp_path, pairs={**ALL_TEST, "data": data})
    assert [r["text_a"] for r in rows(pairs, "scored-train")] == ["a baker bakes", "a brewer brews"]
    assert report(pairs)["rejected"] == {"scored pair: leak_normalised": 1}
    done("audit", village.folder / "run.yaml")


def test_copies_of_scored_pairs_keep_label_score_and_phase(village: Corpus, tmp_path: Path) -> None:
    words = ("mill", "river", "bridge", "tower", "lantern", "orchard", "harbour", "quarry")
    records: list[Row] = [
        {
            "id": f"s{number}",
            "text_a": f"the old {word} of the town is very slow today",
            "text_b": f"nobody can use the {word} since the storm came over us",
            **({"score": number / 10} if number % 2 else {"label": number // 2 % 2}),
            **({"phase": "hard"} if number < 4 else {}),
            "part": "train" if number < 6 else "test",
        }
        for number, word in enumerate(words)
    ]
    settings = {
        **ALL_TEST,
        "data": ready(tmp_path / "r", records),
        "augmentation": {"copies": 3},
    }
    pairs = made(village, tmp_path, pairs=settings)
    originals = {r["pair_id"]: r for r in rows(pairs, "scored-train") if r["source"] == "ready"}
    copies = [r for r in rows(pairs, "scored-train") if r["source"] == "augmented"]
    assert set(originals) == {f"s{i}" for i in range(6)}
    assert len(copies) == 3 * 6
    for copy in copies:
        name, _, number = copy["pair_id"].rpartition(":eda:")
        original = originals[name]
        for key in ("score", "label", "phase", "category", "domain"):
            assert copy.get(key) == original.get(key)
        changed, kept = ("text_a", "text_b")[:: 1 if int(number) % 2 == 0 else -1]
        assert copy[changed] != original[changed]
        assert copy[kept] == original[kept]
    assert {r["phase"] for r in originals.values()} >= {"hard", "easy"}
    assert [r["pair_id"] for r in rows(pairs, "scored-test")] == ["s6", "s7"]
    assert pairs.counts["scored_train"] == 24
    assert pairs.counts["scored_test"] == 2


# Instead of a corpus.


def write_manuals(folder: Path) -> Path:
    """The shipped config, its data named by whole paths: this fixture knows no working folder."""
    text = (ROOT / "configs" / "manuals.yaml").read_text()
    assert text.count("examples/manuals/") == 1
    path = folder / "manuals.yaml"
    path.write_text(text.replace("examples/manuals/", f"{ROOT}/examples/manuals/"))
    return path


@pytest.fixture(scope="module")
def manuals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole journey of configs/manuals.yaml; its store."""
    store = tmp_path_factory.mktemp("manuals")
    config = write_manuals(store)
    base = "embed.model=base"
    for mode, *more in (
        ("pairs",),
        ("audit",),
        ("embed", base),
        ("evaluate", base),
        ("train", *TRAIN_TWO_STEPS),
        ("embed",),
        ("evaluate",),
        ("compare", "compare.resamples=200"),
    ):
        done(mode, config, f"store={store}", *more)
    return store


def test_manuals_run_from_triplets_to_a_verdict(manuals: Path, tmp_path: Path) -> None:
    compared = opened(manuals, tmp_path, "manuals", "compare")
    told = read_json(compared.path("report.json"))
    assert told["verdict"] in {"improved", "unchanged", "worse"}
    assert 0 < told["metrics"]["rubric"]["baseline"] <= 5
    domains = {"boilers", "conveyors", "cooling", "forklifts", "pumps", "welding"}
    evaluated = read_json(opened(manuals, tmp_path, "manuals-base", "evaluate").path("report.json"))
    assert set(evaluated["slices"]["domain"]) == domains
    assert evaluated["questions"] == opened(manuals, tmp_path, "manuals").counts["questions_test"]


def test_without_topics_the_rubric_asks_for_any_answer_among_the_first(
    manuals: Path, tmp_path: Path
) -> None:
    pairs = opened(manuals, tmp_path, "manuals")
    evaluated = opened(manuals, tmp_path, "manuals-base", "evaluate")
    qrels, run = read_qrels(pairs.path("qrels-test.tsv")), read_run(evaluated.path("run.trec"))
    scores = Counter[float]()
    for row in read_jsonl(evaluated.path("per_question.jsonl")):
        assert row["expected_topics"] == []
        first = [chunk_id for chunk_id, _ in run[row["query_id"]][:5]]
        expected = 5.0 * any(qrels[row["query_id"]].get(i, 0) > 0 for i in first)
        assert row["measures"]["rubric"] == expected
        assert expected == 5.0 * row["measures"]["recall@5"], "each has one answer"
        scores[expected] += 1
    assert set(scores) == {0.0, 5.0}


@pytest.mark.parametrize(
    ("expected", "covered", "relevant", "score"),
    [
        ((), [{}, {}], [False, True], 5.0),
        ((), [{}, {}], [False, False], 0.0),
        ((), [], [], 0.0),
        (("a", "b"), [{"a": "a"}, {}], [True, True], 2.5),
    ],
)
def test_the_rubric_of_questions_with_and_without_topics(
    expected: tuple[str, ...], covered: list[dict[str, str]], relevant: list[bool], score: float
) -> None:
    assert rubric(expected, covered, relevant) == score


def test_manuals_hold_nothing_out_twice(manuals: Path, tmp_path: Path) -> None:
    pairs = opened(manuals, tmp_path, "manuals")
    train = rows(pairs, "pairs-train")
    held = [row for part in ("dev", "test") for row in rows(pairs, f"questions-{part}")]
    assert not {row["query"] for row in train} & {row["question"] for row in held}
    answers = {
        chunk_id
        for part in ("dev", "test")
        for grades in read_qrels(pairs.path(f"qrels-{part}.tsv")).values()
        for chunk_id in grades
    }
    assert not {row["positive_id"] for row in train} & answers
    chunks = {row["chunk_id"]: row["text"] for row in read_jsonl(pairs.path("chunks.jsonl"))}
    for row in train:
        assert chunks[row["positive_id"]] == row["positive"]
        assert row["negative_sources"][0] == "given"
        assert chunks[row["negative_ids"][0]] == row["negatives"][0]
        assert len(row["negatives"]) == 3, "two are mined beside the given one"
    groups = Counter(row["group"] for row in held)
    assert all(group.startswith("ready-") for group in groups)
    given = Counter(row["domain"] for row in train)
    assert len(given) == 6
    assert max(given.values()) < 1.3 * min(given.values())


def test_folds_divide_ready_made_data_too(tmp_path: Path) -> None:
    """Every query is held out in exactly one fold."""
    held = Counter[str]()
    for fold in range(3):
        folds = (f"store={tmp_path}", "pairs.split.folds=3", f"pairs.split.fold={fold}")
        done("pairs", ROOT / "configs" / "manuals.yaml", *folds)
        pairs = opened(tmp_path, tmp_path / str(fold), f"manuals-fold{fold}")
        held.update(row["question"] for row in rows(pairs, "questions-test"))
        assert pairs.counts["pairs_train"] > 150
    assert set(held.values()) == {1}
    assert len(held) == 600


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in the configs are relative to it."""
    monkeypatch.chdir(ROOT)


def test_scored_pairs_alone_are_divided_and_audited(tmp_path: Path) -> None:
    for mode in ("pairs", "audit"):
        done(mode, "configs/incidents.yaml", f"store={tmp_path}")
    pairs = opened(tmp_path, tmp_path, "incidents")
    assert opened(tmp_path, tmp_path, "incidents", "audit").manifest.summary == {"verdict": "pass"}
    counts = {part: len(rows(pairs, f"scored-{part}")) for part in ("train", "dev", "test")}
    assert sum(counts.values()) == 1320
    assert counts["train"] == pytest.approx(0.7 * 1320, rel=0.05)
    assert "chunks.jsonl" not in pairs.files
    assert report(pairs)["scored"] == {f"scored_{part}": n for part, n in counts.items()}
    texts = {
        part: {row[key] for row in rows(pairs, f"scored-{part}") for key in ("text_a", "text_b")}
        for part in counts
    }
    assert not texts["train"] & texts["test"]


def test_a_run_that_holds_out_everything_is_audited_too(tmp_path: Path) -> None:
    records: list[Row] = [
        {"text_a": f"the mill {n}", "text_b": f"the river {n}", "score": n / 9} for n in range(9)
    ]
    tree = {
        "name": "small",
        "store": str(tmp_path / "store"),
        "model": {"base": MINILM},
        "pairs": {**ALL_TEST, "data": ready(tmp_path, records)},
    }
    (tmp_path / "run.yaml").write_text(json.dumps(tree))
    for mode in ("pairs", "audit"):
        done(mode, tmp_path / "run.yaml")
    audit = opened(tmp_path / "store", tmp_path, kind="audit")
    assert report(audit)["lengths"] == {}
    assert report(audit)["pairs_audited"] == 0


def test_scored_pairs_alone_say_what_they_cannot_do(
    tmp_path: Path, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    config, store = "configs/incidents.yaml", f"store={tmp_path}"
    done("pairs", config, store)
    done("audit", config, store)
    for mode, said in (
        ("embed", "scored pairs alone make no corpus"),
        ("train", "scored or labelled pairs only"),
    ):
        capsys.readouterr()
        ranking = "train.objective=multiple_negatives_ranking"
        code = knock(mode, config, store, "embed.model=base", ranking, *TRAIN_TWO_STEPS)
        told = capsys.readouterr().err
        assert code == EXIT_CHANGE_SOMETHING, told
        assert said in told
        assert "corpus.chunks" in told or "pairs.data" in told
    assert knock("evaluate", config, store, "evaluate.retriever=bm25") == EXIT_CHANGE_SOMETHING
    assert "evaluate.retriever" in capsys.readouterr().err


def test_an_edited_record_gives_other_chunks_and_is_refused(
    tmp_path: Path, knock: Knock, capsys: pytest.CaptureFixture[str]
) -> None:
    records: list[Row] = [
        {"query": f"what does the {w} do", "positive": f"The {w} of {w}s.", "negatives": ["Rain."]}
        for w in ("miller", "baker", "tailor", "cooper", "smith", "weaver", "mason", "tanner")
    ]
    corpus = Corpus(tmp_path / "alone", [], {}, [])
    data = ready(tmp_path / "r", records)
    config = corpus.write(corpus={}, pairs={"data": data, "near_duplicate": 1.0})
    done("pairs", config)
    pairs = opened(corpus.folder / "store", tmp_path)
    assert pairs.counts["pairs_train"] > 0
    records[0]["positive"] = "Something else."
    ready(tmp_path / "r", records)
    assert knock("pairs", config) == EXIT_CHANGE_SOMETHING
    assert "its input data has other content" in capsys.readouterr().err
    assert json.loads(pairs.path("chunks.jsonl").read_text().splitlines()[0])["text"]
