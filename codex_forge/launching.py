"""What launchers and jobs agree on: the steps, their resources, signals, exit codes, variables.

`k8s/`, `slurm/`, the Makefile and docs/launching.md say the same in their own languages; tests hold
them to this table.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from codex_forge.errors import (
    EXIT_BUG,
    EXIT_CHANGE_SOMETHING,
    EXIT_DONE,
    EXIT_GATE_NOT_MET,
    EXIT_TRY_AGAIN,
)

TREATMENT: dict[int, str] = {
    EXIT_DONE: "done",
    EXIT_BUG: "counted",
    EXIT_CHANGE_SOMETHING: "never",
    EXIT_GATE_NOT_MET: "never",
    EXIT_TRY_AGAIN: "again",
}
"""What a launcher does after an exit code: `done`; `never` again; start it `again`, which counts as
no failure; `counted`: Kubernetes tries again a few times, Slurm does not."""

SHUTDOWN_SECONDS = 240
"""Given by torchrun to its ranks, from the signal to SIGKILL."""
GRACE_SECONDS = 300
"""Given by a launcher to a job, from the signal to SIGKILL: above torchrun's."""

INDEX_VARIABLES = ("JOB_COMPLETION_INDEX", "SLURM_ARRAY_TASK_ID")
"""Which of a job's shards or trials this process is, as Kubernetes and Slurm say it."""
OFFSET_VARIABLE = "CODEX_FORGE_INDEX_OFFSET"
"""Added to that index: an array longer than a site allows is cut into several."""


class Resources(NamedTuple):
    """What one process of a mode is given where nobody says otherwise."""

    cpus: int
    memory_gib: int
    gpus: int
    hours: int


RESOURCES: dict[str, Resources] = {
    "pairs": Resources(2, 8, 0, 12),
    "audit": Resources(2, 4, 0, 2),
    "train": Resources(8, 32, 1, 24),
    "embed": Resources(4, 16, 1, 12),
    "evaluate": Resources(4, 16, 0, 4),
    "compare": Resources(2, 4, 0, 2),
    "sweep": Resources(8, 32, 1, 24),
}
"""By mode. GPUs only where a launcher is told that there are any."""

SHARED_MEMORY_GIB = 2
"""Of a container: data loaders and ranks exchange batches through it."""


@dataclass(frozen=True)
class Step:
    """One job of the whole chain."""

    name: str
    mode: str
    overrides: tuple[str, ...] = ()
    after: tuple[str, ...] = field(default=())
    """Steps that must have ended with 0."""


CHAIN: tuple[Step, ...] = (
    Step("pairs", "pairs"),
    Step("audit", "audit", (), ("pairs",)),
    Step("embed-base", "embed", ("embed.model=base",), ("pairs",)),
    Step("evaluate-base", "evaluate", ("embed.model=base",), ("embed-base",)),
    Step("evaluate-bm25", "evaluate", ("evaluate.retriever=bm25",), ("pairs",)),
    Step("train", "train", (), ("audit",)),
    Step("embed", "embed", (), ("train",)),
    Step("evaluate", "evaluate", (), ("embed",)),
    Step("evaluate-hybrid", "evaluate", ("evaluate.retriever=hybrid",), ("embed",)),
    Step(
        "compare",
        "compare",
        (),
        ("evaluate-base", "evaluate-bm25", "evaluate", "evaluate-hybrid"),
    ),
)
"""The whole pipeline, in an order in which one process may run it."""

VARIABLES: dict[str, str] = {
    "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN": "credentials of the store; or a "
    "profile, or a workload identity",
    "AWS_ENDPOINT_URL": "the S3 server, when it is not Amazon's",
    "CODEX_FORGE_CACHE": "a folder that outlives a job: what frozen layers and teachers gave, and "
    "models copied from a store",
    "CODEX_FORGE_STORE, CODEX_FORGE_CHROMA": "store and ChromaDB folder of the shipped configs (in "
    "the image /data and /tmp/chroma)",
    "CODEX_FORGE_CHROMA_TOKEN": "bearer token of the ChromaDB server",
    OFFSET_VARIABLE: "added to the index of a shard or trial (0)",
    "CODEX_FORGE_GENERATOR_PATIENCE": "seconds that a generator may not answer",
    "CODEX_FORGE_LEASE_SECONDS": "after so many seconds without renewal a lease may be taken (60)",
    "CODEX_FORGE_SERVED_PATIENCE": "seconds that a server of embeddings may not answer",
    "CODEX_FORGE_STORE_PATIENCE": "seconds that a store may not answer (60)",
    "HF_HUB_OFFLINE": "1: no model hub is asked",
    "JOB_COMPLETION_INDEX": "index of the shard or trial, set by Kubernetes",
    "OMP_NUM_THREADS": "threads of one process",
    "SLURM_ARRAY_TASK_ID": "index of the shard or trial, set by Slurm",
    "TMPDIR": "scratch space",
    "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "seconds from the signal to SIGKILL of a rank "
    f"({SHUTDOWN_SECONDS})",
}
"""Environment variables that jobs read, beside those that Slurm and torchrun set for themselves."""
