"""The one door to the Kubernetes API, on the official client.

It owns the connection, the bearer token's life, discovery, retries and server-side apply; the typed errors are
`kubernetes_errors.py`'s, kubeconfigs are `kubeconfig.py`'s. What is applied, in which order and what a difference
means is `core/manifests.py`'s. Objects are plain dicts as the API carries them: building the client's models of
them costs more than the call.
"""

from __future__ import annotations

import ipaddress
import json
import random
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

from cali_infra.adapters.kubernetes_errors import error_from, unreachable
from cali_infra.errors import InvalidObjectError, KubernetesError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient
    from tenacity import RetryCallState

FIELD_MANAGER = "cali"
# Requests at one time: the size of the pool, and of the callers' thread pools.
CONNECTIONS = 16
# One request, in seconds: to connect, and between two bytes.
TIMEOUT = (5.0, 30.0)
# Objects in one page of a list. Source: kubectl's own --chunk-size.
PAGE = 500
# A token this close to its end is not used for another request.
_MARGIN = timedelta(seconds=60)
_RETRIED = frozenset({429, 500, 502, 503, 504})
_LONGEST_DELAY = 5.0

Object = dict[str, Any]


class Token(Protocol):
    """A bearer with the moment at which it ends; None is never."""

    @property
    def value(self) -> str: ...

    @property
    def expires_at(self) -> datetime | None: ...


@dataclass(frozen=True)
class ClusterAccess:
    """How to reach a cluster: its https address, the PEM of its authority, and where bearers come from.

    `certificate` and `key` are files that name the caller instead of a bearer; `server_name` is the name in the
    server's certificate where it is not the address.
    """

    host: str
    ca_pem: bytes | None = None
    token: Callable[[], Token] | None = field(default=None, repr=False)
    certificate: Path | None = None
    key: Path | None = None
    verify: bool = True
    server_name: str | None = None
    proxy: str | None = None


def tls_context(access: ClusterAccess) -> ssl.SSLContext:
    """How a connection of one's own, a WebSocket say, trusts the cluster and names the caller."""
    context = ssl.create_default_context(cadata=access.ca_pem.decode() if access.ca_pem else None)
    # The authority that EKS makes lacks what the strict check of Python 3.13 wants; other clients do not ask.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not access.verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if access.certificate:
        context.load_cert_chain(access.certificate, access.key)
    return context


@dataclass(frozen=True)
class ObjectRef:
    """The identity of an object; `namespace` is None for what belongs to the whole cluster."""

    api_version: str
    kind: str
    namespace: str | None
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def ref_of(obj: Mapping[str, Any]) -> ObjectRef:
    """The identity of an object that was read or rendered."""
    meta = obj["metadata"]
    return ObjectRef(obj["apiVersion"], obj["kind"], meta.get("namespace"), meta["name"])


@dataclass(frozen=True)
class _Kind:
    """What discovery says of a kind."""

    plural: str
    namespaced: bool


@dataclass(frozen=True)
class _Call:
    """One request as it is sent; `what` names the object, for a person."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Object | None
    content_type: str
    what: str


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    data: bytes


class _TryAgainError(Exception):
    """A call that may well work when it is sent again, with the error to raise when it does not.

    `patience` is how long, in seconds, this kind of trouble is borne; `pause` how long the server asks to wait.
    """

    def __init__(self, error: KubernetesError, patience: float, pause: float = 0.0) -> None:
        super().__init__(error.message)
        self.error, self.patience, self.pause = error, patience, pause


class Kubernetes:
    """A connection to one cluster; safe to use from several threads.

    `grace` is for how many seconds a 401 is retried: a new access entry takes a while to work. `patience` is
    for how many seconds a busy, failing or unreachable API is retried before a request is given up. `timeout` is
    for one request, in seconds: to connect, and between two bytes.
    """

    def __init__(
        self,
        access: ClusterAccess,
        *,
        grace: float = 0.0,
        patience: float = 30.0,
        timeout: tuple[float, float] = TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.host = access.host.rstrip("/")
        self._access = access
        self._bearer = _Bearer(access.token, now)
        self._grace, self._patience, self._timeout = grace, patience, timeout
        self._clock, self._sleep, self._jitter = clock, sleep, jitter
        self._lock = threading.Lock()
        self._client: ApiClient | None = None
        self._kinds: dict[str, dict[str, _Kind]] = {}

    @classmethod
    def from_kubeconfig(
        cls,
        path: Path,
        context: str | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        **timing: Any,
    ) -> Kubernetes:
        """A connection as a kubeconfig describes it; its own exec plugin, token or certificate is used.

        `environ` is the environment of an exec plugin; `timing` as for a new object. Raises UnreachableError when
        the file or the context is not usable.
        """
        from cali_infra.adapters import kubeconfig

        return cls(kubeconfig.read(path, context, environ), **timing)

    def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        with self._lock:
            client: Any = self._client
            self._client = None
        if client is not None:
            client.close()

    @property
    def access(self) -> ClusterAccess:
        """How the cluster is reached, for what is no request: a connection that is upgraded."""
        return self._access

    def bearer(self, rejected: str | None = None) -> str | None:
        """The bearer to send now, None where the caller is known by something else; not the one `rejected`."""
        if rejected is not None:
            self._bearer.drop(rejected)
        return self._bearer.get()

    # -- objects ----------------------------------------------------------------------------------------

    def version(self) -> str:
        """The server's version, such as v1.35.0-eks-1234567."""
        return str(self._request("GET", "/version")["gitVersion"])

    def whoami(self) -> str:
        """The name under which the cluster knows the caller; everybody whom it knows may ask."""
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        found = self._request("POST", path, body=review, what="SelfSubjectReview")
        return str(found["status"]["userInfo"]["username"])

    def get(self, ref: ObjectRef) -> Object | None:
        """The object, or None where there is none."""
        return self._request("GET", self._path(ref), what=str(ref), missing_ok=True) or None

    def list(
        self,
        api_version: str,
        kind: str,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> list[Object]:
        """Every object of a kind, in one namespace or all; each carries its apiVersion and kind."""
        query = {"limit": str(PAGE)}
        if labels:
            query["labelSelector"] = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
        path = self._collection(api_version, kind, namespace)
        found: list[Object] = []
        while True:
            try:
                page = self._request("GET", path, query, what=kind)
            except KubernetesError as error:
                # The list was too long on its way and its snapshot is gone: from the beginning, in one piece.
                if error.status != 410 or "continue" not in query:
                    raise
                found.clear()
                query = {key: value for key, value in query.items() if key not in ("limit", "continue")}
                continue
            found += [{"apiVersion": api_version, "kind": kind, **item} for item in page["items"]]
            marker = page.get("metadata", {}).get("continue")
            if not marker:
                return found
            query = {**query, "continue": marker}

    def apply(self, obj: Object, *, dry_run: bool = False, force: bool = False) -> Object:
        """Server-side apply as field manager `cali`; returns the object as it is then, or would be.

        Raises ConflictError when another manager owns a field that is set, unless `force`.
        """
        ref = ref_of(obj)
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        if force:
            query["force"] = "true"
        if dry_run:
            query["dryRun"] = "All"
        return self._request(
            "PATCH", self._path(ref), query, obj, "application/apply-patch+yaml", what=str(ref)
        )

    def create(self, obj: Object, *, dry_run: bool = False) -> Object:
        """Create an object that is not there yet."""
        ref = ref_of(obj)
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        path = self._collection(ref.api_version, ref.kind, ref.namespace)
        return self._request("POST", path, query, obj, what=str(ref))

    def patch(self, ref: ObjectRef, change: Object) -> Object:
        """Merge a change into an object; a null removes a key."""
        query = {"fieldManager": FIELD_MANAGER}
        return self._request(
            "PATCH", self._path(ref), query, change, "application/merge-patch+json", what=str(ref)
        )

    def delete(self, ref: ObjectRef, *, wait: float | None = None, uid: str | None = None) -> bool:
        """Delete an object with all that it owns; False where there was none.

        With `wait`, seconds, return only when it is gone; raises KubernetesError when it is not by then. With
        `uid` only that very object is deleted: another one that took its name since makes a ConflictError.
        """
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid:
            body["preconditions"] = {"uid": uid}
        found = self._request("DELETE", self._path(ref), body=body, what=str(ref), missing_ok=True)
        if not found:
            return False
        if wait is not None:
            self.wait_until_gone(ref, wait, uid=uid)
        return True

    def wait_until_gone(self, ref: ObjectRef, wait: float, *, uid: str | None = None) -> None:
        """Return when an object that was deleted is gone; raises KubernetesError when it is not after `wait`
        seconds."""
        until = self._clock() + wait
        while self._still_there(ref, uid):
            if self._clock() > until:
                raise KubernetesError(
                    f"{ref} is still there {wait:.0f} seconds after it was deleted",
                    object_ref=str(ref),
                    remedy=_what_holds(ref),
                )
            self._sleep(0.5)

    def log(
        self, namespace: str, pod: str, *, container: str = "", previous: bool = False, lines: int = 20
    ) -> str:
        """The last lines that a container wrote."""
        query = {"tailLines": str(lines)}
        if container:
            query["container"] = container
        if previous:
            query["previous"] = "true"
        path = f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(pod)}/log"
        call = _Call("GET", path, query, None, "", f"log of {namespace}/{pod}")
        return self._send(call).decode(errors="replace")

    def _still_there(self, ref: ObjectRef, uid: str | None) -> bool:
        live = self.get(ref)
        return live is not None and uid in (None, live["metadata"].get("uid"))

    # -- paths ------------------------------------------------------------------------------------------

    def _path(self, ref: ObjectRef) -> str:
        return f"{self._collection(ref.api_version, ref.kind, ref.namespace, one=True)}/{quote(ref.name)}"

    def _collection(self, api_version: str, kind: str, namespace: str | None, *, one: bool = False) -> str:
        """The path of a kind's objects in a namespace, or in all of them; of `one` it is never all."""
        base = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        found = self._kind(api_version, kind, base)
        if not found.namespaced:
            return f"{base}/{found.plural}"
        if namespace is None and one:
            raise InvalidObjectError(
                f"{kind}: the object names no namespace",
                fields=["metadata.namespace"],
                remedy="set metadata.namespace in the manifest, or namespace in the kustomization",
            )
        return f"{base}{f'/namespaces/{quote(namespace)}' if namespace else ''}/{found.plural}"

    def _kind(self, api_version: str, kind: str, base: str) -> _Kind:
        with self._lock:
            known = self._kinds.get(api_version, {})
        if kind not in known:
            # Not asked yet, or the kind came with a CustomResourceDefinition since.
            known = self._discover(api_version, base)
        if kind not in known:
            raise InvalidObjectError(
                f"the cluster has no kind {kind} in {api_version}",
                fields=["apiVersion", "kind"],
                remedy="check apiVersion and kind, or install the CustomResourceDefinition first",
            )
        return known[kind]

    def _discover(self, api_version: str, base: str) -> dict[str, _Kind]:
        resources = self._request("GET", base, what=api_version, missing_ok=True).get("resources") or []
        known = {
            item["kind"]: _Kind(item["name"], bool(item["namespaced"]))
            for item in resources
            if "/" not in item["name"]
        }
        with self._lock:
            self._kinds[api_version] = known
        return known

    # -- requests ---------------------------------------------------------------------------------------

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
        *,
        what: str = "",
        missing_ok: bool = False,
    ) -> Object:
        try:
            raw = self._send(_Call(method, path, query or {}, body, content_type, what))
        except KubernetesError as error:
            if missing_ok and error.status == 404:
                return {}
            raise
        found: Object = json.loads(raw)
        return found

    def _send(self, call: _Call) -> bytes:
        """One request with its retries: 401 once with a new bearer and then for as long as `grace` lasts, 429,
        5xx and lost connections for as long as `patience` lasts, any other 4xx never."""
        from tenacity import Retrying, retry_if_exception_type

        started, rejected = self._clock(), set[str]()

        def attempt() -> bytes:
            bearer = self._bearer.get()
            answer = self._exchange(call, bearer)
            if answer.status == 401 and bearer is not None and not rejected:
                rejected.add(bearer)
                self._bearer.drop(bearer)
                answer = self._exchange(call, self._bearer.get())
            if answer.status < 400:
                return answer.data
            error = error_from(answer.status, answer.data, call.what)
            if answer.status == 401:
                raise _TryAgainError(error, self._grace)
            if answer.status in _RETRIED and not isinstance(error, InvalidObjectError):
                raise _TryAgainError(error, self._patience, _retry_after(answer.headers))
            raise error

        def wait(state: RetryCallState) -> float:
            # Apart from each other, or all threads come back at once.
            delay = min(0.2 * 2 ** (state.attempt_number - 1), _LONGEST_DELAY) * (0.5 + self._jitter() / 2)
            return float(max(delay, _again(state).pause))

        def give_up(state: RetryCallState) -> bool:
            return self._clock() - started + state.upcoming_sleep > _again(state).patience

        retrying = Retrying(
            retry=retry_if_exception_type(_TryAgainError),
            wait=wait,
            stop=give_up,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return retrying(attempt)
        except _TryAgainError as again:
            raise again.error from again.__cause__

    def _exchange(self, call: _Call, bearer: str | None) -> _Answer:
        """Send it once; raises _TryAgainError when there is no answer, UnreachableError when there can be none."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        headers = {"Accept": "application/json", "User-Agent": "cali"}
        if bearer is not None:
            headers["Authorization"] = f"Bearer {bearer}"
        payload = None
        if call.body is not None:
            headers["Content-Type"] = call.content_type
            # The client serialises JSON by itself, whatever kind of it, and takes text for the rest.
            payload = call.body if call.content_type.endswith("json") else json.dumps(call.body)
        url = self.host + call.path + (f"?{urlencode(call.query)}" if call.query else "")
        try:
            answer: Any = self._connection().call_api(
                call.method, url, headers, payload, _request_timeout=self._timeout
            )
            return _Answer(answer.status, answer.headers, answer.read())
        except (ApiException, HTTPError, OSError) as error:
            lost = unreachable(self.host, _words(error), call.what)
            if "CERTIFICATE" in str(error).upper():
                raise lost from error
            raise _TryAgainError(lost, self._patience) from error

    def _connection(self) -> ApiClient:
        with self._lock:
            if self._client is None:
                from kubernetes.client import ApiClient, Configuration

                access = self._access
                configuration: Any = Configuration(host=self.host)
                configuration.connection_pool_maxsize = CONNECTIONS
                # Retries are counted in one place, `_send`.
                configuration.retries = False
                configuration.verify_ssl = access.verify
                configuration.ca_cert_data = access.ca_pem.decode() if access.ca_pem else None
                configuration.cert_file = str(access.certificate) if access.certificate else None
                configuration.key_file = str(access.key) if access.key else None
                configuration.tls_server_name = access.server_name
                if access.proxy is not None or is_loopback(self.host):
                    # As kubectl does: no proxy of the environment is asked for what is on this machine.
                    configuration.proxy = access.proxy
                self._client = ApiClient(configuration)
            return self._client


class _Bearer:
    """The bearer at hand: fetched when it is first needed, and anew before it ends."""

    def __init__(self, fetch: Callable[[], Token] | None, now: Callable[[], datetime]) -> None:
        self._fetch, self._now = fetch, now
        self._lock = threading.Lock()
        self._token: Token | None = None

    def get(self) -> str | None:
        """The bearer to send, or None where the caller is known by something else."""
        if self._fetch is None:
            return None
        with self._lock:
            token = self._token
            if token is None or (token.expires_at is not None and token.expires_at - _MARGIN <= self._now()):
                token = self._token = self._fetch()
            return token.value

    def drop(self, rejected: str) -> None:
        """Forget a bearer that was refused, unless another thread has fetched a new one since."""
        with self._lock:
            if self._token is not None and self._token.value == rejected:
                self._token = None


def _again(state: RetryCallState) -> _TryAgainError:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, _TryAgainError)
    return error


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that the server asks to wait; its other form, a date, no API server uses."""
    try:
        return float(headers.get("Retry-After") or 0)
    except ValueError:
        return 0.0


def _what_holds(ref: ObjectRef) -> str:
    """How to see what keeps an object that was deleted; of a namespace its conditions say what is left in it."""
    if ref.kind == "Namespace":
        return f"kubectl get namespace {ref.name} -o jsonpath='{{.status.conditions}}'"
    where = f" -n {ref.namespace}" if ref.namespace else ""
    return f"kubectl get {ref.kind.lower()} {ref.name}{where} -o jsonpath='{{.metadata.finalizers}}'"


def is_loopback(url: str) -> bool:
    """Whether the address of a URL is on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _words(error: Exception) -> str:
    """What the network said, without the client's frames around it."""
    text = str(getattr(error, "reason", None) or error)
    return text.splitlines()[-1] if text else type(error).__name__
