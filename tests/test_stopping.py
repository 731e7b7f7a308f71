"""The wish to stop: one exception, where it can do no harm, and never lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from codex_forge.errors import EXIT_TRY_AGAIN, ConfigError, StorageDown
from codex_forge.job import guarded
from codex_forge.stopping import stop
from codex_forge.storage.faults import patiently
from tests.conftest import ROOT, Corpus

PREAMBLE = """
import gc, os, signal, sys, threading, time
from codex_forge.errors import Preempted
from codex_forge.stopping import stop

def kill(number=signal.SIGTERM):
    os.kill(os.getpid(), number)

"""


def ran(program: str) -> list[str]:
    """What a program of its own says: signals and their handlers are the whole process's."""
    done = subprocess.run(
        [sys.executable, "-c", PREAMBLE + program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize("number", ["SIGTERM", "SIGUSR1"])
def test_a_signal_is_raised_where_the_main_thread_is(number: str) -> None:
    program = f"""
stop.listen()
print(stop.requested, stop.seconds_ago)
stop.check()
stop.demand()
try:
    threading.Timer(0.1, kill, [signal.{number}]).start()
    time.sleep(10)
except Preempted as stopped:
    print(stopped, stop.name, stop.requested, 0 < stop.seconds_ago < 1)
"""
    assert ran(program) == ["False 0.0", f"stopped by {number} {number} True True"]


def test_no_handler_of_ordinary_errors_holds_it_up() -> None:
    program = """
stop.listen()
try:
    try:
        kill()
        time.sleep(10)
    except Exception:
        print("taken for an error")
except Preempted:
    print("stopped")
"""
    assert ran(program) == ["stopped"]


def test_a_signal_that_a_finalizer_swallows_is_raised_again() -> None:
    program = """
class Closing:
    def __del__(self):
        kill()
        time.sleep(0.01)
        print("never reached")

stop.listen()
started = time.monotonic()
try:
    closing = Closing()
    del closing
    print("swallowed")
    time.sleep(10)
except Preempted as stopped:
    print(stopped, time.monotonic() - started < 1)
"""
    assert ran(program) == ["swallowed", "stopped by SIGTERM True"]


@pytest.mark.parametrize(
    "thing",
    [
        "thing = Closing()",
        "thing = Closing(); thing.itself = thing",
        "thing = Plain(); watcher = weakref.ref(thing, lambda _: work())",
    ],
    ids=["finalizer", "garbage", "weakref"],
)
def test_a_signal_that_many_finalizers_swallow_is_raised_in_the_end(thing: str) -> None:
    """As when a library closes thousands of things, and each attempt may fall into the next."""
    program = f"""
import weakref

def work():
    over = time.monotonic() + 0.005
    while time.monotonic() < over:
        pass

class Plain:
    pass

class Closing:
    def __del__(self):
        work()

stop.listen()
threading.Timer(0.1, kill).start()
try:
    while not stop.seconds_ago > 5:
        {thing}
        del thing
        gc.collect(0)
        time.sleep(0.002)
    print("lost")
except Preempted as stopped:
    print(stopped)
"""
    assert ran(program) == ["stopped by SIGTERM"]


def test_other_errors_of_finalizers_are_told_as_ever() -> None:
    program = """
class Failing:
    def __del__(self):
        raise ZeroDivisionError("a bug")

sys.unraisablehook = lambda unraisable: print("told", unraisable.exc_value)
stop.listen()
stop.listen()
failing = Failing()
del failing
time.sleep(0.1)
stop.check()
"""
    assert ran(program) == ["told a bug"]


def test_what_is_held_is_not_torn() -> None:
    program = """
stop.listen()
try:
    with stop.held():
        with stop.held():
            kill()
            time.sleep(0.05)
        stop.check()
        print("whole", stop.requested)
    print("held no longer")
    stop.check()
except Preempted:
    print("stopped")
"""
    assert ran(program) == ["whole True", "held no longer", "stopped"]


def test_an_error_ends_the_holding() -> None:
    program = """
stop.listen()
try:
    with stop.held():
        raise ZeroDivisionError
except ZeroDivisionError:
    pass
try:
    kill()
    time.sleep(10)
except Preempted:
    print("stopped")
"""
    assert ran(program) == ["stopped"]


def test_a_demand_is_met_even_where_it_is_held() -> None:
    program = """
stop.listen()
try:
    with stop.held():
        stop.demand()
        kill()
        time.sleep(0.05)
        print("a safe place")
        stop.demand()
except Preempted as stopped:
    print(stopped)
"""
    assert ran(program) == ["a safe place", "stopped by SIGTERM"]


def test_what_a_finalizer_swallowed_while_it_was_held_is_known_afterwards() -> None:
    program = """
class Closing:
    def __del__(self):
        kill()
        time.sleep(0.01)

stop.listen()
try:
    with stop.held():
        closing = Closing()
        del closing
        time.sleep(0.1)
    print(stop.requested)
    stop.check()
except Preempted as stopped:
    print(stopped)
"""
    assert ran(program) == ["True", "stopped by SIGTERM"]


def test_a_second_signal_does_no_harm() -> None:
    """Schedulers send several: the first is answered, and what it sets off is left in peace."""
    program = """
stop.listen()
try:
    kill()
    time.sleep(10)
except Preempted as stopped:
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM):
        kill(number)
        time.sleep(0.02)
    print(stopped, stop.name)
    stop.done()
    kill()
    kill(signal.SIGUSR1)
    stop.check()
    print("done")
"""
    assert ran(program) == ["stopped by SIGTERM SIGTERM", "done"]


def test_once_it_is_done_a_swallowed_one_is_not_raised_again() -> None:
    program = """
class Closing:
    def __del__(self):
        kill()
        time.sleep(0.005)

stop.listen()
closing = Closing()
del closing
stop.done()
time.sleep(0.1)
print("done")
"""
    assert ran(program) == ["done"]


def test_to_listen_again_starts_from_a_clean_slate() -> None:
    program = """
for number in (signal.SIGTERM, signal.SIGUSR1):
    stop.listen()
    print(stop.requested)
    try:
        kill(number)
        time.sleep(10)
    except Preempted as stopped:
        stop.done()
        print(stopped)
"""
    assert ran(program) == ["False", "stopped by SIGTERM", "False", "stopped by SIGUSR1"]


def test_after_a_signal_a_storage_that_does_not_answer_is_soon_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The scheduler kills what does not end within its grace period."""
    attempts = 0

    def fail() -> None:
        nonlocal attempts
        attempts += 1
        raise StorageDown("does not answer")

    monkeypatch.setattr(stop, "_at", time.monotonic() - 60)
    started = time.monotonic()
    with pytest.raises(StorageDown):
        patiently(fail, "here", patience=60)
    assert time.monotonic() - started < 1
    assert attempts == 1


# --- jobs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_job_that_is_stopped_as_it_starts_may_be_started_again(
    corpus: Corpus, number: signal.Signals
) -> None:
    """While Python itself starts, the signal ends it; from the job's first line on it is 75."""
    config = str(corpus.write())
    codes = []
    for delay in (i / 40 for i in range(21)):
        child = subprocess.Popen(
            [sys.executable, "-m", "jobs.pairs", config],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(delay)
        child.send_signal(number)
        _, said = child.communicate(timeout=30)
        if child.returncode == 0:
            break  # a fast machine: it was done before the signal came
        codes.append(child.returncode)
        assert child.returncode in (EXIT_TRY_AGAIN, -number), (delay, said)
        assert "Traceback" not in said, (delay, said)
        if child.returncode == EXIT_TRY_AGAIN:
            assert f"stopped by {number.name}; run again" in said
    assert EXIT_TRY_AGAIN in codes
    assert codes == sorted(codes), "once it listens it goes on listening"


def test_a_stop_that_python_takes_for_an_error_of_a_class_is_a_stop(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Until 3.12 it wraps what leaves `__set_name__` (a module is being imported) in its own."""

    class Named:
        def __set_name__(self, owner: type, name: str) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)

    def work() -> None:
        try:
            type("Columns", (), {"known": Named()})
        except Exception as error:
            raise ImportError("a library could not be imported") from error

    assert guarded(work) == EXIT_TRY_AGAIN
    assert capsys.readouterr().err == "error: stopped by SIGTERM; run again to continue\n"


def test_an_error_met_while_stopping_is_not_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        finally:
            raise ConfigError("run.yaml: no such key")

    assert guarded(work) == ConfigError.exit_code
    assert "run.yaml: no such key" in capsys.readouterr().err


def test_an_import_into_another_program_leaves_its_signals_alone() -> None:
    program = """
import jobs, jobs.pairs
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
print(signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL)
"""
    assert ran(program) == ["True", "True"]
