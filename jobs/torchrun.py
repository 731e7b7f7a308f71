"""torchrun that ends with the exit code of its ranks.

    python -m jobs.torchrun --nproc-per-node 2 -m jobs.train configs/quickstart.yaml

All arguments are torchrun's own (`--help`). Torchrun itself ends with 1 whatever its ranks end
with; this ends with the failed rank's exit code, and with 75 when it was stopped by a signal
or the other nodes did not come.
SIGTERM and SIGUSR1 reach all ranks, which finish their step together; they have
TORCH_ELASTIC_SHUTDOWN_TIMEOUT seconds (240 unless set) before they are killed.
"""

import os
import signal
import sys

from codex_forge.errors import EXIT_BUG, EXIT_DONE, EXIT_TRY_AGAIN
from codex_forge.launching import SHUTDOWN_SECONDS

_SIGNALS = "SIGTERM,SIGINT,SIGUSR1"


def main(arguments: list[str]) -> int:
    """Run torchrun; returns the exit code."""
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(SHUTDOWN_SECONDS))
    os.environ.setdefault("TORCHELASTIC_SIGNALS_TO_HANDLE", _SIGNALS)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // 2)))
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError

    try:
        run.main([*_option(), *arguments])
    except SignalException as stopped:
        print(f"error: torchrun was stopped ({stopped}); run again to continue", file=sys.stderr)
        return 128 + signal.SIGINT if stopped.sigval == signal.SIGINT else EXIT_TRY_AGAIN
    except ChildFailedError as failed:
        code = worst_of({failure.exitcode for failure in failed.failures.values()})
        print(f"error: a rank ended with exit code {code}", file=sys.stderr)
        return code
    except RendezvousError as error:
        said = error if str(error) else type(error).__name__  # a time-out says nothing
        print(f"error: the other nodes did not come ({said}); run again", file=sys.stderr)
        return EXIT_TRY_AGAIN
    return EXIT_DONE


def _option() -> list[str]:
    """What tells torchrun its signals: newer ones take an option, and overwrite the variable."""
    from torch.distributed.launcher.api import LaunchConfig

    known = "signals_to_handle" in LaunchConfig.__dataclass_fields__
    return [f"--signals-to-handle={os.environ['TORCHELASTIC_SIGNALS_TO_HANDLE']}"] * known


def worst_of(codes: set[int]) -> int:
    """The exit code of a run whose ranks ended with these (below 0: with a signal).

    A rank that lost its peer asks to be started again; the peer's own reason comes first. One that
    was killed may be started again; one that crashed would crash again.
    """
    killed = {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGUSR1}
    found = {EXIT_TRY_AGAIN if code in killed else code for code in codes}
    reasons = sorted(code for code in found if code > 0 and code != EXIT_TRY_AGAIN)
    if any(code < 0 for code in found):
        return EXIT_BUG
    return reasons[0] if reasons else EXIT_TRY_AGAIN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
