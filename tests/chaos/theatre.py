"""One artifact made through a proxy that makes trouble, and what must come of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.chaos.checks import Broken, left_over, work_of
from tests.chaos.places import Place, Root
from tests.chaos.processes import Process
from tests.chaos.world import World
from tests.servers.fault_proxy import Fault, FaultProxy, fault_proxy

WEATHER = (
    Fault("status", status=503, code="SlowDown"),
    Fault("status", status=500, code="InternalError"),
    Fault("reset_before"),
    Fault("reset_mid"),
    Fault("reset_after"),
    Fault("truncate"),
    Fault("delay", seconds=0.3),
)
EXIT_SECONDS = 300.0
_POLL_SECONDS = 0.05


@dataclass
class Case:
    """One artifact made on a store in trouble."""

    name: str
    mode: str
    expected: tuple[int, ...]
    """Exit codes of the first run that are right."""
    exit_code: int | None = None
    seconds: float = 0.0
    after_trouble: float | None = None
    """Seconds from the trouble to the exit."""
    struck: int = 0
    """Requests that were disturbed."""
    requests: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    """How they were disturbed."""
    failure: str = ""


Trouble = Callable[[FaultProxy], None]
"""Makes trouble; ended by `proxy.clear()`."""


class Theatre:
    """Plays cases on a world that is prepared in one S3 place."""

    def __init__(self, world: World, place: Place, patience: float) -> None:
        """`patience` is for how many seconds the jobs try again."""
        if place.server is None:
            raise ValueError("only a server can be in trouble")
        self._world, self._place, self._server = world, place, place.server
        self.patience = patience
        self._env = {"CODEX_FORGE_STORE_PATIENCE": str(patience)}

    def weather(self, case: Case, seed: int, rate: float) -> Case:
        """Disturb each request with a probability, from the start."""
        return self._play(case, lambda proxy: proxy.weather(seed, rate, WEATHER), at_once=True)

    def trouble(self, case: Case, trouble: Trouble, seconds: float | None = None) -> Case:
        """Begin in the middle of the work, end after some seconds (or with the job)."""
        return self._play(case, trouble, seconds=seconds)

    def wrong_from_the_start(self, case: Case) -> Case:
        """A secret key that is not the server's."""
        wrong = {"AWS_SECRET_ACCESS_KEY": "wrong-but-secret-all-the-same"}
        return self._play(case, lambda _: None, at_once=True, env=wrong)

    def _play(
        self,
        case: Case,
        trouble: Trouble,
        *,
        at_once: bool = False,
        seconds: float | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Case:
        with fault_proxy(self._server.endpoint_url) as proxy:
            root = self._world.before(case.mode, self._place, {"AWS_ENDPOINT_URL": proxy.url})
            try:
                began = time.monotonic()
                if at_once:
                    trouble(proxy)
                job = self._world.start(case.mode, root, env={**self._env, **(env or {})})
                try:
                    if not at_once:
                        self._wait_for_the_middle(job, case, root)
                        struck_at = time.monotonic()
                        trouble(proxy)
                        if seconds is not None and not job.is_over_in(seconds):
                            proxy.clear()
                    case.exit_code = job.result(EXIT_SECONDS)
                    if not at_once:
                        case.after_trouble = round(time.monotonic() - struck_at, 1)
                    case.seconds = round(time.monotonic() - began, 1)
                    self._count(case, proxy)
                    self._check(case, job, root)
                finally:
                    self._world.processes.end(job)
                proxy.clear()
                if case.exit_code != 0:
                    self._again(case, root)
                self._check_the_end(case, root)
            except Broken as broken:
                case.failure = f"{case.name} {case.mode}: {broken}"
            finally:
                proxy.clear()
                self._world.free(self._place, root)
        print(
            f"{case.name:<24} {case.mode:<9} {'FAILED' if case.failure else 'ok':<6} "
            f"{case.exit_code} after {case.seconds} s, {case.struck} of {case.requests} requests",
            flush=True,
        )
        if case.failure:
            print(case.failure, flush=True)
        return case

    def _wait_for_the_middle(self, job: Process, case: Case, root: Root) -> None:
        """A training has taken three steps, an embedding has committed a block."""
        folder = self._world.path(case.mode)
        while not job.is_over_in(_POLL_SECONDS):
            if case.mode == "train" and "  step 3 of" in job.said:
                return
            if case.mode == "embed" and work_of(root.store, folder).blocks:
                return
        raise Broken(f"it ended before the trouble began:\n{job.said}")

    def _check(self, case: Case, job: Process, root: Root) -> None:
        """The exit code is one that was expected, with one line that says why."""
        said, code = job.said[-3000:], case.exit_code
        if code not in case.expected:
            raise Broken(f"exit code {code} instead of {case.expected}:\n{said}")
        if "Traceback" in said:
            raise Broken(f"a traceback:\n{said}")
        last = said.splitlines()[-1] if said else ""
        if code != 0 and not last.startswith("error: "):
            raise Broken(f"its last line is no error:\n{said}")
        if code == 2 and root.url not in last:
            raise Broken(f"its message does not name the URL:\n{said}")
        secrets = (self._server.secret_key, "wrong-but-secret-all-the-same")
        if any(secret in said for secret in secrets):
            raise Broken("it tells the secret key")
        digest = self._digest(case.mode, root)
        if digest != self._world.digests[case.mode] and (digest or code == 0):
            raise Broken(f"exit code {code} and the digest {digest[:12] or 'of nothing'}:\n{said}")

    def _again(self, case: Case, root: Root) -> None:
        job = self._world.start(case.mode, root)
        try:
            if (code := job.result(EXIT_SECONDS)) != 0:
                raise Broken(f"when all is well again it ends with {code}:\n{job.said}")
        finally:
            self._world.processes.end(job)

    def _check_the_end(self, case: Case, root: Root) -> None:
        if self._digest(case.mode, root) != self._world.digests[case.mode]:
            raise Broken("the digest is not the undisturbed run's")
        if left := left_over(root.store, self._world.path(case.mode)):
            raise Broken(f"the finished artifact's folder still holds {left}")

    def _digest(self, mode: str, root: Root) -> str:
        return self._world.visible(mode, root)

    def _count(self, case: Case, proxy: FaultProxy) -> None:
        outcomes = Counter(exchange.outcome for exchange in list(proxy.log))
        case.requests = sum(outcomes.values())
        passed = [outcome for outcome in outcomes if outcome.isdigit()]
        case.struck = case.requests - sum(outcomes[each] for each in passed)
        case.outcomes = {k: n for k, n in outcomes.items() if k not in passed}
