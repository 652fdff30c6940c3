"""The one door to the Kubernetes API, on the official client.

It owns the connection, the bearer token's life, discovery, retries and server-side apply; the typed errors are
`kubernetes_errors.py`'s. What is applied, in which order and what a difference means is `core/manifests.py`'s.
Objects are plain dicts as the API carries them.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlencode

from cali_infra.adapters.kubernetes_errors import error_from
from cali_infra.errors import KubernetesError, UnauthorizedError, UnreachableError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

FIELD_MANAGER = "cali"
CONNECTIONS = 16
# One request, in seconds: to connect, and between two bytes.
TIMEOUT = (5.0, 30.0)
# A token this close to its end is not used for another request.
_MARGIN = timedelta(seconds=60)
_RETRIED = frozenset({429, 500, 502, 503, 504})

Object = dict[str, Any]


class Token(Protocol):
    """A bearer with the moment at which it ends."""

    @property
    def value(self) -> str: ...

    @property
    def expires_at(self) -> datetime: ...


@dataclass(frozen=True)
class ClusterAccess:
    """How to reach a cluster: its https address, the PEM of its authority, and where bearers come from."""

    host: str
    ca_pem: bytes | None = None
    token: Callable[[], Token] | None = None


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


class Kubernetes:
    """A connection to one cluster; safe to use from several threads.

    `grace` is for how many seconds a 401 is retried: a new access entry takes a while to work. `patience` is
    for how many seconds a busy, failing or unreachable API is retried before a request is given up.
    """

    def __init__(
        self,
        access: ClusterAccess,
        *,
        grace: float = 0.0,
        patience: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.host = access.host
        self._access = access
        self._grace, self._patience = grace, patience
        self._clock, self._now, self._sleep = clock, now, sleep
        self._lock = threading.Lock()
        self._client: ApiClient | None = None
        self._token: Token | None = None
        self._kinds: dict[str, dict[str, _Kind]] = {}

    @classmethod
    def from_kubeconfig(cls, path: Path, context: str | None = None) -> Kubernetes:
        """A connection as a kubeconfig describes it; its own exec or token is used.

        Raises UnreachableError when the file or the context is not usable.
        """
        from kubernetes import config
        from kubernetes.client import ApiClient, Configuration

        configuration = Configuration()
        try:
            load: Any = config.load_kube_config
            load(str(path), context, configuration, persist_config=False)
        except (config.ConfigException, OSError) as error:
            raise UnreachableError(
                f"{path}: {error}", remedy="check the file and the name of the context"
            ) from error
        configuration.connection_pool_maxsize = CONNECTIONS
        configuration.retries = False
        connection = cls(ClusterAccess(configuration.host))
        connection._client = ApiClient(configuration)
        return connection

    # -- objects ----------------------------------------------------------------------------------------

    def version(self) -> str:
        """The server's version, such as v1.35.0-eks-1234567."""
        return str(self._request("GET", "/version")["gitVersion"])

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
        query: dict[str, str] = {"limit": "500"}
        if labels:
            query["labelSelector"] = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
        found: list[Object] = []
        while True:
            page = self._request("GET", self._collection(api_version, kind, namespace), query, what=kind)
            found += [{"apiVersion": api_version, "kind": kind, **item} for item in page["items"]]
            marker = page.get("metadata", {}).get("continue")
            if not marker:
                return found
            query["continue"] = marker

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

    def delete(self, ref: ObjectRef, *, wait: float | None = None) -> bool:
        """Delete an object with all that it owns; False where there was none.

        With `wait`, seconds, return only when it is gone; raises KubernetesError when it is not by then.
        """
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        found = self._request("DELETE", self._path(ref), body=body, what=str(ref), missing_ok=True)
        if not found:
            return False
        if wait is not None:
            until = self._clock() + wait
            while self.get(ref) is not None:
                if self._clock() > until:
                    raise KubernetesError(
                        f"{ref} is still there {wait:.0f} seconds after it was deleted",
                        object_ref=str(ref),
                        remedy="look for finalizers: kubectl get "
                        f"{ref.kind} {ref.name} -o jsonpath='{{.metadata.finalizers}}'",
                    )
                self._sleep(0.5)
        return True

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
        return self._send("GET", path, query, None, "", f"log of {namespace}/{pod}").decode(errors="replace")

    # -- paths ------------------------------------------------------------------------------------------

    def _path(self, ref: ObjectRef) -> str:
        return f"{self._collection(ref.api_version, ref.kind, ref.namespace)}/{quote(ref.name)}"

    def _collection(self, api_version: str, kind: str, namespace: str | None) -> str:
        base = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        found = self._kind(api_version, kind, base)
        where = f"/namespaces/{quote(namespace)}" if namespace and found.namespaced else ""
        return f"{base}{where}/{found.plural}"

    def _kind(self, api_version: str, kind: str, base: str) -> _Kind:
        with self._lock:
            known = self._kinds.get(api_version)
        if known is None:
            resources = self._request("GET", base, what=api_version)["resources"]
            known = {
                item["kind"]: _Kind(item["name"], bool(item["namespaced"]))
                for item in resources
                if "/" not in item["name"]
            }
            with self._lock:
                self._kinds[api_version] = known
        if kind not in known:
            raise KubernetesError(
                f"the cluster has no kind {kind} in {api_version}",
                remedy="check apiVersion and kind, or install the CustomResourceDefinition first",
            )
        return known[kind]

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
            raw = self._send(method, path, query or {}, body, content_type, what)
        except KubernetesError as error:
            if missing_ok and error.status == 404:
                return {}
            raise
        found: Object = json.loads(raw)
        return found

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Object | None,
        content_type: str,
        what: str,
    ) -> bytes:
        """One request with its retries: 401 once with a new token and then for as long as `grace` lasts, 429,
        5xx and lost connections for as long as `patience` lasts, any other 4xx never."""
        started, delay, refreshed = self._clock(), 0.2, False
        while True:
            status, headers, data, failure = self._once(method, path, query, body, content_type)
            waited = self._clock() - started
            if failure is None and status < 400:
                return data
            if status == 401 and not refreshed:
                refreshed = True
                with self._lock:
                    self._token = None
                continue
            bound = self._grace if status == 401 else self._patience
            again = status == 401 or status in _RETRIED or failure is not None
            if not again or waited + delay > bound:
                raise self._failed(status, data, what, failure)
            self._sleep(max(delay, _retry_after(headers)))
            delay = min(delay * 2, 5.0)

    def _once(
        self, method: str, path: str, query: Mapping[str, str], body: Object | None, content_type: str
    ) -> tuple[int, Mapping[str, str], bytes, Exception | None]:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        client = self._connection()
        headers = {"Accept": "application/json", "User-Agent": client.user_agent}
        if self._access.token:
            headers["Authorization"] = f"Bearer {self._bearer()}"
        else:
            client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        if body is not None:
            headers["Content-Type"] = content_type
        url = self.host + path + (f"?{urlencode(query)}" if query else "")
        # The client serialises bodies of some content types by itself and takes text for the others.
        payload = body if content_type == "application/json" or body is None else json.dumps(body)
        try:
            answer: Any = client.call_api(method, url, headers, payload, _request_timeout=TIMEOUT)
            return answer.status, answer.headers, answer.read(), None
        except (ApiException, HTTPError, OSError) as error:
            return 0, {}, b"", error

    def _failed(self, status: int, data: bytes, what: str, failure: Exception | None) -> KubernetesError:
        if failure is not None:
            return UnreachableError(
                f"the Kubernetes API at {self.host} cannot be reached: {_short(failure)}",
                object_ref=what,
                remedy="check that your address is in allowed_cidrs and that the cluster is ACTIVE: "
                "aws eks describe-cluster",
            )
        error = error_from(status, data, what)
        if isinstance(error, UnauthorizedError) and self._token is None:
            error.remedy = "check your AWS credentials: aws sts get-caller-identity"
        return error

    def _connection(self) -> ApiClient:
        with self._lock:
            if self._client is None:
                from kubernetes.client import ApiClient, Configuration

                configuration = Configuration(host=self.host)
                configuration.connection_pool_maxsize = CONNECTIONS
                configuration.retries = False
                if self._access.ca_pem:
                    configuration.ca_cert_data = self._access.ca_pem.decode()
                self._client = ApiClient(configuration)
            return self._client

    def _bearer(self) -> str:
        assert self._access.token is not None
        with self._lock:
            if self._token is None or self._token.expires_at - _MARGIN <= self._now():
                self._token = self._access.token()
            return self._token.value


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        return min(float(headers.get("Retry-After", 0)), 30.0)
    except ValueError:
        return 0.0


def _short(failure: Exception) -> str:
    reason = getattr(failure, "reason", None) or failure
    return str(reason).splitlines()[-1] if str(reason) else type(failure).__name__
