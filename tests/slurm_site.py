"""A real Slurm of the tests' own: a controller and nodes, each a small machine within this one.

The promise: inside `with slurm_site(folder) as site` the commands of Slurm answer; after the block,
however it ends, no process, network or namespace of it is left. Each machine has its own network,
host name and process numbers, so a node can be cut off while its processes go on, as they do in
life. The nodes' cores and memory are as many as the jobs ask for: they say so, and have them not.

Needs root and Debian's `slurm-wlm munge iproute2 util-linux`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "munged", "ip", "unshare", "nsenter")
START_SECONDS = 30.0
HEAD = "10.77.0.1"
_WITH_US = ("setpriv", "--pdeathsig", "KILL")
_PAUSE = "import signal as s; s.signal(s.SIGCHLD, s.SIG_IGN); print(1, flush=True); s.pause()"
_REST = (sys.executable, "-c", _PAUSE)
"""The first process of a machine: buries its dead, and does nothing else."""
_CONF = """\
ClusterName=tests
SlurmctldHost=ctl({head})
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
SlurmctldPort=16817
SlurmdPort=16818
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,bf_interval=1,sched_interval=1,sched_min_interval=0,requeue_delay=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
TreeWidth=1
MinJobAge=3600
InactiveLimit=0
PropagateResourceLimits=NONE
SlurmdParameters=config_overrides
GresTypes=gpu
{options}
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP {partition}
"""
_OPTIONS = {"KillWait": "30", "SlurmdTimeout": "10", "MaxArraySize": "1001"}


def missing() -> str:
    """Why this machine cannot have a Slurm; empty when it can."""
    if os.geteuid() != 0:
        return "a Slurm of the tests' own needs root"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


@dataclass
class Machine:
    """A network, a host name and process numbers of its own; ends with everything in it."""

    name: str
    process: subprocess.Popen[bytes]
    number: int = 0
    """Of its first process, as seen from outside."""

    @classmethod
    def start(cls, name: str, hosts: Path) -> Machine:
        """A machine without a network cable."""
        inside = f"hostname {name}; mount --bind '{hosts}' /etc/hosts; exec \"$@\""
        spaces = ("--net", "--uts", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child")
        process = subprocess.Popen(
            [*_WITH_US, "unshare", *spaces, "bash", "-c", inside, "_", *_REST],
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        return cls(name, process, int(children.split()[0]))

    def inside(self, *command: str | Path, cwd: str | Path = "/") -> list[str]:
        """A command line that runs in this machine."""
        enter = ("nsenter", "--target", str(self.number), "--net", "--uts", "--mount", "--pid")
        return [*enter, "env", f"--chdir={cwd}", *map(str, command)]

    def run(self, *command: str | Path) -> None:
        """Run a command of the machine's administrator."""
        subprocess.run(self.inside(*command), check=True, capture_output=True)

    def end(self) -> None:
        """Kill everything in it."""
        self.process.kill()
        self.process.wait()


@dataclass
class Site:
    """A running Slurm."""

    folder: Path
    machines: dict[str, Machine] = field(default_factory=dict)
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def command(
        self,
        *command: str | Path,
        cwd: str | Path = "/",
        env: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as a user does on the head node."""
        ended = subprocess.run(
            self.machines["ctl"].inside(*command, cwd=cwd),
            env={**os.environ, **self.environment, **(env or {})},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if check and ended.returncode:
            raise AssertionError(f"{command}: {ended.returncode}: {ended.stdout}{ended.stderr}")
        return ended

    @property
    def environment(self) -> dict[str, str]:
        """What finds this Slurm."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def facts(self, job: str) -> dict[str, str]:
        """What Slurm says of a job, or of one task of an array (`12_3`)."""
        told = self.command("scontrol", "show", "job", "--oneliner", job).stdout
        return dict(word.split("=", 1) for word in told.split() if "=" in word)

    def state(self, job: str) -> str:
        """PENDING, RUNNING, COMPLETED, ..."""
        return self.facts(job)["JobState"]

    def states(self) -> dict[str, str]:
        """All jobs and array tasks, each with its state."""
        told = self.command("squeue", "--noheader", "--array", "-t", "all", "-o", "%i %T").stdout
        return dict(line.split() for line in told.splitlines())

    def wait(self, what: Callable[[], object], seconds: float = 120, pause: float = 0.3) -> None:
        """Wait until something is so; tells all jobs when it does not become so."""
        end = time.monotonic() + seconds
        while not what():
            if time.monotonic() > end:
                told = self.command("scontrol", "show", "jobs", "--oneliner").stdout
                raise AssertionError(f"not within {seconds} s:\n{told}")
            time.sleep(pause)

    def ended(self, *jobs: str, seconds: float = 240) -> list[str]:
        """Wait until these jobs will run no more; returns their states."""
        going = {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED", "SUSPENDED"}
        self.wait(lambda: not going & {self.state(job) for job in jobs}, seconds)
        return [self.state(job) for job in jobs]

    def cable(self, node: str, *, up: bool) -> None:
        """Pull the network cable of a node, or put it back."""
        self.machines["ctl"].run("ip", "link", "set", f"to-{node}", "up" if up else "down")

    def clear(self) -> None:
        """Cancel what is left, and wait until it is gone."""
        self.command("scancel", "--state=PENDING", "--user=root", check=False)
        self.command("scancel", "--signal=KILL", "--full", "--user=root", check=False)
        self.command("scancel", "--user=root", check=False)
        live = ("squeue", "--noheader", "-o", "%i")
        self.wait(lambda: not self.command(*live).stdout.strip(), 60)


@contextmanager
def slurm_site(
    nodes: Sequence[str] = ("n1",), partition: str = "", **options: str
) -> Iterator[Site]:
    """A Slurm with these nodes, and these lines in its `slurm.conf`."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # sockets want a short path
    site = Site(folder)
    try:
        _write(folder, nodes, partition, {**_OPTIONS, **options})
        _wire(site, nodes)
        _start(site, nodes)
        yield site
    finally:
        for machine in site.machines.values():
            machine.end()
        for daemon in site.daemons:
            daemon.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _address(number: int) -> str:
    return f"10.77.0.{10 + number}"


def _write(folder: Path, nodes: Sequence[str], partition: str, options: Mapping[str, str]) -> None:
    folder.chmod(0o755)
    for name in ("munge", "state", *(f"spool.{node}" for node in nodes)):
        (folder / name).mkdir(mode=0o755)
    (folder / "munge" / "key").write_bytes(os.urandom(128))
    (folder / "munge" / "key").chmod(0o600)
    known = {"localhost": "127.0.0.1", "ctl": HEAD}
    known |= {node: _address(number) for number, node in enumerate(nodes)}
    (folder / "hosts").write_text("".join(f"{ip} {name}\n" for name, ip in known.items()))
    resources = "CPUs=16 RealMemory=128000 Gres=gpu:2 State=UNKNOWN"
    lines = [f"NodeName={node} NodeAddr={known[node]} {resources}" for node in nodes]
    conf = _CONF.format(
        folder=folder,
        head=HEAD,
        nodes="\n".join(lines),
        partition=partition,
        options="\n".join(f"{key}={value}" for key, value in options.items()),
    )
    (folder / "slurm.conf").write_text(conf)
    # Pretended GPUs: the file only has to be there.
    (folder / "gres.conf").write_text("Name=gpu File=/dev/tty[0-1]\n")


def _wire(site: Site, nodes: Sequence[str]) -> None:
    """Start the machines, and connect each node with the head."""
    for name in ("ctl", *nodes):
        site.machines[name] = Machine.start(name, site.folder / "hosts")
        site.machines[name].run("ip", "link", "set", "lo", "up")
    head = site.machines["ctl"]
    for line in ("link add hub type bridge", "link set hub up", f"addr add {HEAD}/24 dev hub"):
        head.run("ip", *line.split())
    for number, node in enumerate(nodes):
        machine = site.machines[node]
        cable = f"link add to-{node} type veth peer name eth0 netns {machine.number}"
        subprocess.run(
            ["nsenter", "--target", str(head.number), "--net", "ip", *cable.split()], check=True
        )
        head.run("ip", "link", "set", f"to-{node}", "master", "hub", "up")
        machine.run("ip", "link", "set", "eth0", "up")
        machine.run("ip", "addr", "add", f"{_address(number)}/24", "dev", "eth0")


def _start(site: Site, nodes: Sequence[str]) -> None:
    munge = site.folder / "munge"
    places = {"key-file": "key", "socket": "socket", "pid-file": "pid", "seed-file": "seed"}
    paths = [f"--{option}={munge / name}" for option, name in places.items()]
    _daemon(site, "ctl", "munged", "--foreground", "--force", *paths)
    site.wait(lambda: (munge / "socket").exists(), START_SECONDS, 0.05)
    _daemon(site, "ctl", "slurmctld", "-D", "-c")
    for node in nodes:
        _daemon(site, node, "slurmd", "-D", "-N", node)
    idle = ("sinfo", "--noheader", "-N", "-t", "idle", "-o", "%N")
    site.wait(
        lambda: set(site.command(*idle, check=False).stdout.split()) == set(nodes), START_SECONDS
    )


def _daemon(site: Site, machine: str, *command: str) -> None:
    with (site.folder / f"{command[0]}.{machine}.out").open("wb") as out:
        site.daemons.append(
            subprocess.Popen(
                site.machines[machine].inside(*command),
                env={**os.environ, **site.environment},
                stdout=out,
                stderr=out,
            )
        )
