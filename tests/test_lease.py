"""The lease: one writer at a time, taken over when its holder is gone, and never two artifacts."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from s3fs import S3FileSystem

from codex_forge.artifact import Artifact, Block, Draft, Input, Recipe, begin, open_artifact
from codex_forge.artifact import lease as lease_module
from codex_forge.artifact.lease import (
    LEASE_VARIABLE,
    Holder,
    Lease,
    acquire,
    encode,
    lease_path,
    lease_tokens,
)
from codex_forge.errors import EXIT_TRY_AGAIN, TryAgain
from codex_forge.storage import Store
from codex_forge.storage import store as store_module
from codex_forge.storage.faults import PATIENCE_VARIABLE
from tests.conftest import ROOT
from tests.servers.fault_proxy import Fault, fault_proxy
from tests.servers.s3 import S3Server

SLOT = "train/small"
CONTENDERS = 8


@pytest.fixture(autouse=True)
def _no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are no job of a scheduler, wherever they run."""
    for name in list(os.environ):
        if name.startswith(("SLURM_", "KUBERNETES_")):
            monkeypatch.delenv(name)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> float:
    """Leases of this test last so many seconds."""
    monkeypatch.setenv(LEASE_VARIABLE, "1")
    return 1.0


AT_ONCE = 20.0
"""Seconds: on a busy machine, and far below the 60 of a lease that is watched to its end."""


@contextmanager
def held(store: Store) -> Iterator[Lease]:
    lease = acquire(store, SLOT, SLOT)
    try:
        yield lease
    finally:
        lease.release(0)


def holder_of(store: Store, token: int = 1) -> Holder:
    holder = Holder.parse(store.read(lease_path(SLOT, token)))
    assert holder is not None
    return holder


def leave(store: Store, **facts: Any) -> Holder:
    """Leave the lease of a holder that is not gone for all we know: one on another machine."""
    holder = replace(Holder.this_process(), **{"machine": "another/machine", **facts})
    store.write(lease_path(SLOT, 1), encode(holder))
    return holder


def seconds_to_take_over(store: Store) -> float:
    started = time.monotonic()
    lease = acquire(store, SLOT, SLOT)
    seconds = time.monotonic() - started
    lease.release(0)
    assert lease.token == 2
    return seconds


@contextmanager
def holding_process(store: Store) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that holds the slot."""
    program = f"""
import time
from codex_forge.artifact.lease import acquire
from codex_forge.storage import Store
lease = acquire(Store({store.root!r}), {SLOT!r}, {SLOT!r})
print("held", flush=True)
time.sleep(60)
"""
    with _process(program) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        yield child


@contextmanager
def _process(program: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            yield child
        finally:
            child.kill()


# --- one at a time ---------------------------------------------------------------------------


def test_a_lease_says_who_holds_it_and_since_when(store: Store) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    with held(store) as lease:
        assert lease.token == 1
        assert lease.path == lease_path(SLOT, 1) == "train/small/leases/000001.json"
        holder = holder_of(store)
        assert (holder.process, holder.ended, holder.exit_code) == (os.getpid(), False, None)
        assert before <= datetime.fromisoformat(holder.since) <= datetime.now(UTC)
        assert str(holder) == (
            f"process {os.getpid()} on {os.uname().nodename}, since {holder.since}"
        )
        lease.check()


def test_a_second_one_is_told_who_holds_it_and_since_when(store: Store, short: float) -> None:
    with held(store) as lease:
        started = time.monotonic()
        with pytest.raises(TryAgain) as refused:
            acquire(store, SLOT, SLOT)
        assert time.monotonic() - started < short, "one renewal is enough to know"
        assert refused.value.exit_code == EXIT_TRY_AGAIN
        assert str(refused.value) == (
            f"{store.root}/{SLOT}: is being made by {holder_of(store)}; "
            "wait until that is done; when its process is gone, run again"
        )
        assert lease_tokens(store, SLOT, SLOT) == [1]
        lease.check()


def test_a_holder_that_renews_keeps_it_for_many_lease_times(store: Store, short: float) -> None:
    over = time.monotonic() + 3 * short
    with held(store) as lease:
        while time.monotonic() < over:
            with pytest.raises(TryAgain):
                acquire(store, SLOT, SLOT)
        lease.check()
        assert holder_of(store).renewals >= 6
        assert lease_tokens(store, SLOT, SLOT) == [1]


def test_slots_are_held_apart(store: Store) -> None:
    with held(store):
        other = acquire(store, SLOT, f"{SLOT}/shard-00001-of-00002")
        assert other.token == 1
        other.release(0)
        assert lease_tokens(store, SLOT, SLOT) == [1]


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_of_many_at_once_exactly_one_wins(
    store: Store, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv(LEASE_VARIABLE, "2")
    acquire(store, SLOT, SLOT).release(0)
    for token in (2, 3):
        told = _contend(store.root, kind)
        won = [text for text in told if text.isdigit()]
        assert won == [str(token)], told
        refused = [text for text in told if "is being made by process" in text]
        assert len(refused) == CONTENDERS - 1, told
        assert holder_of(store, token).ended


def _contend(root: str, kind: str, open_store: Callable[[str], Store] = Store) -> list[str]:
    """Let many acquire the slot at once: the winner's token, and what the others are told."""
    # Processes forked off here, and threads, meet closer together than programs would.
    context: Any = multiprocessing.get_context("fork")
    told = context.SimpleQueue()
    together, over = context.Barrier(CONTENDERS), context.Event()

    def contend() -> None:
        store = open_store(root)
        together.wait(30)
        try:
            lease = acquire(store, SLOT, SLOT)
        except BaseException as error:  # noqa: BLE001 - told to the test
            told.put(f"{type(error).__name__}: {error}")
        else:
            told.put(f"{lease.token}")
            over.wait(30)
            lease.release(0)

    start = threading.Thread if kind == "threads" else context.Process
    contenders = [start(target=contend) for _ in range(CONTENDERS)]
    for contender in contenders:
        contender.start()
    found = [told.get() for _ in contenders]
    over.set()
    for contender in contenders:
        contender.join()
    return found


# --- taking over -----------------------------------------------------------------------------


def test_what_is_released_is_free_at_once_and_says_how_it_ended(store: Store) -> None:
    first = acquire(store, SLOT, SLOT)
    first.release(0)
    first.release(3, "the gate is not met")
    first.release(3, "a second word changes nothing")
    ended = holder_of(store)
    assert (ended.ended, ended.exit_code, ended.said) == (True, 3, "the gate is not met")
    assert seconds_to_take_over(store) < AT_ONCE
    assert holder_of(store) == ended
    store.delete(first.path)  # by its successor, at the end
    first.release(1)
    assert lease_tokens(store, SLOT, SLOT) == [2]


def test_what_is_abandoned_leaves_no_word(store: Store) -> None:
    lease = acquire(store, SLOT, SLOT)
    lease.abandon()
    assert store.list(SLOT) == []
    with held(store) as again:
        assert again.token == 1


def test_a_killed_process_of_this_machine_is_followed_at_once(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with holding_process(store) as child:
        gone = holder_of(store)
        assert gone.seconds == 60
        assert not gone.is_gone(Holder.this_process())
        child.kill()
        child.wait()
        with caplog.at_level(logging.INFO, "codex_forge"):
            assert seconds_to_take_over(store) < AT_ONCE
    assert f"taking over from {gone}" in caplog.text


def test_a_zombie_is_gone(local: Store) -> None:
    process = os.fork()
    if process == 0:
        os._exit(0)
    os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)  # dead, not yet buried
    facts = {"machine": Holder.this_process().machine, "process": process}
    leave(local, **facts)
    assert seconds_to_take_over(local) < AT_ONCE
    os.waitpid(process, 0)


def test_another_process_of_the_same_number_is_not_the_holder(local: Store) -> None:
    leave(local, machine=Holder.this_process().machine, process_start="12345")
    assert seconds_to_take_over(local) < AT_ONCE


def test_a_stopped_process_is_followed_when_its_lease_is_over(store: Store, short: float) -> None:
    with holding_process(store) as child:
        child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        assert short <= seconds_to_take_over(store) < AT_ONCE


def test_on_another_machine_a_holder_is_watched_for_its_own_lease_time(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    gone = leave(store, seconds=1.0)
    with caplog.at_level(logging.INFO, "codex_forge"):
        assert 1 <= seconds_to_take_over(store) < AT_ONCE
    assert caplog.messages == [
        f"  held by {gone}; watching whether it is alive",
        f"  taking over from {gone}",
    ]


def test_clocks_that_differ_do_not_matter(local: Store) -> None:
    ahead = datetime.now(UTC) + timedelta(days=1)
    behind = datetime.now(UTC) - timedelta(seconds=5)
    for clock in (ahead, behind):
        leave(local, seconds=0.5, renewed=clock.isoformat())
        assert 0.5 <= seconds_to_take_over(local) < AT_ONCE
        local.delete(lease_path(SLOT, 2))


def test_clocks_are_not_compared_before_a_takeover(local: Store) -> None:
    """The holder's clock may be slow; only what may be tidied away is judged by it."""
    hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    holder = leave(local, seconds=0.5, renewed=hour_ago)
    assert holder.is_long_over
    assert 0.5 <= seconds_to_take_over(local) < AT_ONCE


def test_a_holder_on_another_machine_that_renews_is_alive(store: Store) -> None:
    holder = leave(store, seconds=2.0)
    over = threading.Event()

    def renew() -> None:
        renewals = 0
        while not over.wait(0.3):
            renewals += 1
            store.write(lease_path(SLOT, 1), encode(replace(holder, renewals=renewals)))

    renewing = threading.Thread(target=renew)
    renewing.start()
    try:
        with pytest.raises(TryAgain, match="is being made by process"):
            acquire(store, SLOT, SLOT)
    finally:
        over.set()
        renewing.join()


@pytest.mark.parametrize(
    "env, supersedes",
    [
        ({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}, True),
        ({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "3"}, True),
        ({"SLURM_JOB_ID": "7"}, False),
        ({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "0"}, False),
        ({"SLURM_JOB_ID": "8", "SLURM_RESTART_COUNT": "1"}, False),
        ({"SLURM_RESTART_COUNT": "1"}, False),
        (
            {
                "SLURM_JOB_ID": "7",
                "SLURM_ARRAY_JOB_ID": "7",
                "SLURM_ARRAY_TASK_ID": "1",
                "SLURM_RESTART_COUNT": "1",
            },
            False,
        ),
    ],
)
def test_a_job_that_slurm_restarted_supersedes_its_earlier_run_and_no_other(
    local: Store, monkeypatch: pytest.MonkeyPatch, env: dict[str, str], supersedes: bool
) -> None:
    leave(local, job="Slurm job 7", restarts=0, seconds=2.0)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert (seconds_to_take_over(local) < 1.8) == supersedes


def test_an_array_task_is_named_with_its_index(
    local: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with held(local):
        assert ", Slurm job 7_2, since " in str(holder_of(local))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"{}", b"\xff", b'{"owner": 1}'])
def test_a_lease_that_cannot_be_read_is_watched_too(
    store: Store, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    monkeypatch.setattr(lease_module, "_SECONDS", 0.5)
    store.write(lease_path(SLOT, 1), data)
    assert 0.5 <= seconds_to_take_over(store) < AT_ONCE


def test_any_flipped_bit_of_a_lease_is_read_or_refused() -> None:
    me = Holder.this_process()
    whole = encode(replace(me, machine="another/machine", job="Slurm job 7"))
    refused = 0
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        holder = Holder.parse(bytes(flipped))
        if holder is None:
            refused += 1
        else:
            assert isinstance(holder.is_gone(me), bool)
            assert f"{holder}"
            assert holder.seconds >= 0
    assert 0 < refused < 8 * len(whole)


def test_a_token_is_never_used_again_while_its_version_is_there(store: Store) -> None:
    store.write(f"{SLOT}/v7/a.txt", b"1")
    store.write(f"{SLOT}/v8-0123abcd/a.txt", b"1")
    store.write(f"{SLOT}/shard-00000-of-00002/v30/a.txt", b"1")
    with held(store) as lease:
        assert lease.token == 9


def test_a_storage_that_does_not_answer_is_not_taken_for_a_free_slot(
    s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held(Store(bucket)) as lease, fault_proxy(s3.endpoint_url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        S3FileSystem.clear_instance_cache()
        proxy.inject(Fault("status"), method="GET", path=r"/leases/000001\.json")
        with pytest.raises(TryAgain, match="storage failed"):
            acquire(Store(bucket, patience=0.2), SLOT, SLOT)
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint_url)
        S3FileSystem.clear_instance_cache()
        lease.check()
        assert lease_tokens(Store(bucket), SLOT, SLOT) == [1]


def test_a_signal_ends_the_watching(local: Store) -> None:
    leave(local)
    program = f"""
import logging, sys
from codex_forge.artifact.lease import acquire
from codex_forge.job import guarded
from codex_forge.storage import Store
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
sys.exit(guarded(lambda: acquire(Store({local.root!r}), {SLOT!r}, {SLOT!r})))
"""
    with _process(program) as child:
        assert child.stdout is not None
        assert "watching whether it is alive" in child.stdout.readline()
        child.send_signal(signal.SIGTERM)
        assert child.wait(5) == EXIT_TRY_AGAIN
    assert lease_tokens(local, SLOT, SLOT) == [1]


# --- a store that promises nothing -----------------------------------------------------------


class _Careless(Store):
    """A store that ignores the condition of a conditional write."""

    def _put_new(self, url: str, data: bytes) -> bool:
        self._fs.pipe_file(url, data)
        return True


def test_without_conditional_writes_one_of_those_who_start_together_wins(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LEASE_VARIABLE, "4")
    monkeypatch.setattr(store_module, "_SETTLE_SECONDS", 1.0)
    for token in (1, 2):
        told = _contend(bucket, "threads", _Careless)
        assert [text for text in told if text.isdigit()] == [str(token)], told
        assert sum("is being made by process" in text for text in told) == CONTENDERS - 1, told


def test_without_conditional_writes_nobody_replaces_a_lease_that_is_there(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_SETTLE_SECONDS", 0.1)
    assert _Careless(bucket).create("a", b"mine")
    late = _Careless(bucket)
    for _ in range(2):
        assert not late.create("a", b"other")
    assert late.read("a") == b"mine"
    assert late.create("b", b"other")  # now it knows that conditions are ignored
    assert not late.create("a", b"other")
    assert late.read("a") == b"mine"


@pytest.mark.parametrize("status, code", [(501, "NotImplemented"), (400, "InvalidArgument")])
def test_a_store_that_refuses_conditional_writes_is_used_without_them(
    s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch, status: int, code: str
) -> None:
    monkeypatch.setattr(store_module, "_SETTLE_SECONDS", 0.1)
    with fault_proxy(s3.endpoint_url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        S3FileSystem.clear_instance_cache()
        store = Store(bucket, patience=0.2)
        proxy.inject(Fault("status", status=status, code=code), method="PUT", times=1)
        with held(store) as lease:
            assert lease.token == 1
            lease.check()
            assert holder_of(store).process == os.getpid()
        S3FileSystem.clear_instance_cache()


def test_two_with_the_same_token_still_write_apart(bucket: str) -> None:
    """What a store without conditions may let happen: the later of two takes the lease object."""
    store = Store(bucket)
    with held(store) as first:
        twin = replace(holder_of(store), owner="01234567", process=1)
        store.write(first.path, encode(twin))
        with pytest.raises(TryAgain, match="another process has taken over: process 1 on"):
            first.check()
        second = Lease(store, SLOT, SLOT, first.token, twin)
        assert second.version == "v1-01234567" != first.version
        second.check()
        second.release(0)


# --- a holder that comes back ----------------------------------------------------------------

OLD = Recipe("train", "small", {"seed": 1}, {"corpus": Input("file", "c", "f" * 64, "d" * 64)})
Moment = Literal["before the upload", "before the manifest", "after the manifest"]
MOMENTS: tuple[Moment, ...] = ("before the upload", "before the manifest", "after the manifest")


def test_a_holder_that_was_overtaken_is_told_by_whom(store: Store) -> None:
    with held(store) as first:
        store.write(lease_path(SLOT, 2), encode(replace(holder_of(store), process=42)))
        with pytest.raises(TryAgain) as lost:
            first.check()
        assert lost.value.exit_code == EXIT_TRY_AGAIN
        assert f"{store.root}/{SLOT}: another process has taken over: process 42 on" in str(
            lost.value
        )
        assert str(lost.value).endswith("the next run finds what that one made")
        store.write(lease_path(SLOT, 2), b"{")
        with pytest.raises(TryAgain, match="has taken over: unknown"):
            first.check()


def test_renewals_of_a_holder_that_was_overtaken_disturb_nobody(store: Store, short: float) -> None:
    with held(store) as first:
        store.create(lease_path(SLOT, 2), b"{")
        second = Lease(store, SLOT, SLOT, 2, replace(Holder.this_process(), process=42))
        store.delete(first.path)
        time.sleep(short)
        second.check()
        with pytest.raises(TryAgain, match="process 42"):
            first.check()
        second.release(0)
        assert holder_of(store, 2).process == 42


@contextmanager
def stopped_in_commit(
    store: Store, cache: Path, recipe: Recipe, moment: Moment
) -> Iterator[subprocess.Popen[str]]:
    """A process that makes the artifact and stops, as if its machine hung, in mid-commit."""
    program = f"""
import os, signal, sys
from pathlib import Path
from codex_forge.artifact import Input, Recipe, begin
from codex_forge.job import guarded
from codex_forge.storage import Store

moment, stopped = {moment!r}, False

def hang(here):
    global stopped
    if here == moment and not stopped:
        stopped = True
        os.kill(os.getpid(), signal.SIGSTOP)

def put(self, local, path, real=Store.put):
    if path.endswith("/b"):
        hang("before the upload")
    real(self, local, path)

def write(self, path, data, real=Store.write):
    if path.endswith("/manifest.json"):
        hang("before the manifest")
    real(self, path, data)
    if path.endswith("/manifest.json"):
        hang("after the manifest")

Store.put, Store.write = put, write

def work():
    corpus = {recipe.inputs["corpus"]!r}
    wanted = Recipe("train", "small", {recipe.settings!r}, {{"corpus": corpus}})
    draft = begin(Store({store.root!r}), wanted, Path({str(cache)!r}), force=True)
    for name in "abc":
        draft.path(name).write_text("first")
    draft.commit({{}})

sys.exit(guarded(work))
"""
    with _process(program) as child:
        state = os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert state is not None
        assert state.si_status == signal.SIGSTOP, child.communicate()
        yield child


def ended(child: subprocess.Popen[str]) -> tuple[int, str]:
    """Let a stopped process go on: how it ends, and what it says."""
    child.send_signal(signal.SIGCONT)
    _, said = child.communicate(timeout=30)
    return child.returncode, said


def started(store: Store, recipe: Recipe, cache: Path) -> Draft:
    draft = begin(store, recipe, cache, force=True)
    assert isinstance(draft, Draft)
    for name in "ab":
        draft.path(name).write_text("second")
    return draft


def found(store: Store, cache: Path) -> Mapping[str, str]:
    artifact = open_artifact(store, "train", "small", cache)
    return {name: artifact.path(name).read_text() for name in artifact.files}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_process_that_comes_back_in_mid_commit_replaces_nothing(
    store: Store, cache: Path, monkeypatch: pytest.MonkeyPatch, moment: Moment, seed: int
) -> None:
    """Of the same recipe, and of another: both have replaced the same one by force."""
    monkeypatch.setenv(LEASE_VARIABLE, "0.5")
    monkeypatch.setenv(PATIENCE_VARIABLE, "0.5")
    recipe = replace(OLD, settings={"seed": seed})
    third = started(store, replace(OLD, settings={"seed": 1}), cache)
    third.commit({})
    third.lease.release(0)
    with stopped_in_commit(store, cache, OLD, moment) as first:
        second = started(store, recipe, cache)
        assert second.lease.token == 3
        made = second.commit({})
        assert found(store, cache) == {"a": "second", "b": "second"}
        code, said = ended(first)
    assert code == EXIT_TRY_AGAIN, said
    if moment != "before the upload":  # there it may miss its files first
        assert f"another process has taken over: process {os.getpid()} on" in said
    assert found(store, cache) == {"a": "second", "b": "second"}
    assert open_artifact(store, "train", "small", cache).manifest == made
    second.lease.check()
    second.lease.release(0)
    assert isinstance(begin(store, recipe, cache, force=False), Artifact)
    last = started(store, recipe, cache)
    made = last.commit({})
    last.lease.release(0)
    left = [path for path in store.list(SLOT) if not path.startswith(f"{SLOT}/leases/")]
    assert left == [f"{SLOT}/{made.version}/{name}" for name in ("a", "b", "manifest.json")]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_process_that_comes_back_leaves_the_work_of_its_successor_alone(
    store: Store, cache: Path, monkeypatch: pytest.MonkeyPatch, moment: Moment
) -> None:
    monkeypatch.setenv(LEASE_VARIABLE, "0.5")
    monkeypatch.setenv(PATIENCE_VARIABLE, "0.5")
    with stopped_in_commit(store, cache, OLD, moment) as first:
        second = started(store, replace(OLD, settings={"seed": 2}), cache)
        part = cache / "part.bin"
        part.write_text("block")
        blocks = second.work.blocks("part")
        entry = blocks.entry(0, part)
        blocks.put(Block(entry, part))
        (cache / "checkpoint").mkdir()
        (cache / "checkpoint" / "state").write_text("step 10")
        second.work.checkpoints(2).save(10, cache / "checkpoint")
        work = {
            path for path in store.list(SLOT) if ("/blocks/" in path or "/checkpoints/" in path)
        }
        assert len(work) == 3
        code, said = ended(first)
    assert code == EXIT_TRY_AGAIN, said
    assert {
        path for path in store.list(SLOT) if ("/blocks/" in path or "/checkpoints/" in path)
    } == work
    second.keep("part", entry)
    second.commit({})
    second.lease.release(0)
    assert found(store, cache) == {"a": "second", "b": "second", "part": "block"}


def test_what_a_lease_object_says_is_json_for_people(local: Store) -> None:
    with held(local):
        told = json.loads(local.read(lease_path(SLOT, 1)))
    assert {"host", "process", "job", "since", "renewed", "ended", "exit_code", "said"} < set(told)
