"""A thousand ConfigMaps by `kubectl apply --server-side` and by cali, side by side on one API server.

kubectl gets them as manifests usually lie there, in a folder of files, and once more in one file, which is quicker.

The server is the cluster that CALI_TEST_KUBECONFIG names, else the sandbox's stand-in in a process of its own.
On loopback both wait for the server's processor and for nothing else; a laptop waits for its line too, so both are
measured once more behind one that takes its time.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

OBJECTS = 1000
GOAL = 20
NAMESPACE = "cali-bench"
# Seconds there and back, as between an office and the region that it works in.
ROUND_TRIP = 0.02


def run() -> None:
    """Each of the two makes its thousand in a namespace that is new, and then applies them once more."""
    with _server() as kubeconfig:
        _compare(kubeconfig, "on loopback")
        with _line(kubeconfig) as far:
            _compare(far, f"over a line of {ROUND_TRIP * 1000:.0f} ms")


def _compare(kubeconfig: Path, where: str) -> None:
    one_file = _by_kubectl(kubeconfig, files=1)
    _forget(kubeconfig)
    kubectl = [_by_kubectl(kubeconfig, files=OBJECTS + 1) for _ in ("first", "again")]
    _forget(kubeconfig)
    print(f"manifests, {where}: first apply by kubectl from one file {one_file:.1f} s")
    ours = _by_cali(kubeconfig)
    _forget(kubeconfig)
    for words, theirs, mine in zip(("first apply", "unchanged apply"), kubectl, ours, strict=True):
        print(
            f"manifests, {where}: {words} of {OBJECTS} ConfigMaps: kubectl apply --server-side "
            f"from a folder {theirs:.1f} s, cali, plan and all, {mine:.2f} s, "
            f"{theirs / mine:.1f} times as fast (goal at least {GOAL})"
        )


def _objects() -> list[dict[str, Any]]:
    def config_map(number: int) -> dict[str, Any]:
        meta = {"name": f"settings-{number}", "namespace": NAMESPACE, "labels": {"app": "bench"}}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"number": str(number)}}

    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        *map(config_map, range(OBJECTS)),
    ]


def _by_kubectl(kubeconfig: Path, *, files: int) -> float:
    objects = _objects()
    size = -(-len(objects) // files)
    with tempfile.TemporaryDirectory() as folder:
        # The namespace is in the first file, and kubectl takes them in the order of their names.
        for start in range(0, len(objects), size):
            part = objects[start : start + size]
            items = {"apiVersion": "v1", "kind": "List", "items": part} if size > 1 else part[0]
            (Path(folder) / f"{start:04}.json").write_text(json.dumps(items))
        started = time.perf_counter()
        _kubectl(kubeconfig, "apply", "--server-side", "--filename", folder)
        return time.perf_counter() - started


def _by_cali(kubeconfig: Path) -> tuple[float, float]:
    from cali_infra.adapters.kubernetes import Kubernetes
    from cali_infra.core.manifests import ManifestWork
    from cali_infra.core.progress import Silent

    kubernetes = Kubernetes.from_kubeconfig(kubeconfig)
    work = ManifestWork("bench", kubernetes, _objects)
    # Connections are opened by both within the time that is taken.
    started = time.perf_counter()
    work.apply(work.plan(Silent()), Silent(), threading.Event())
    between = time.perf_counter()
    plan = work.plan(Silent())
    ended = time.perf_counter()
    assert plan.empty
    kubernetes.close()
    return between - started, ended - between


def _forget(kubeconfig: Path) -> None:
    _kubectl(kubeconfig, "delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait")
    _kubectl(
        kubeconfig, "delete", "configmap", "cali-inventory-bench", "-n", "kube-system", "--ignore-not-found"
    )


def _kubectl(kubeconfig: Path, *arguments: str) -> None:
    command = ["kubectl", "--kubeconfig", str(kubeconfig), *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def _server() -> Iterator[Path]:
    """The kubeconfig of the cluster to measure on."""
    named = os.environ.get("CALI_TEST_KUBECONFIG")
    if named:
        yield Path(named)
        return
    with tempfile.TemporaryDirectory() as folder:
        kubeconfig = Path(folder) / "kubeconfig"
        with _beside("serve", str(kubeconfig)):
            yield kubeconfig


@contextmanager
def _line(kubeconfig: Path) -> Iterator[Path]:
    """A kubeconfig that leads to the same server over a line that takes its time."""
    document = yaml.safe_load(kubeconfig.read_text())
    chosen = next(c for c in document["contexts"] if c["name"] == document["current-context"])
    cluster = next(c for c in document["clusters"] if c["name"] == chosen["context"]["cluster"])["cluster"]
    server = urlsplit(cluster["server"])
    with (
        _beside("line", str(server.hostname), str(server.port)) as port,
        tempfile.TemporaryDirectory() as folder,
    ):
        cluster |= {"server": f"https://127.0.0.1:{port}", "tls-server-name": server.hostname}
        far = Path(folder) / "kubeconfig"
        far.write_text(yaml.safe_dump(document))
        yield far


@contextmanager
def _beside(*arguments: str) -> Iterator[str]:
    """This module in a process of its own, once it has said its first line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.manifests", *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


async def _delay(host: str, port: int) -> None:
    """Pass bytes on both ways, each after half a round trip."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(65536):
            loop.call_later(ROUND_TRIP / 2, writer.write, data)
        loop.call_later(ROUND_TRIP / 2, writer.close)

    async def accept(near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        # A new connection waits for its handshake as well.
        await asyncio.sleep(ROUND_TRIP)
        far, onward = await asyncio.open_connection(host, port)
        await asyncio.gather(pump(near, onward), pump(far, back), return_exceptions=True)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def _serve(kubeconfig: Path) -> None:
    """The stand-in, until this process is ended."""
    from base64 import b64encode

    from cali_infra.sandbox.certificates import Authority
    from cali_infra.sandbox.kubernetes.standin import KubernetesStandIn
    from cali_infra.sandbox.ports import Caller

    admin = Caller("arn:aws:iam::123456789012:role/bench", "bench", (), (), is_admin=True)
    address = KubernetesStandIn(Authority.create(), lambda cluster, token: admin).create("bench", "1.35")
    cluster = {
        "server": address.endpoint,
        "certificate-authority-data": b64encode(address.ca_pem).decode(),
    }
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "bench",
        "clusters": [{"name": "bench", "cluster": cluster}],
        "users": [{"name": "bench", "user": {"token": "bench"}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
    }
    kubeconfig.write_text(json.dumps(document))
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", path]:
            _serve(Path(path))
        case ["line", host, port]:
            asyncio.run(_delay(host, int(port)))
