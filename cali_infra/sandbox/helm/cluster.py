"""The way to a cluster's API as the provider block describes it: credentials, TLS, requests.

What goes wrong is said in the words of Go's Kubernetes client, because that is what a user sees on AWS.
Each credential command is run once and its answer kept until it expires or the API answers 401.
"""

from __future__ import annotations

import base64
import json
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import urllib3

EXEC_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
EXEC_SECONDS = 60.0
CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0
# A credential that ends in the middle of an apply is no use.
MARGIN = timedelta(seconds=60)


class ClusterError(Exception):
    """The API was not reached or refused; `status` is its HTTP status, 0 where there was no answer."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Exec:
    """A credential command, as a provider block's `exec` names it."""

    api_version: str
    command: str
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Access:
    """The `kubernetes` object of a provider block, as far as the stand-in takes it."""

    host: str
    ca_pem: str = ""
    insecure: bool = False
    tls_server_name: str = ""
    token: str = field(default="", repr=False)
    username: str = ""
    password: str = field(default="", repr=False)
    client_certificate: str = ""
    client_key: str = field(default="", repr=False)
    exec: Exec | None = None


@dataclass(frozen=True)
class Credential:
    """What a credential command answered: a bearer token, or a client certificate with its key."""

    token: str = field(default="", repr=False)
    certificate: str = ""
    key: str = field(default="", repr=False)
    expires_at: datetime | None = None


class Credentials:
    """Runs credential commands in the environment `environ` and keeps their answers."""

    def __init__(self, environ: Mapping[str, str], clock: Callable[[], datetime]) -> None:
        self._environ = dict(environ)
        self._clock = clock
        self._kept: dict[Exec, Credential] = {}
        self._locks: dict[Exec, threading.Lock] = {}
        self._guard = threading.Lock()
        self._children: set[subprocess.Popen[str]] = set()
        self._closed = False

    def get(self, command: Exec) -> Credential:
        """The credential of a command, run now unless a valid answer is kept. Raises ClusterError."""
        with self._guard:
            lock = self._locks.setdefault(command, threading.Lock())
        with lock:
            kept = self._kept.get(command)
            if kept is None or (kept.expires_at is not None and kept.expires_at - MARGIN <= self._clock()):
                kept = self._run(command)
                self._kept[command] = kept
            return kept

    def forget(self, command: Exec) -> None:
        """Drop what is kept for a command: the API does not accept it any more."""
        with self._guard:
            self._kept.pop(command, None)

    def close(self) -> None:
        """End every command that still runs; none is started afterwards."""
        with self._guard:
            self._closed = True
            for child in self._children:
                child.kill()

    def _run(self, command: Exec) -> Credential:
        if command.api_version not in EXEC_VERSIONS:
            raise ClusterError(
                f'getting credentials: exec plugin: invalid apiVersion "{command.api_version}"'
            )
        info = {
            "kind": "ExecCredential",
            "apiVersion": command.api_version,
            "spec": {"interactive": False},
        }
        environ = {**self._environ, **dict(command.env), "KUBERNETES_EXEC_INFO": json.dumps(info)}
        try:
            with self._guard:
                if self._closed:
                    raise ClusterError("getting credentials: exec: the sandbox is stopping")
                child = subprocess.Popen(
                    [command.command, *command.args],
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
                self._children.add(child)
        except FileNotFoundError:
            raise ClusterError(f"getting credentials: exec: executable {command.command} not found") from None
        except OSError as error:
            raise ClusterError(
                f"getting credentials: exec: {command.command}: {(error.strerror or str(error)).lower()}"
            ) from None
        try:
            answer, complaint = child.communicate(timeout=EXEC_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            raise ClusterError(
                f"getting credentials: exec: executable {command.command} gave no answer"
                f" in {EXEC_SECONDS:.0f} seconds"
            ) from None
        finally:
            with self._guard:
                self._children.discard(child)
        if child.returncode != 0:
            last = complaint.strip().splitlines()[-1:]
            raise ClusterError(
                f"getting credentials: exec: executable {command.command} failed"
                f" with exit code {child.returncode}" + (f": {last[0][:400]}" if last else "")
            )
        return _credential(command, answer)


def _credential(command: Exec, answer: str) -> Credential:
    try:
        document = json.loads(answer)
        version, status = document.get("apiVersion"), document.get("status")
    except (ValueError, AttributeError):
        raise ClusterError("getting credentials: decoding stdout: it is no ExecCredential") from None
    if version != command.api_version:
        raise ClusterError(
            "getting credentials: exec plugin is configured to use API version"
            f" {command.api_version}, plugin returned version {version}"
        )
    if not isinstance(status, dict):
        raise ClusterError("getting credentials: exec plugin didn't return a status field")
    token = status.get("token") or ""
    certificate, key = status.get("clientCertificateData") or "", status.get("clientKeyData") or ""
    if not token and not (certificate and key):
        raise ClusterError("getting credentials: exec plugin didn't return a token or cert/key pair")
    expires_at: datetime | None = None
    if stamp := status.get("expirationTimestamp"):
        try:
            expires_at = datetime.fromisoformat(stamp)
        except (ValueError, TypeError):
            raise ClusterError("getting credentials: decoding stdout: expirationTimestamp") from None
    return Credential(token, certificate, key, expires_at)


class Cluster:
    """One cluster's API, spoken to with what a provider block gives."""

    def __init__(self, access: Access, credentials: Credentials) -> None:
        self._access = access
        self._credentials = credentials

    def reach(self) -> None:
        """Ask for the API's version, which is how Helm finds out whether a cluster is there.

        Raises ClusterError, beginning with "Kubernetes cluster unreachable".
        """
        if not self._access.host:
            raise ClusterError(
                "Kubernetes cluster unreachable: invalid configuration: no configuration has been provided"
            )
        try:
            self.request("GET", "/version")
        except ClusterError as error:
            raise ClusterError(f"Kubernetes cluster unreachable: {error}", error.status) from None

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """One request to the API and its JSON answer; a 401 is answered with one new credential.

        Raises ClusterError.
        """
        url = path + (f"?{urlencode(query)}" if query else "")
        try:
            return self._send(method, url, body)
        except ClusterError as error:
            if error.status != 401 or self._access.exec is None:
                raise
            self._credentials.forget(self._access.exec)
            return self._send(method, url, body)

    def _send(self, method: str, url: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        access = self._access
        parts = urlsplit(access.host if "://" in access.host else f"https://{access.host}")
        whole = f'{method.capitalize()} "{parts.scheme}://{parts.netloc}{url}"'
        try:
            credential = self._credentials.get(access.exec) if access.exec else Credential()
        except ClusterError as error:
            raise ClusterError(f"{whole}: {error}") from None
        headers = {"Accept": "application/json", "User-Agent": "cali-sandbox-helm"}
        if token := access.token or credential.token:
            headers["Authorization"] = f"Bearer {token}"
        elif access.username:
            pair = base64.b64encode(f"{access.username}:{access.password}".encode()).decode()
            headers["Authorization"] = f"Basic {pair}"
        payload: bytes | None = None
        if body is not None:
            payload = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        try:
            with self._pool(parts.scheme, parts.hostname or "", parts.port, credential) as pool:
                answer = pool.request(
                    method,
                    parts.path.rstrip("/") + url,
                    body=payload,
                    headers=headers,
                    retries=False,
                    timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
                )
                data = answer.data
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise ClusterError(f"{whole}: {_explain(error, parts.netloc)}") from None
        return _answer(answer.status, data)

    def _pool(
        self, scheme: str, host: str, port: int | None, credential: Credential
    ) -> urllib3.HTTPConnectionPool:
        if scheme == "http":
            return urllib3.HTTPConnectionPool(host, port)
        access = self._access
        context = ssl.create_default_context(cadata=access.ca_pem or None)
        if access.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        certificate = access.client_certificate or credential.certificate
        key = access.client_key or credential.key
        if certificate and key:
            _load_client_certificate(context, certificate, key)
        named: dict[str, Any] = {"server_hostname": access.tls_server_name or None}
        return urllib3.HTTPSConnectionPool(
            host,
            port,
            ssl_context=context,
            cert_reqs="CERT_NONE" if access.insecure else "CERT_REQUIRED",
            assert_hostname=False if access.insecure else None,
            **named,
        )


def _load_client_certificate(context: ssl.SSLContext, certificate: str, key: str) -> None:
    # `ssl` reads a key from a file only; the folder is private and gone a moment later.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "client.pem")
        path.touch(mode=0o600)
        path.write_text(f"{certificate}\n{key}\n")
        context.load_cert_chain(path)


def _answer(status: int, data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data) if data else {}
    except ValueError:
        document = {}
    if not isinstance(document, dict):
        document = {}
    if status == 401:
        raise ClusterError("the server has asked for the client to provide credentials", status)
    if status >= 400:
        raise ClusterError(document.get("message") or f"the server answered {status}", status)
    return document


def _explain(error: BaseException, address: str) -> str:
    """A failed connection in the words of Go's net/http."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        argument = cause.args[-1] if cause.args else None
        nested = argument if isinstance(argument, BaseException) else None
        cause = cause.__cause__ or cause.__context__ or nested
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            unknown = cause.verify_code in (18, 19, 20, 21)
            reason = "certificate signed by unknown authority" if unknown else cause.verify_message
            return f"tls: failed to verify certificate: x509: {reason}"
        if isinstance(cause, ConnectionRefusedError):
            return f"dial tcp {address}: connect: connection refused"
        if isinstance(cause, socket.gaierror):
            return f"dial tcp: lookup {address.rpartition(':')[0] or address}: no such host"
    for cause in causes:
        if isinstance(cause, TimeoutError | urllib3.exceptions.TimeoutError):
            return f"dial tcp {address}: i/o timeout"
        if isinstance(cause, ssl.SSLError):
            return f"tls: {(cause.reason or 'handshake failure').lower().replace('_', ' ')}"
    return f"{type(error).__name__}: {error}"
