"""One node as the DaemonSet's pod sees it: the containers' logs, what is mounted, and the real program.

The configuration is the rendered one. What differs from a pod is what a pod has mounted or set: the folders, its
own port, the API server's address, and the authorities that it trusts. A test that cannot wait for retries of hours
says what else it changes (`Node.change`).
"""

from __future__ import annotations

import hashlib
import http.client
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

# The longest piece of a line that containerd and CRI-O write at once.
PIECE = 16 * 1024
SEOUL = timezone(timedelta(hours=9))
FILE = "fluent-bit.yaml"


@dataclass(frozen=True)
class Moment:
    """A time of the container runtime, to the nanosecond."""

    seconds: int
    nanos: int = 0

    @classmethod
    def of(cls, text: str) -> Moment:
        """From `2026-01-27T03:04:05.123456789Z` or with an offset such as `+09:00`."""
        found = re.fullmatch(r"(.{19})\.(\d{9})(Z|[+-]\d\d:\d\d)", text)
        assert found, text
        zone = "+00:00" if found[3] == "Z" else found[3]
        return cls(int(datetime.fromisoformat(found[1] + zone).timestamp()), int(found[2]))

    def later(self, nanos: int) -> Moment:
        """So many nanoseconds after it."""
        seconds, rest = divmod(self.nanos + nanos, 1_000_000_000)
        return Moment(self.seconds + seconds, rest)

    def cri(self, zone: timezone) -> str:
        """As the runtime of a node in this zone writes it."""
        moment = datetime.fromtimestamp(self.seconds, zone)
        offset = moment.strftime("%z")
        shown = "Z" if zone is UTC else f"{offset[:3]}:{offset[3:]}"
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{self.nanos:09d}{shown}"

    def utc(self) -> str:
        """As it stands in `@timestamp`."""
        return self.cri(UTC)


@dataclass
class Container:
    """One container's log, written as the runtime writes it."""

    pod: str
    namespace: str
    identifier: str
    file: Path
    rotated: int = 0

    def write(
        self,
        *lines: str | bytes,
        at: Moment,
        step: int = 1_000_000,
        stream: str = "stdout",
        zone: timezone = SEOUL,
    ) -> list[Moment]:
        """Write lines, `step` nanoseconds apart, at once; returns when each was written."""
        moments = [at.later(step * number) for number in range(len(lines))]
        written = zip(lines, moments, strict=True)
        self.raw(b"".join(cri(line, moment, stream, zone) for line, moment in written))
        return moments

    def raw(self, text: bytes) -> None:
        """Append what is in the log's own format already."""
        with self.file.open("ab", buffering=0) as log:
            log.write(text)

    def rotate(self) -> None:
        """As the kubelet does: rename the file and let the runtime open a new one."""
        self.rotated += 1
        self.file.rename(self.file.with_name(f"{self.file.name}.20260127-03040{self.rotated}"))
        self.file.touch()


def cri(line: str | bytes, moment: Moment, stream: str = "stdout", zone: timezone = SEOUL) -> bytes:
    """A line in the CRI's log format, in as many pieces as it takes."""
    data = line.encode() if isinstance(line, str) else line
    pieces = [data[at : at + PIECE] for at in range(0, len(data), PIECE)] or [b""]
    head = f"{moment.cri(zone)} {stream}".encode()
    kinds = [b"P"] * (len(pieces) - 1) + [b"F"]
    return b"".join(b"%s %s %s\n" % (head, kind, piece) for kind, piece in zip(kinds, pieces, strict=True))


@dataclass
class Node:
    """A node's folders, and Fluent Bit on it.

    `config` is its configuration's files by name, `arguments` and `environ` are the container's; `api` is the API
    server's URL, `ca_pem` the authority behind it and behind the domain.
    """

    binary: str
    folder: Path
    config: Mapping[str, str]
    arguments: tuple[str, ...]
    environ: Mapping[str, str]
    api: str
    ca_pem: bytes
    token: str
    process: subprocess.Popen[bytes] | None = None
    port: int = 0
    _changes: list[tuple[str, str]] = field(default_factory=list)
    _containers: int = 0

    def __post_init__(self) -> None:
        for name in ("containers", "pods", "state", "account", "config"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "account/ca.crt").write_bytes(self.ca_pem)
        (self.folder / "account/token").write_text(self.token)
        (self.folder / "account/namespace").write_text("logging")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    # -- the containers ---------------------------------------------------------------------------------

    def container(self, pod: str, namespace: str = "shop", name: str = "app") -> Container:
        """A container with an empty log, linked to as the kubelet does it."""
        self._containers += 1
        identifier = hashlib.sha256(f"{namespace}/{pod}/{name}/{self._containers}".encode()).hexdigest()
        folder = self.folder / "pods" / f"{namespace}_{pod}_{identifier[:8]}" / name
        folder.mkdir(parents=True)
        file = folder / "0.log"
        file.touch()
        (self.folder / "containers" / f"{pod}_{namespace}_{name}-{identifier}.log").symlink_to(file)
        return Container(pod, namespace, identifier, file)

    # -- the program ------------------------------------------------------------------------------------

    def change(self, *changes: tuple[str, str]) -> None:
        """Say otherwise than the rendered text what a test cannot wait for: (what it says, what it says here)."""
        self._changes += changes

    def command(self) -> list[str]:
        """The container's command, on this node's copy of the configuration."""
        folder = self.folder / "config"
        for name, text in self.config.items():
            (folder / name).write_text(self._here(text) if name == FILE else text)
        return [self.binary, *(one.replace("/fluent-bit/config", str(folder)) for one in self.arguments)]

    def _here(self, text: str) -> str:
        """The rendered text with this node's folders and addresses; each has to be found in it."""
        logs, account = str(self.folder / "containers"), self.folder / "account"
        tag = "kube_tag_prefix: kube.var.log.containers."
        # What a pod has by default: the API server's name in the cluster, and the mounted account.
        cluster = {
            "kube_url": self.api,
            "kube_ca_file": account / "ca.crt",
            "kube_token_file": account / "token",
            "kube_namespace_file": account / "namespace",
        }
        indent = " " * 12
        asked = "".join(f"\n{indent}{key}: {value}" for key, value in cluster.items())
        for said, here in (
            ("/var/log/containers", logs),
            (tag, f"kube_tag_prefix: kube{logs.replace('/', '.')}.{asked}"),
            ("/var/lib/fluent-bit", str(self.folder / "state")),
            ("http_listen: 0.0.0.0", "http_listen: 127.0.0.1"),
            ("http_port: 2020", f"http_port: {self.port}"),
            ("tls.verify: on", f"tls.verify: on\n      tls.ca_file: {account / 'ca.crt'}"),
            *self._changes,
        ):
            assert said in text, f"{said!r} is not in the configuration"
            text = text.replace(said, here)
        return text

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "fluent-bit.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), env=dict(self.environ), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_for(lambda: self.get("/") == 200, "its HTTP server", self.log)

    def stop(self) -> None:
        """SIGTERM, as the kubelet sends it; it has to end well."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0, self.log()
        self.process = None

    def kill(self) -> None:
        """SIGKILL: no last words."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)
        self.process = None

    def close(self) -> None:
        if self.process is not None:
            self.kill()

    def get(self, path: str) -> int:
        """The status that its HTTP server answers with; 0 when it does not."""
        return self._ask(path)[0]

    def health(self) -> int:
        return self.get("/api/v1/health")

    def taken(self) -> int:
        """How many records it has put on its disk since it was started."""
        _, body = self._ask("/api/v2/metrics/prometheus")
        found = re.search(rb'fluentbit_input_records_total\{name="containers"\} (\d+)', body)
        return int(found[1]) if found else 0

    def wait_taken(self, count: int) -> None:
        """Until it has put so many records on its disk."""
        wait_for(
            lambda: self.taken() >= count, f"{count} records on disk", lambda: f"{self.taken()}\n{self.log()}"
        )

    def _ask(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def log(self) -> str:
        """The last lines that it has logged itself."""
        path = self.folder / "fluent-bit.log"
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        return "\n".join(line[:300] for line in lines[-40:])

    def rejected(self) -> list[Path]:
        """What it has given up and kept."""
        return sorted((self.folder / "state/rejected").glob("*"))

    def peak_memory(self) -> int:
        """The most memory that it has had at once, in bytes."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found
        return int(found[1]) * 1024


def wait_for(ready: Callable[[], bool], what: str, report: Callable[[], str], timeout: float = 60.0) -> None:
    """Ask again until `ready`, for `timeout` seconds at most."""
    end = time.monotonic() + timeout
    while not ready():
        assert time.monotonic() < end, f"{what} did not come within {timeout:.0f} s\n{report()}"
        time.sleep(0.05)
