"""The sandbox's process: puts the stand-ins together, writes the record, and ends when it should.

It owns the order in which they start, the files in `.cali/sandbox/` while it lives, and the status that it
gives through its control URL. Started by `process.py`, which hands down the lock that tells its life and a
pipe to say on that it is ready. It ends on SIGTERM, and by itself when its folder is gone or another's.
"""

from __future__ import annotations

import argparse
import base64
import json
import logging
import os
import secrets
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cali_infra import files
from cali_infra.sandbox.ports import Caller, ClusterAddress, ClusterHost, DomainHost, NodeSpec
from cali_infra.sandbox.record import CA, JOBS, KUBECONFIG, LOCK, LOG, PODS, RECORD, SandboxAddress

WATCH_SECONDS = 2.0
# Whatever a stand-in still does, the process is gone this long after it was told to end.
LAST_SECONDS = 2.0

_log = logging.getLogger(__name__)


def _now() -> datetime:
    return datetime.now(UTC)


class Clusters:
    """The cluster host, watched: it passes every call on and remembers where the clusters are."""

    def __init__(self, host: ClusterHost, changed: Callable[[], None]) -> None:
        self._host = host
        self._changed = changed
        self._lock = threading.Lock()
        self._addresses: dict[str, ClusterAddress] = {}

    def addresses(self) -> dict[str, ClusterAddress]:
        """The running clusters by name, oldest first."""
        with self._lock:
            return dict(self._addresses)

    def create(self, name: str, version: str) -> ClusterAddress:
        """See ClusterHost."""
        address = self._host.create(name, version)
        with self._lock:
            self._addresses[name] = address
        self._changed()
        return address

    def delete(self, name: str) -> None:
        """See ClusterHost."""
        self._host.delete(name)
        with self._lock:
            self._addresses.pop(name, None)
        self._changed()

    def set_nodes(self, name: str, group: str, nodes: Sequence[NodeSpec]) -> None:
        """See ClusterHost."""
        self._host.set_nodes(name, group, nodes)

    def set_addon(self, name: str, addon: str, version: str | None) -> None:
        """See ClusterHost."""
        self._host.set_addon(name, addon, version)


class Domains:
    """The domain host, watched as the clusters are."""

    def __init__(self, host: DomainHost, changed: Callable[[], None]) -> None:
        self._host = host
        self._changed = changed
        self._lock = threading.Lock()
        self._addresses: dict[str, str] = {}

    def addresses(self) -> dict[str, str]:
        """`host:port` of the running domains by name, oldest first."""
        with self._lock:
            return dict(self._addresses)

    def create(self, name: str, username: str, password: str) -> str:
        """See DomainHost."""
        address = self._host.create(name, username, password)
        with self._lock:
            self._addresses[name] = address
        self._changed()
        return address

    def update(self, name: str, username: str, password: str) -> None:
        """See DomainHost."""
        self._host.update(name, username, password)

    def delete(self, name: str) -> None:
        """See DomainHost."""
        self._host.delete(name)
        with self._lock:
            self._addresses.pop(name, None)
        self._changed()


class Server:
    """One sandbox in this process. `lock` is the descriptor of the lock that tells its life."""

    def __init__(self, folder: Path, region: str, identifier: str, lock: int) -> None:
        self._folder = folder
        self._region = region
        self._id = identifier
        self._lock = lock
        self._writing = threading.Lock()
        self._address: SandboxAddress | None = None
        # With this token, known to nobody else, the status reads the clusters whoever may use them.
        self._reader = Caller("", "cali:sandbox", ("system:masters",), (), is_admin=True)
        self._reader_token = secrets.token_urlsafe(32)

    def start(self) -> None:
        """Start every stand-in and write the record; clients may come from then on."""
        from cali_infra.sandbox.agents.crew import Crew
        from cali_infra.sandbox.agents.services import Services
        from cali_infra.sandbox.aws.server import AwsStandIn
        from cali_infra.sandbox.certificates import Authority
        from cali_infra.sandbox.helm.standin import HelmStandIn
        from cali_infra.sandbox.kubernetes.standin import KubernetesStandIn
        from cali_infra.sandbox.opensearch.standin import OpenSearchStandIn

        self._authority = Authority.create(_now)
        kubernetes = KubernetesStandIn(self._authority, self._authenticate, _now)
        self._clusters = Clusters(kubernetes, self._changed)
        self._domains = Domains(OpenSearchStandIn(self._authority, _now), self._changed)
        self._aws = AwsStandIn(self._clusters, self._domains)
        endpoint = self._aws.start()
        operator = self._aws.operator
        files.write_private(self._folder / CA, self._authority.ca_pem)
        self._clear_folders()
        ca_file = str(self._folder / CA)
        services = Services(kubernetes, self._folder / PODS, ca_file, _now)
        self._crew = Crew(kubernetes, self._aws, ca_file, _now, services, self._folder / JOBS)
        self._crew.start()
        # What stands in for a release is there before Terraform hears that it is deployed.
        self._helm = HelmStandIn(
            {**os.environ, **self._aws.environment(self._region)}, _now, changed=self._crew.tick
        )
        self._address = SandboxAddress(
            id=self._id,
            pid=os.getpid(),
            aws_endpoint=endpoint,
            region=self._region,
            access_key_id=operator.access_key_id,
            secret_access_key=operator.secret_access_key,
            reattach=self._helm.start(),
            ca_file=self._folder / CA,
            control_url=self._serve_control(),
            log=self._folder / LOG,
        )
        self._changed()

    def owns_folder(self) -> bool:
        """The folder is still there and still this sandbox's: its lock file is the one that is held."""
        try:
            return os.path.samestat((self._folder / LOCK).stat(), os.fstat(self._lock))
        except OSError:
            return False

    def end(self) -> None:
        """Take the commands that run with it down, and its files away; all the rest is memory."""
        # What the services have open ends with the process.
        self._crew.stop()
        self._helm.stop(grace=0.2)
        if self.owns_folder():
            for name in (RECORD, KUBECONFIG, CA):
                (self._folder / name).unlink(missing_ok=True)
            self._clear_folders()

    def _clear_folders(self) -> None:
        for name in (PODS, JOBS):
            shutil.rmtree(self._folder / name, ignore_errors=True)

    def status(self) -> dict[str, Any]:
        """The sandbox as `cali sandbox status` prints it, with the names of its clusters and domains."""
        from cali_infra.sandbox.helm.cluster import Access, Cluster, Credentials
        from cali_infra.sandbox.helm.releases import summaries

        address, clusters = self._address, self._clusters.addresses()
        assert address is not None
        releases: list[dict[str, Any]] = []
        for cluster in clusters.values():
            access = Access(cluster.endpoint, cluster.ca_pem.decode(), token=self._reader_token)
            found = Cluster(access, Credentials({}, _now)).request(
                "GET", "/api/v1/secrets", query={"labelSelector": "owner=helm"}
            )
            releases += summaries(found.get("items") or [])
        return {
            "running": True,
            "aws_endpoint": address.aws_endpoint,
            "kubeconfig": str(address.kubeconfig) if address.kubeconfig else None,
            "opensearch_url": address.opensearch_url,
            "helm_releases": releases,
            "clusters": list(clusters),
            "domains": list(self._domains.addresses()),
        }

    def _authenticate(self, cluster: str, token: str) -> Caller | None:
        if secrets.compare_digest(token.encode(), self._reader_token.encode()):
            return self._reader
        return self._aws.authenticator(cluster, token)

    def _changed(self) -> None:
        """Write the kubeconfig and the record anew: a cluster or a domain has come or gone."""
        with self._writing:
            if self._address is None or not self.owns_folder():
                return
            clusters, domains = self._clusters.addresses(), list(self._domains.addresses().values())
            path = self._folder / KUBECONFIG
            if clusters:
                document = kubeconfig(clusters, self._address)
                files.write_private(path, json.dumps(document, indent=2).encode())
            else:
                path.unlink(missing_ok=True)
            self._address = replace(
                self._address,
                kubeconfig=path if clusters else None,
                opensearch_url=f"https://{domains[0]}" if domains else None,
            )
            files.write_private(self._folder / RECORD, self._address.to_json().encode())

    def _serve_control(self) -> str:
        """Serve the status on a loopback port, under a path that only the record names."""
        server, path = self, f"/{secrets.token_urlsafe(24)}/status"

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path != path:
                    self.send_error(404)
                    return
                try:
                    status, document = 200, server.status()
                except Exception as error:
                    _log.exception("the status could not be told")
                    status, document = 500, {"error": str(error)}
                data = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        control = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        control.daemon_threads = True
        threading.Thread(target=control.serve_forever, name="control", daemon=True).start()
        return f"http://127.0.0.1:{control.server_address[1]}{path}"


def kubeconfig(clusters: Mapping[str, ClusterAddress], address: SandboxAddress) -> dict[str, Any]:
    """A kubeconfig for plain kubectl: a context for each cluster, the newest one current."""
    from cali_infra.core import exec_credential
    from cali_infra.core.kubeconfig import Context, document

    return document(
        Context(
            name=name,
            entry=name,
            server=cluster.endpoint,
            ca=base64.b64encode(cluster.ca_pem).decode(),
            plugin=exec_credential.plugin(name, address.region, environ=address.credential_environ()),
        )
        for name, cluster in clusters.items()
    )


def main(arguments: Sequence[str]) -> None:
    """Run a sandbox until it is told to end or has lost its folder."""
    parser = argparse.ArgumentParser(prog="cali_infra.sandbox.server")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--region", required=True)
    parser.add_argument("--id", required=True)
    parser.add_argument("--lock", type=int, required=True)
    parser.add_argument("--ready", type=int, required=True)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    os.umask(0o077)
    # What is run from here must not keep the lock alive, nor the pipe open.
    os.set_inheritable(options.lock, False)
    os.set_inheritable(options.ready, False)
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: told.set())
    server = Server(options.folder, options.region, options.id, options.lock)
    server.start()
    os.write(options.ready, b"1")
    os.close(options.ready)
    while not told.wait(WATCH_SECONDS):
        # Without its record nobody would find it again.
        if not server.owns_folder() or not (options.folder / RECORD).exists():
            _log.warning("the folder of this sandbox is gone or another's: ending")
            break
    last = threading.Timer(LAST_SECONDS, os._exit, (1,))
    last.daemon = True
    last.start()
    server.end()
    sys.stderr.flush()
    # Requests under way and the threads that serve them are not waited for: nothing of them is kept.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
