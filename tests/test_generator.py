"""Queries that a language model writes: asked once, within the budget, the key in no file."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codex_forge.config.pairs import GeneratorConfig
from codex_forge.corpus import ChunkTable, chunk_id_of, table_of
from codex_forge.errors import EXIT_TRY_AGAIN, ConfigError, InputError, TryAgain
from codex_forge.pairs.answers import LONGEST, questions_of
from codex_forge.pairs.endpoint import PATIENCE_VARIABLE, Answer
from codex_forge.pairs.generator import NOTHING_USABLE, OVER_BUDGET, QueryGenerator
from codex_forge.pairs.journal import Journal
from codex_forge.pairs.query import Query
from codex_forge.records import Chunk
from codex_forge.storage import Store
from codex_forge.upkeep import debris, garbage, status
from tests.conftest import ROOT
from tests.servers.chat_server import ChatServer, Reply, chat_server

KEY = "sk-a-secret-of-mine-1234567890"


@pytest.fixture
def chat() -> Iterator[ChatServer]:
    """A model of this test's own."""
    with chat_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv(PATIENCE_VARIABLE, "20")


def table(count: int = 12, same: int = 0) -> ChunkTable:
    """Chunks whose last word names them; `same` more have the text of the first."""
    texts = [
        *(f"All about the thing t{i}" for i in range(count)),
        *["All about the thing t0"] * same,
    ]
    return table_of(
        Chunk(chunk_id_of(f"{i}.md", text), text, f"{i}.md") for i, text in enumerate(texts)
    )


class Ask:
    """Makes the queries of some chunks: `ask(chunks, recipe="other", max_chunks=3)`."""

    def __init__(self, chat: ChatServer, store: Store) -> None:
        self.chat, self.store = chat, store
        self.skipped: dict[str, int] = {}

    def __call__(
        self,
        chunks: ChunkTable | None = None,
        *,
        recipe: str = "recipe",
        shard: int = 0,
        seed: int = 7,
        **settings: Any,
    ) -> list[Query]:
        config = GeneratorConfig(**{"url": self.chat.url, "model": "m", **settings})
        maker = QueryGenerator(chunks or table(), config, seed, self.store, recipe)
        found = list(maker.queries(shard))
        self.skipped = dict(maker.skipped)
        return found


@pytest.fixture
def ask(chat: ChatServer, local: Store) -> Ask:
    """Asks the model of this test, with a journal in a folder."""
    return Ask(chat, local)


def journalled(store: Store) -> list[dict[str, Any]]:
    """All records of the answers on a store."""
    paths = [path for path in store.list("generated") if "/answers/" in path]
    return [json.loads(line) for path in paths for line in store.read(path).splitlines()]


def test_each_drawn_chunk_is_asked_about_once(chat: ChatServer, ask: Ask) -> None:
    chunks = table()
    found = ask(chunks, max_chunks=5, queries_per_chunk=2)
    assert chat.count == len(set(chat.prompts)) == 5
    assert [q.text for q in found[:2]] == [
        f"What of t{found[0].positives[0]}?",
        f"Why t{found[0].positives[0]}?",
    ]
    positions = [q.positives[0] for q in found]
    assert positions == sorted(positions)
    for query in found:
        (position,) = query.positives
        assert query.query_id in {f"generated:{chunks.chunk_id(position)}:{n}" for n in (0, 1)}
        assert query.answers.tolist() == [position]
        assert query.source == "generated"
        assert query.text.rstrip("?").endswith(f" t{position}")
        assert any(prompt.endswith(chunks.text(position)) for prompt in chat.prompts)
    body = chat.bodies[0]
    assert (body["model"], body["temperature"]) == ("m", 0.0)
    assert "Write 2 short" in body["messages"][0]["content"]
    other = ask(chunks, max_chunks=5, queries_per_chunk=2, seed=8, recipe="other")
    assert {q.positives for q in other} != {q.positives for q in found}


def test_a_rerun_and_a_changed_recipe_ask_nothing_again(chat: ChatServer, ask: Ask) -> None:
    first = ask(max_chunks=6)
    assert chat.count == 6
    again, other = ask(max_chunks=6), ask(max_chunks=6, recipe="another recipe")
    assert chat.count == 6
    for found in (again, other):
        assert [(q.query_id, q.text) for q in found] == [(q.query_id, q.text) for q in first]
    ask(recipe="more of them")
    assert chat.count == 12
    ask(recipe="another prompt", prompt="{count} about {text}", max_chunks=3)
    assert chat.count == 15
    ask(recipe="another model", model="n", max_chunks=3)
    assert chat.count == 18


def test_a_recipe_keeps_what_was_settled_for_it(chat: ChatServer, ask: Ask) -> None:
    first = ask(max_tokens=300, concurrency=1)
    assert len({q.positives for q in first}) == 3
    ask(recipe="a larger budget")
    assert chat.count == 12
    assert [q.text for q in ask(max_tokens=300, concurrency=1)] == [q.text for q in first]


def test_of_two_who_settle_a_recipe_the_first_counts(store: Store) -> None:
    one, other = Journal(store, "m", 1), Journal(Store(store.root), "m", 1)
    assert other.chosen("recipe") is None
    assert one.choose("recipe", {"a": 1}) == {"a": 1}
    assert other.choose("recipe", {"b": 2}) == other.chosen("recipe") == {"a": 1}
    assert other.choose("another", {"b": 2}) == {"b": 2}


def test_two_who_ask_at_once_disturb_each_other_in_nothing(store: Store) -> None:
    one, other = Journal(store, "m", 2), Journal(Store(store.root), "m", 2)
    for number in range(5):
        one.add(f"k{number}", Answer("one", 10))
        other.add(f"k{number + 3}", Answer("other", 10))
    one.commit()
    other.commit()
    reader = Journal(store, "m", 1)
    assert set(reader.read({"k1", "k4", "k7", "k8"})) == {"k1", "k4", "k7"}
    assert reader.tokens == 80
    assert Journal(store, "n", 1).read({"k1"}) == {}


def test_the_same_bytes_are_asked_about_once(chat: ChatServer, ask: Ask) -> None:
    found = ask(table(3, same=4))
    assert chat.count == 3
    assert len({q.positives for q in found}) == 7


def test_both_sorts_of_store_keep_the_answers(chat: ChatServer, store: Store) -> None:
    first = Ask(chat, store)(max_chunks=6)
    again = Ask(chat, Store(store.root))(recipe="other", max_chunks=6)
    assert chat.count == 6
    assert [q.text for q in again] == [q.text for q in first]


def test_many_are_asked_at_once_and_no_more(chat: ChatServer, ask: Ask) -> None:
    chat.script = lambda _n, _p: Reply(seconds=0.2, is_normal=True)
    ask(table(24), concurrency=8)
    assert chat.most_under_way == 8


# The budget.


def test_the_budget_holds_over_all_runs(chat: ChatServer, ask: Ask) -> None:
    ask(max_tokens=250, concurrency=1)
    assert chat.count == 3  # 200 were not too many, 300 are
    assert ask.skipped == {OVER_BUDGET: 9}
    ask(recipe="another run", max_tokens=450, concurrency=1)
    assert chat.count == 5
    ask(recipe="a third one", max_tokens=450, concurrency=1)
    assert chat.count == 5


def test_with_requests_at_once_only_those_under_way_exceed_it(chat: ChatServer, ask: Ask) -> None:
    ask(table(40), max_tokens=500, concurrency=4)
    assert 5 <= chat.count <= 5 + 3


@pytest.mark.parametrize("tokens", [None, -1_000])
def test_an_endpoint_that_does_not_count_is_counted_by_bytes(
    chat: ChatServer, ask: Ask, tokens: int | None
) -> None:
    chat.tokens = tokens
    ask(max_tokens=100, concurrency=1)
    assert 0 < chat.count < 6
    records = journalled(ask.store)
    assert len(records) == chat.count
    assert all(10 < record["tokens"] < 100 for record in records)


# Faults.


def test_429_is_waited_out_by_all_requests_as_long_as_it_says(chat: ChatServer, ask: Ask) -> None:
    refused = []
    # None is refused before all four are here: a request that was not sent yet would wait, too.
    all_here = threading.Barrier(4)

    def script(number: int, _prompt: str) -> Reply | None:
        if number < 4:
            all_here.wait(timeout=60)
            refused.append(time.monotonic())
            return Reply(429, {"Retry-After": "2"})
        return None

    chat.script = script
    found = ask(table(8), concurrency=4)
    assert len({q.positives for q in found}) == 8
    assert len(refused) == 4
    assert min(chat.times[4:]) - max(refused) >= 1.9


def test_a_date_in_retry_after_is_understood(chat: ChatServer, ask: Ask) -> None:
    from email.utils import formatdate

    when = formatdate(time.time() + 3, usegmt=True)
    chat.script = lambda n, _p: Reply(503, {"Retry-After": when}) if n == 0 else None
    ask(table(1))
    assert chat.count == 2
    assert 1.5 < chat.times[1] - chat.times[0] < 20


@pytest.mark.parametrize("said", ["\u00b2", "Mon, 01 Jan 2024 00:00:00 +99999999999999", "soon"])
def test_a_retry_after_that_is_no_time_is_passed_over(
    chat: ChatServer, ask: Ask, said: str
) -> None:
    chat.script = lambda n, _p: Reply(429, {"Retry-After": said}) if n == 0 else None
    assert ask(table(1))
    assert chat.count == 2


@pytest.mark.parametrize(
    "fault",
    [Reply(500), Reply(503, body="down"), Reply(hangs_up=True), Reply(408), Reply(seconds=1.5)],
    ids=["500", "503", "hangs up", "408", "slow"],
)
def test_what_heals_is_tried_again(chat: ChatServer, ask: Ask, fault: Reply) -> None:
    chat.script = lambda n, _p: fault if n in (0, 3) else None
    found = ask(table(6), concurrency=1, timeout=1)
    assert len({q.positives for q in found}) == 6
    assert chat.count == 8


def test_a_text_that_never_gets_an_answer_is_passed_over(chat: ChatServer, ask: Ask) -> None:
    chat.script = lambda _n, p: Reply(500) if p.endswith(" t3") else None
    found = ask(table(30), concurrency=2)
    assert len({q.positives for q in found}) == 29
    assert ask.skipped == {"no answer in 6 attempts (HTTP 500)": 1}


def test_a_dead_endpoint_means_try_again(
    chat: ChatServer, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PATIENCE_VARIABLE, "1.5")
    chat.script = lambda _n, _p: Reply(502)
    started = time.monotonic()
    with pytest.raises(TryAgain, match="HTTP 502"):
        ask()
    assert 1 < time.monotonic() - started < 20
    with pytest.raises(TryAgain, match=r"127\.0\.0\.1:9/v1") as raised:
        ask(url="http://127.0.0.1:9/v1")
    assert raised.value.exit_code == EXIT_TRY_AGAIN


def test_a_longer_pause_than_the_patience_is_not_sat_out(chat: ChatServer, ask: Ask) -> None:
    chat.script = lambda n, _p: Reply(429, {"Retry-After": "3600"}) if n == 4 else None
    started = time.monotonic()
    with pytest.raises(TryAgain, match="HTTP 429"):
        ask(concurrency=1)
    assert time.monotonic() - started < 10
    chat.script = lambda _n, _p: None
    asked = chat.count
    assert len({q.positives for q in ask(concurrency=1)}) == 12
    assert chat.count == asked + 8, "what was answered before is asked again"


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(401), "set another key in OPENAI_API_KEY"),
        (Reply(403), "refused access"),
        (Reply(404), r"knows no such address or model \(HTTP 404\)"),
        (Reply(301, {"Location": "http://127.0.0.1:9/"}), "knows no such address"),
        (Reply(429, body='{"error": {"code": "insufficient_quota"}}'), "quota"),
    ],
)
def test_what_cannot_heal_ends_at_once(
    chat: ChatServer, ask: Ask, monkeypatch: pytest.MonkeyPatch, reply: Reply, said: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    chat.script = lambda _n, _p: reply
    with pytest.raises(InputError, match=said) as raised:
        ask(concurrency=2)
    assert chat.count <= 2
    assert chat.url in str(raised.value)
    assert raised.value.exit_code == 2


def test_what_was_answered_before_an_error_is_kept(chat: ChatServer, ask: Ask) -> None:
    chat.script = lambda n, _p: Reply(401) if n == 5 else None
    with pytest.raises(InputError):
        ask(concurrency=1)
    chat.script = lambda _n, _p: None
    ask(concurrency=1)
    assert chat.count == 6 + 12 - 5


@pytest.mark.parametrize(
    "body",
    ["<html>", "[]", "{}", '{"choices": []}', '{"choices": [{"message": {"content": 7}}]}', "\0",
     '{"choices": [{"message": "x"}]}', '{"choices": 1}',
     '{"choices": [{"message": {"content": "a"}}], "usage": 1}', "[" * 200_000],
)  # fmt: skip
def test_malformed_answers_are_counted_and_passed_over(
    chat: ChatServer, ask: Ask, body: str
) -> None:
    chat.script = lambda _n, p: Reply(body=body) if p[-1] in "24" else None
    found = ask(table(8), concurrency=1)
    assert {q.positives[0] for q in found} == {0, 1, 3, 5, 6, 7}
    assert ask.skipped == {"not a chat completion": 2}
    assert chat.count == 8


def test_of_an_answer_without_end_little_is_read(
    chat: ChatServer, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codex_forge.pairs.endpoint._LONGEST_RESPONSE", 100_000)
    long = json.dumps({"choices": [{"message": {"content": "What?\n" + "x" * 200_000}}]})
    chat.script = lambda _n, p: Reply(body=long) if p[-1] == "2" else None
    found = ask(table(4), concurrency=1)
    assert {q.positives[0] for q in found} == {0, 1, 3}
    assert ask.skipped == {"not a chat completion": 1}


def test_a_text_that_is_refused_is_passed_over(
    chat: ChatServer, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    chat.script = lambda _n, p: Reply(400, body="too long\nby far") if p.endswith("t2") else None
    found = ask(table(5))
    assert {q.positives[0] for q in found} == {0, 1, 3, 4}
    assert ask.skipped == {"refused (HTTP 400)": 1}


@pytest.mark.parametrize("body", ["<html>welcome", "{}"])
def test_an_endpoint_of_another_sort_is_noticed_soon(chat: ChatServer, ask: Ask, body: str) -> None:
    chat.script = lambda _n, _p: Reply(body=body)
    with pytest.raises(InputError, match="not a chat completion"):
        ask(table(500))
    assert chat.count < 20


def test_answers_without_a_question_are_kept_too(chat: ChatServer, ask: Ask) -> None:
    chat.rule = lambda p: "" if p.endswith("t1") else "Is it so?"
    assert len(ask(table(4))) == 3
    assert ask.skipped == {NOTHING_USABLE: 1}
    ask(table(4), recipe="other")
    assert chat.count == 4


# The key.


def test_the_key_is_sent_and_stands_nowhere(
    chat: ChatServer,
    ask: Ask,
    local: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    chat.key = KEY
    chat.script = lambda n, _p: Reply(400, body=f"not with {KEY}") if n == 2 else None
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    assert ask(api_key_variable="MY_KEY", concurrency=1)
    said = [caplog.text]
    monkeypatch.setenv("MY_KEY", KEY + "x")
    with pytest.raises(InputError, match="set another key in MY_KEY") as raised:
        ask(recipe="other", api_key_variable="MY_KEY", model="other")
    said.append(str(raised.value))
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(InputError, match="set the key in MY_KEY"):
        ask(recipe="other", api_key_variable="MY_KEY", model="other")
    said += [local.read(path).decode() for path in local.list("")]
    assert len(said) > 10
    assert not any(KEY in text for text in [*said, caplog.text])


@pytest.mark.parametrize("key", ["two words", "sk-\N{GREEK SMALL LETTER ALPHA}", "a\r\nHost: b"])
def test_what_can_be_no_key_is_not_sent(
    chat: ChatServer, ask: Ask, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(ConfigError, match="OPENAI_API_KEY") as raised:
        ask()
    assert key not in str(raised.value)
    assert chat.count == 0


# Stopped and killed.

PROGRAM = """
import sys
from codex_forge.config.pairs import GeneratorConfig
from codex_forge.job import guarded
from codex_forge.pairs.generator import QueryGenerator
from codex_forge.storage import Store
from tests.test_generator import table

def work():
    config = GeneratorConfig(url=sys.argv[1], model="m", concurrency=4)
    maker = QueryGenerator(table(60), config, 7, Store(sys.argv[2]), "recipe")
    for query in maker.queries():
        print(query.query_id, query.text)

sys.exit(guarded(work))
"""


def start(chat: ChatServer, store: Store) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, chat.url, store.root],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OPENAI_API_KEY": KEY},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_stopped_run_asks_nothing_twice(
    chat: ChatServer, local: Store, tmp_path: Path, number: signal.Signals
) -> None:
    chat.script = lambda _n, _p: Reply(seconds=0.15, is_normal=True)
    killed = start(chat, local)
    while chat.count < 30 and killed.poll() is None:
        time.sleep(0.01)
    killed.send_signal(number)
    out, said = killed.communicate(timeout=20)
    assert killed.returncode == (-number if number == signal.SIGKILL else EXIT_TRY_AGAIN), said
    assert out == ""
    time.sleep(0.3)  # what was under way
    asked = chat.prompts.copy()
    kept = {record["text"].split("?")[0].split()[-1] for record in journalled(local)}
    # Lost are those under way, and when it is killed outright, as many as were not committed.
    lost = 4 if number == signal.SIGTERM else 8
    assert len(asked) - lost <= len(kept) <= len(asked) < 60

    again = start(chat, local)
    out, said = again.communicate(timeout=60)
    assert again.returncode == 0, said
    new = [prompt.split()[-1] for prompt in chat.prompts[len(asked) :]]
    assert kept.isdisjoint(new), "what was answered is asked again"
    assert len(new) == len(set(new)) == 60 - len(kept)
    assert KEY not in said

    third = start(chat, local)
    assert third.communicate(timeout=60)[0] == out
    assert chat.count == len(asked) + len(new)
    undisturbed = Ask(chat, Store(str(tmp_path / "other")))(table(60))
    assert out.splitlines() == [f"{q.query_id} {q.text}" for q in undisturbed]


def test_damaged_answers_are_asked_again(chat: ChatServer, ask: Ask, local: Store) -> None:
    first = ask(concurrency=4)
    paths = [path for path in local.list("generated") if "/answers/" in path]
    local.write(paths[0], local.read(paths[0])[:-5])
    local.write(next(p for p in local.list("generated") if "/chosen/" in p), b'{"chosen"')
    again = ask(concurrency=4)
    assert [q.text for q in again] == [q.text for q in first]
    assert 12 < chat.count <= 16


def test_other_shards_have_what_the_first_one_settled(
    chat: ChatServer, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codex_forge.pairs import generator

    monkeypatch.setattr(generator, "_WAIT_SECONDS", 0.1)
    with pytest.raises(TryAgain, match="shard 0"):
        ask(shard=1)
    assert chat.count == 0
    first = ask()
    assert [q.text for q in ask(shard=1)] == [q.text for q in first]
    assert chat.count == 12


def test_the_journal_is_neither_an_artifact_nor_rubbish(ask: Ask, local: Store) -> None:
    ask()
    assert local.list("generated")
    assert status(local) == []
    assert garbage(local) == []
    assert debris(local) == []


# What is made of an answer.


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("What?\nWhy so?", ["What?", "Why so?"]),
        ("1. What is it?\n2) Why?\n(3) How many?", ["What is it?", "Why?", "How many?"]),
        ("- What is it?\n* Why?\n\u2022 How?", ["What is it?", "Why?", "How?"]),
        ("Here are 3 questions:\n\n1. **What is it?**", ["What is it?"]),
        ('1. "What is it?"\n\u201cWhy?\u201d\n\u00abHow?\u00bb', ["What is it?", "Why?", "How?"]),
        ("Q1: What is it?\nQuestion 2: Why?\nq. How?", ["What is it?", "Why?", "How?"]),
        ("What is it?\n- what is IT?\nWhy?", ["What is it?", "Why?"]),
        ("3.5 mm or 35 mm?\n1984 was when?", ["3.5 mm or 35 mm?", "1984 was when?"]),
        ("<think>\nWhat do they want?\n</think>\nWhat is it?", ["What is it?"]),
        ("<think>What do they", []),
        ('["What is it?", "Why?", 3]', ["What is it?", "Why?"]),
        ('```json\n["What is it?"]\n```', ["What is it?"]),
        ('[\n"What is it?",\n"Why?"', ["What is it?", "Why?"]),
        ("[Which] one?", ["[Which] one?"]),
        ("1. 什么是它？\n2、为什么？", ["什么是它？", "为什么？"]),
        ("\n \n?\n-\n1.\n", []),
        ("x" * (LONGEST + 1) + "\nWhy?", ["Why?"]),
        ("What\0 is\x1b it?\x0c\nWhy\x85 so?", ["What is it?", "Why so?"]),
        ("A question, query or both?", ["A question, query or both?"]),
    ],
)  # fmt: skip
def test_an_answer_is_cleaned(said: str, found: list[str]) -> None:
    assert questions_of(said, is_cut=False, most=9) == found


def test_an_answer_of_blank_lines_alone_is_read_at_once() -> None:
    begun = time.perf_counter()
    assert questions_of("What?" + "\n" * 100_000 + "x", is_cut=True, most=9) == ["What?"]
    assert time.perf_counter() - begun < 3


def test_an_answer_gives_no_more_than_was_asked_for_and_no_half_line() -> None:
    said = "One?\nTwo?\nThree?\nFo"
    assert questions_of(said, is_cut=False, most=3) == ["One?", "Two?", "Three?"]
    assert questions_of(said, is_cut=False, most=9)[-1] == "Fo"
    assert questions_of(said, is_cut=True, most=9) == ["One?", "Two?", "Three?"]
