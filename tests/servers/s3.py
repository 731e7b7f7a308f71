"""An S3 server of the tests' own, on loopback, that leaves nothing behind.

The promise: inside ``with s3_server(folder) as server`` an S3 endpoint answers requests signed with
``server.access_key`` and ``server.secret_key``; after the block, however it ends, no process that
it started is left.  Where the programs of Ceph are installed, the endpoint is a RADOS Gateway
over a one-node cluster: a real S3 server that checks signatures and honours ``If-None-Match``.
Elsewhere it is moto, an emulator that takes any credentials, and a ``FallbackWarning`` says so.
``CODEX_FORGE_TEST_S3`` set to ``rados-gateway`` or ``moto`` decides instead.

On Debian: ``apt-get install --no-install-recommends ceph-mon ceph-osd radosgw``.
Both servers start empty and lose their data at the end.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import botocore.config
import botocore.exceptions
import botocore.session

Kind = Literal["rados-gateway", "moto"]

CHOICE = "CODEX_FORGE_TEST_S3"
MARK = "CODEX_FORGE_TEST_S3_FOLDER"  # every process of a server has it in its environment
PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "monmaptool")
REGION = "us-east-1"
START_SECONDS = 60.0
STOP_SECONDS = 1.0  # the gateway would take five, to save what is thrown away here
BLOCK_BYTES = 8 * 1024**3  # a sparse file: only what is written takes room
PORTS = 16  # the gateway, the monitor's two, and a range for the OSD's eight

logger = logging.getLogger(__name__)


class FallbackWarning(UserWarning):
    """The tests run on an emulator, not on a real S3 server."""


class ServerError(RuntimeError):
    """The server did not start; the message quotes the end of the log that tells why."""


class S3Server(NamedTuple):
    """Where a running server is, and the credentials that it takes."""

    endpoint_url: str
    access_key: str
    secret_key: str
    kind: Kind

    def environment(self) -> dict[str, str]:
        """Return the variables that point botocore, s3fs and their children at this server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Run the RADOS Gateway where it can run, else moto with a warning; logs go to ``folder``."""
    kind, reason = choose_kind(os.environ)
    logger.info("S3 server of the tests: %s (%s)", kind, reason)
    if kind == "moto":
        warnings.warn(f"S3 tests run on moto, an emulator: {reason}", FallbackWarning, stacklevel=3)
    with rados_gateway(folder) if kind == "rados-gateway" else moto_server(folder) as server:
        yield server


def choose_kind(environ: Mapping[str, str]) -> tuple[Kind, str]:
    """Return which server to run, and why."""
    wanted = environ.get(CHOICE, "")
    for kind in get_args(Kind):
        if wanted == kind:
            return kind, f"{CHOICE}={wanted}"
    if wanted:
        raise ValueError(f"{CHOICE}={wanted!r}: say 'moto' or 'rados-gateway', or leave it unset")
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return "moto", f"not on PATH: {', '.join(missing)}"
    if os.geteuid() != 0:
        return "moto", "the RADOS Gateway is run as root only"
    return "rados-gateway", "its programs are installed"


@contextmanager
def rados_gateway(folder: Path) -> Iterator[S3Server]:
    """Run a one-node Ceph cluster and its S3 gateway; logs go to ``folder``, data is removed."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        raise ServerError(f"the RADOS Gateway needs {', '.join(missing)} on PATH")
    with ExitStack() as stack:
        node = _CephNode.prepare(folder, stack)
        server = S3Server(
            endpoint_url=f"http://127.0.0.1:{node.port}",
            access_key=secrets.token_hex(10).upper(),
            secret_key=secrets.token_hex(20),
            kind="rados-gateway",
        )
        node.start(server)
        yield server


@contextmanager
def moto_server(folder: Path | None = None) -> Iterator[S3Server]:
    """Run moto's S3 emulator; its log goes to ``folder``, or to a folder removed at the end."""
    if importlib.util.find_spec("moto") is None:
        raise ServerError("moto is not installed: pip install 'moto[server]'")
    with ExitStack() as stack:
        logs = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="moto-")))
        logs.mkdir(parents=True, exist_ok=True)
        port = free_ports(1)
        children = stack.enter_context(_Children(logs, dict(os.environ)))
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        children.start("moto", command)
        server = S3Server(
            endpoint_url=f"http://127.0.0.1:{port}",
            access_key=secrets.token_hex(10).upper(),
            secret_key=secrets.token_hex(20),
            kind="moto",
        )
        children.wait_until("moto", lambda: answers(server), time.monotonic() + START_SECONDS)
        yield server


def client(server: S3Server, secret_key: str | None = None) -> Any:
    """Return a botocore S3 client of the server that tries once and gives up within seconds.

    ``secret_key`` takes the place of the server's own.
    """
    return botocore.session.Session().create_client(
        "s3",
        region_name=REGION,
        endpoint_url=server.endpoint_url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=secret_key or server.secret_key,
        config=botocore.config.Config(
            connect_timeout=2,
            read_timeout=20,
            retries={"total_max_attempts": 1},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"},
            proxies={},
        ),
    )


def _remove(folder: Path) -> None:
    """Remove a folder, again while a program that an interrupt cut loose still writes to it."""
    deadline = time.monotonic() + 5
    while folder.exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)


def make_bucket(server: S3Server, name: str) -> str:
    """Make the bucket, which may already be there, and return its name."""
    s3 = client(server)
    try:
        s3.create_bucket(Bucket=name)
    except (s3.exceptions.BucketAlreadyOwnedByYou, s3.exceptions.BucketAlreadyExists):
        s3.head_bucket(Bucket=name)  # refused when it is somebody else's
    finally:
        s3.close()
    return name


def answers(server: S3Server) -> bool:
    """Return whether the server answers a signed request that only its owner may make."""
    s3 = client(server)
    try:
        s3.list_buckets()
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
        return False
    finally:
        s3.close()
    return True


def free_ports(count: int) -> int:
    """Return the first of ``count`` loopback ports in a row, all free at this moment.

    They lie below the range from which the kernel serves outgoing connections.
    """
    for _ in range(200):
        first = random.randrange(15_000, 32_000 - count)
        if all(_is_free(port) for port in range(first, first + count)):
            return first
    raise ServerError(f"no {count} free loopback ports in a row")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _dying_with_us(command: Sequence[str]) -> list[str]:
    """Return the command so that the kernel ends it when this process is killed outright."""
    setpriv = shutil.which("setpriv")
    prefix = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
    return [*prefix, *command]


class _Children:
    """Processes whose output goes to ``logs/NAME.log``, all ended by pid when the block ends."""

    def __init__(self, logs: Path, environment: dict[str, str]) -> None:
        self._logs = logs
        self._environment = {**environment, MARK: str(logs)}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> _Children:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(self, name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start the command out of the terminal's reach: Ctrl-C must not overtake the order."""
        with self._log(name).open("ab") as log:
            child = self._running[name] = subprocess.Popen(
                _dying_with_us(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
        return child

    def finish(self, name: str, deadline: float) -> None:
        """Wait for the started command to end well."""
        try:
            code = self._running[name].wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise self._error(name, "did not end in time") from None
        if code != 0:
            raise self._error(name, f"ended with status {code}")
        del self._running[name]

    def run(self, name: str, command: Sequence[str], deadline: float) -> None:
        """Run the command to its end."""
        self.start(name, command)
        self.finish(name, deadline)

    def wait_until(self, name: str, ready: Callable[[], bool], deadline: float) -> None:
        """Wait for ``ready`` while every child lives; ``name`` is whose log tells the trouble."""
        while not ready():
            for other, child in self._running.items():
                if child.poll() is not None:
                    raise self._error(other, f"ended with status {child.returncode}")
            if time.monotonic() > deadline:
                raise self._error(name, "was not ready in time")
            time.sleep(0.1)

    def end(self) -> None:
        """Ask the last started first, give all of them the same few seconds, then kill."""
        children = list(reversed(self._running.values()))
        try:
            for child in children:
                child.terminate()
            deadline = time.monotonic() + STOP_SECONDS
            for child in children:
                child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            logger.debug("killing what outlived the request to end")
        finally:
            for child in children:
                child.kill()
            for child in children:
                child.wait()
            self._running.clear()

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _error(self, name: str, trouble: str) -> ServerError:
        path = self._log(name)
        tail = path.read_text(errors="replace")[-3000:].strip() if path.exists() else ""
        return ServerError(f"{name} {trouble}; the end of {path}:\n{tail or '(empty)'}")


@dataclass(frozen=True)
class _CephNode:
    """One monitor, one OSD over a sparse file, one gateway, all on loopback without cephx."""

    folder: Path
    sockets: Path
    port: int
    children: _Children
    cluster: str = field(default_factory=lambda: str(uuid.uuid4()))
    osd: str = field(default_factory=lambda: str(uuid.uuid4()))

    @classmethod
    def prepare(cls, folder: Path, stack: ExitStack) -> _CephNode:
        """Lay the folders out; the stack removes the data after it has ended the processes."""
        folder = folder.resolve()
        for name in ("mon", "osd"):
            (folder / name).mkdir(parents=True)
            stack.callback(_remove, folder / name)
        # A socket's path may have 107 characters: a folder of the tests can be longer than that.
        sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="s3-", dir="/tmp")))
        environment = {key: os.environ[key] for key in os.environ if not key.startswith("CEPH_")}
        environment["CEPH_CONF"] = str(folder / "ceph.conf")
        children = stack.enter_context(_Children(folder, environment))
        node = cls(folder, sockets, free_ports(PORTS), children)
        (folder / "ceph.conf").write_text(node.configuration())
        return node

    def start(self, server: S3Server) -> None:
        """Bring the monitor, the OSD and the gateway up, the user made, within the deadline."""
        deadline = time.monotonic() + START_SECONDS
        run, start = self.children.run, self.children.start
        make_osd = ["--mkfs", "--osd-uuid", self.osd, "--no-mon-config"]
        start("osd-mkfs", self._command("ceph-osd", "-i", "0", *make_osd))  # alongside the monitor
        monmap = str(self.folder / "monmap")
        make_map = ["--create", "--fsid", self.cluster, "--addv", "a", self._mon(), monmap]
        run("monmap", ["monmaptool", *make_map], deadline)
        make_mon = ["--mkfs", "--monmap", monmap]
        run("mon-mkfs", self._command("ceph-mon", "-i", "a", *make_mon), deadline)
        start("mon", self._command("ceph-mon", "-i", "a", "-f"))
        run("osd-new", self._command("ceph", "osd", "new", self.osd, "0"), deadline)
        self.children.finish("osd-mkfs", deadline)
        start("osd", self._command("ceph-osd", "-i", "0", "-f"))
        self.children.wait_until("osd", self._osd_is_active, deadline)
        run("user", self._user_command(server), deadline)
        start("radosgw", self._command("radosgw", "-n", "client.rgw", "-f"))
        self.children.wait_until("radosgw", lambda: answers(server), deadline)

    def _command(self, program: str, *arguments: str) -> list[str]:
        return [program, "-c", str(self.folder / "ceph.conf"), *arguments]

    def _user_command(self, server: S3Server) -> list[str]:
        keys = [f"--access-key={server.access_key}", f"--secret-key={server.secret_key}"]
        user = ["user", "create", "--uid=tests", "--display-name=tests"]
        return self._command("radosgw-admin", "--rgw-cache-enabled=false", *user, *keys)

    def _osd_is_active(self) -> bool:
        """Ask the OSD over its admin socket: a request, then a length and so much JSON."""
        try:
            with socket.socket(socket.AF_UNIX) as admin, admin.makefile("rb") as answer:
                admin.settimeout(2)
                admin.connect(str(self.sockets / "osd.0.asok"))
                admin.sendall(b'{"prefix": "status"}\0')
                size = int.from_bytes(answer.read(4), "big")
                return bool(json.loads(answer.read(size))["state"] == "active")
        except (OSError, ValueError, KeyError):
            return False

    def _mon(self) -> str:
        return f"[v2:127.0.0.1:{self.port + 1},v1:127.0.0.1:{self.port + 2}]"

    def configuration(self) -> str:
        """Return ceph.conf: one replica, small caches, no authentication between the daemons."""
        return CONFIGURATION.format(
            cluster=self.cluster,
            folder=self.folder,
            sockets=self.sockets,
            mon=self._mon(),
            port=self.port,
            first=self.port + 3,
            last=self.port + PORTS - 1,
            block=BLOCK_BYTES,
        )


CONFIGURATION = """\
[global]
fsid = {cluster}
run dir = {sockets}
admin socket = {sockets}/$name.asok
log to stderr = true
err to stderr = true
log file =
mon cluster log file =
mon initial members = a
mon host = {mon}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind port min = {first}
ms bind port max = {last}
auth cluster required = none
auth service required = none
auth client required = none

[mon]
mon data = {folder}/mon
mon data avail warn = 2
mon data avail crit = 1
mon allow pool size one = true
mon tick interval = 1
paxos propose interval = 0.05
paxos min wait = 0.02
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0

[osd]
osd data = {folder}/osd
osd objectstore = bluestore
bluestore block size = {block}
bluestore block db create = false
bluestore block wal create = false
bluestore cache autotune = false
bluestore cache size = 134217728
osd memory target = 939524096
osd class load list = *
osd class default list = *
osd max object name len = 2048

[client.rgw]
ms mon client mode = crc
ms mon service mode = crc
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw thread pool size = 64
rgw enable usage log = false
rgw enable ops log = false
rgw dynamic resharding = false
rgw run sync thread = false
rgw gc obj min wait = 60
"""
