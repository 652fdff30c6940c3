"""The two grounds on which every case is played: the stand-in, and a real cluster that a kubeconfig names.

A ground is a place with an API server, three callers (an administrator, one who may only look, one who may
nothing) and a time. All else is for the cases to make, in corners of their own, and to take away again.
"""

from __future__ import annotations

import ipaddress
import json
import re
import secrets
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import urllib3

from cali_infra.adapters import kubeconfig
from cali_infra.adapters.kubernetes import ClusterAccess, Kubernetes, ObjectRef, ref_of
from cali_infra.sandbox.certificates import Authority
from cali_infra.sandbox.kubernetes.standin import KubernetesStandIn
from cali_infra.sandbox.ports import AccessPolicy, Caller
from contract.timing import RealTime, Time, VirtualTime

KUBECONFIG = "CALI_TEST_KUBECONFIG"
CONSENT = "CALI_TEST_KUBECONFIG_I_MEAN_IT"
# Every name that a case gives begins with this: what is found of it belongs to these tests.
PREFIX = "cali-contract"
# Seconds: a namespace of a real cluster takes its time to go.
_GONE = 180.0
# Kinds of the whole cluster that cases make, with the paths of their lists.
_WIDE = (
    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "/apis/scheduling.k8s.io/v1/priorityclasses",
    "/apis/storage.k8s.io/v1/storageclasses",
    "/api/v1/persistentvolumes",
    "/api/v1/namespaces",
)
_INVENTORIES = "/api/v1/namespaces/kube-system/configmaps"

Object = dict[str, Any]


@dataclass(frozen=True)
class Bearer:
    """A bearer as cali wants it; its value is shown nowhere."""

    value: str = field(repr=False)
    expires_at: datetime | None = None


@dataclass(frozen=True)
class Ground:
    """An API server, and who may do what there. `access` names no caller; callers are told by bearers.

    `mark` stands in the name of everything that is made there; `second` is another bearer of an administrator.
    """

    name: str
    mark: str
    access: ClusterAccess
    admin: str = field(repr=False)
    second: str = field(repr=False)
    viewer: str = field(repr=False)
    outsider: str = field(repr=False)
    time: Callable[[], Time]

    def somebody(self, manager: str = "kubectl-edit") -> Somebody:
        """Another party with all rights, and with a client that is not cali's."""
        return Somebody(replace(self.access, token=lambda: Bearer(self.admin)), manager)


class RefusedError(Exception):
    """The API server's answer to somebody who is not cali."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


class Somebody:
    """Whoever else works in the cluster, and looks at what stands there. It shares no code with the door."""

    def __init__(self, access: ClusterAccess, manager: str = "kubectl-edit") -> None:
        context = ssl.create_default_context(cadata=access.ca_pem.decode() if access.ca_pem else None)
        if not access.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if access.certificate:
            context.load_cert_chain(access.certificate, access.key)
        pool: dict[str, Any] = {"ssl_context": context, "maxsize": 4, "retries": False, "timeout": 30.0}
        if access.server_name:
            pool["server_hostname"] = access.server_name
        self._http = (
            urllib3.ProxyManager(access.proxy, **pool) if access.proxy else urllib3.PoolManager(**pool)
        )
        self._access, self._manager = access, manager

    def get(self, kind: str, name: str, namespace: str = "", group: str = "") -> Object | None:
        """What stands there now, or None."""
        return self.read(f"{collection(kind, namespace, group)}/{name}")

    def read(self, path: str) -> Object | None:
        """What is at a path, or None."""
        try:
            return self.call("GET", path)
        except RefusedError as error:
            if error.status == 404:
                return None
            raise

    def names(self, path: str) -> list[str]:
        """The names in a list."""
        return [item["metadata"]["name"] for item in self.call("GET", path)["items"]]

    def create(self, obj: Object) -> Object:
        return self.call("POST", _collection_of(obj), obj)

    def replace(self, obj: Object) -> Object:
        return self.call("PUT", f"{_collection_of(obj)}/{obj['metadata']['name']}", obj)

    def edit(self, obj: Object, change: Object) -> Object:
        """Merge a change, as `kubectl edit` and `kubectl patch` do."""
        path = f"{_collection_of(obj)}/{obj['metadata']['name']}"
        return self.call("PATCH", path, change, "application/merge-patch+json")

    def apply(self, obj: Object) -> Object:
        """Server-side apply under a name of its own."""
        path = f"{_collection_of(obj)}/{obj['metadata']['name']}"
        return self.call("PATCH", path, obj, "application/apply-patch+yaml")

    def delete(self, path: str, *, wait: float = 0.0) -> None:
        """Delete what is at a path, if it is there; with `wait`, seconds, until it is gone."""
        try:
            self.call("DELETE", path)
        except RefusedError as error:
            if error.status != 404:
                raise
        until = time.monotonic() + wait
        while wait and self.read(path) is not None:
            if time.monotonic() > until:
                raise TimeoutError(f"{path} is still there after {wait:.0f} seconds")
            time.sleep(0.1)

    def call(
        self, method: str, path: str, body: Object | None = None, content_type: str = "application/json"
    ) -> Object:
        """One request. Raises RefusedError."""
        query = {} if method in ("GET", "DELETE") else {"fieldManager": self._manager}
        found: Object = json.loads(self._send(method, path, query, body, content_type).data)
        return found

    def warnings(self, obj: Object) -> list[str]:
        """What the server warns of when it is shown a new object; nothing is made. Raises RefusedError."""
        query = {"fieldManager": self._manager, "dryRun": "All"}
        answer = self._send("POST", _collection_of(obj), query, obj)
        # One header each, or all in one: the code 299, an agent, and the text as a quoted string (RFC 7234, 5.5).
        said = ", ".join(answer.headers.getlist("Warning"))
        return [json.loads(f'"{text}"') for text in re.findall(r'299 \S+ "((?:[^"\\]|\\.)*)"', said)]

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Object | None,
        content_type: str = "application/json",
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Content-Type": content_type}
        if self._access.token:
            headers["Authorization"] = f"Bearer {self._access.token().value}"
        answer = self._http.request(
            method,
            self._access.host.rstrip("/") + path + (f"?{urlencode(query)}" if query else ""),
            body=None if body is None else json.dumps(body),
            headers=headers,
        )
        if answer.status >= 400:
            raise RefusedError(answer.status, answer.data.decode(errors="replace")[:500])
        return answer

    def close(self) -> None:
        self._http.clear()


def _mark() -> str:
    return f"{PREFIX}-{secrets.token_hex(3)}"


def collection(kind: str, namespace: str = "", group: str = "") -> str:
    """The path of a kind's objects; `group` with its version, such as apps/v1, or empty for the core."""
    plural = kind.lower() + ("es" if kind.endswith("s") else "s")
    base = f"/apis/{group}" if group else "/api/v1"
    return f"{base}/namespaces/{namespace}/{plural}" if namespace else f"{base}/{plural}"


def _collection_of(obj: Object) -> str:
    ref: ObjectRef = ref_of(obj)
    return collection(ref.kind, ref.namespace or "", "" if ref.api_version == "v1" else ref.api_version)


# -- the stand-in -------------------------------------------------------------------------------------------


@contextmanager
def stand_in() -> Iterator[Ground]:
    """A cluster of the stand-in, as EKS makes it."""

    def caller(name: str, *policies: AccessPolicy, admin: bool = False) -> Caller:
        return Caller(f"arn:aws:iam::123456789012:role/{name}", name, (), policies, admin)

    people = (
        caller("admin", admin=True),
        caller("second", admin=True),
        caller("viewer", AccessPolicy("AmazonEKSViewPolicy")),
        caller("outsider"),
    )
    tokens = {person.username: secrets.token_hex(16) for person in people}
    callers = {tokens[person.username]: person for person in people}
    standin = KubernetesStandIn(Authority.create(), lambda cluster, token: callers.get(token))
    try:
        address = standin.create("contract", "1.35")
        access = ClusterAccess(address.endpoint, address.ca_pem)
        yield Ground(name="stand-in", mark=_mark(), access=access, time=VirtualTime, **tokens)
    finally:
        standin.close()


# -- a real cluster -----------------------------------------------------------------------------------------


def objection(environ: Mapping[str, str], server: str) -> str:
    """Why a real cluster may not be used for this, or nothing.

    The cases replace the default StorageClass and make ClusterRoleBindings: on this machine's own clusters
    without further ado, elsewhere only when the variable CONSENT names this very server.
    """
    host = urlsplit(server).hostname or ""
    try:
        here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = host == "localhost"
    if here or environ.get(CONSENT) == server:
        return ""
    return (
        f"NOT RUN: {KUBECONFIG} points at {server}, which is not on this machine, and these tests replace its "
        f"default StorageClass. If that is what you want: export {CONSENT}={server}"
    )


@contextmanager
def real_cluster(path: Path) -> Iterator[Ground]:
    """The cluster of a kubeconfig's current context, whose user has to be an administrator.

    The three callers are service accounts with tokens of two hours, in a namespace of their own, which is taken
    away at the end with everything that a case may have left.
    """
    access, run = kubeconfig.read(path, None), _mark()
    owner = Somebody(access)
    try:
        owner.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": run}})
        rights = {"admin": "cluster-admin", "second": "cluster-admin", "viewer": "view", "outsider": ""}
        tokens = {name: _account(owner, run, name) for name in rights}
        for name, role in rights.items():
            if role:
                owner.create(_binding(run, name, role))
        bare = replace(access, token=None, certificate=None, key=None)
        for name, role in rights.items():
            if role:
                _wait_for_rights(bare, Bearer(tokens[name]))
        name = f"real cluster at {urlsplit(access.host).netloc}"
        yield Ground(name=name, mark=run, access=bare, time=RealTime, **tokens)
    finally:
        sweep(owner, run, wait=_GONE)
        owner.close()


def _account(owner: Somebody, namespace: str, name: str) -> str:
    metadata = {"name": name, "namespace": namespace}
    owner.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": 7200},
    }
    path = f"{collection('ServiceAccount', namespace)}/{name}/token"
    return str(owner.call("POST", path, request)["status"]["token"])


def _wait_for_rights(access: ClusterAccess, bearer: Bearer) -> None:
    """A binding works a moment after it was made."""
    caller, until = Somebody(replace(access, token=lambda: bearer)), time.monotonic() + 30.0
    try:
        while True:
            try:
                caller.call("GET", _INVENTORIES)
                return
            except RefusedError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)
    finally:
        caller.close()


def _binding(run: str, account: str, role: str) -> Object:
    rbac = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{rbac}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"{run}-{account}"},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": run}],
    }


def sweep(owner: Somebody, mark: str, *, wait: float = 0.0) -> None:
    """Delete everything of the whole cluster, and every record of a stage, whose name holds `mark`.

    With `wait`, seconds, return only when the namespaces are gone.
    """
    found = [
        f"{path}/{name}" for path in (_INVENTORIES, *_WIDE) for name in owner.names(path) if mark in name
    ]
    for path in found:
        owner.delete(path)
    if wait:
        for path in found:
            owner.delete(path, wait=wait)


# -- what belongs to the whole cluster and is borrowed --------------------------------------------------------


_CLASSES = collection("StorageClass", group="storage.k8s.io/v1")


@contextmanager
def classes_kept(owner: Somebody) -> Iterator[None]:
    """Whatever happens to the cluster's StorageClasses in here, they are afterwards as they were before.

    A class that was deleted gets a new uid; its content, labels, annotations, finalizers and owners are the old
    ones, also after a failure. Only the end of the process before that leaves it undone.
    """
    before = _classes(owner)
    try:
        yield
    finally:
        now = _classes(owner)
        for name in now.keys() - before.keys():
            owner.delete(f"{_CLASSES}/{name}")
        for name, old in before.items():
            _put_back(owner, old, now.get(name))


def _classes(owner: Somebody) -> dict[str, Object]:
    items = owner.call("GET", _CLASSES)["items"]
    stamp = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass"}
    return {item["metadata"]["name"]: {**item, **stamp} for item in items}


def written(obj: Object) -> Object:
    """An object without what the server alone decides."""
    servers = ("uid", "resourceVersion", "creationTimestamp", "generation", "selfLink")
    metadata = {key: value for key, value in obj["metadata"].items() if key not in servers}
    return {**obj, "metadata": metadata}


def _put_back(owner: Somebody, old: Object, live: Object | None) -> None:
    if live is not None and written(live) == written(old):
        return
    fixed = ("provisioner", "parameters", "reclaimPolicy", "volumeBindingMode")
    if live is not None and any(live.get(key) != old.get(key) for key in fixed):
        owner.delete(f"{_CLASSES}/{old['metadata']['name']}")
        live = None
    if live is None:
        owner.create(written(old))
    # A second write, since the first one makes its writer an owner.
    owner.replace(written(old))


# -- one case's corner ----------------------------------------------------------------------------------------


@dataclass
class Corner:
    """A case's own part of a ground: `name` is its namespace, not made yet, and stands in every other name."""

    ground: Ground
    name: str
    somebody: Somebody
    opened: list[Kubernetes] = field(default_factory=list)

    @property
    def stage(self) -> str:
        """A stage of its own, so that the record of a real one is not touched."""
        return self.name

    @property
    def record(self) -> str:
        """How a plan calls that record."""
        return f"ConfigMap kube-system/cali-inventory-{self.stage}"

    def connect(
        self,
        bearer: str | Callable[[], Bearer] = "",
        *,
        through: ClusterAccess | None = None,
        time: Time | None = None,
        **timing: Any,
    ) -> Kubernetes:
        """A door to the ground, as its administrator unless a bearer says otherwise.

        `through` is a server between; `time` the case's own where it has one.
        """
        value = bearer or self.ground.admin
        token = value if callable(value) else lambda: Bearer(value)
        if time is not None:
            timing = {"clock": time.clock, "sleep": time.sleep, **timing}
        door = Kubernetes(replace(through or self.ground.access, token=token), **timing)
        self.opened.append(door)
        return door

    def live(self, kind: str, name: str, group: str = "") -> Object | None:
        """What stands in the corner's namespace now."""
        return self.somebody.get(kind, name, self.name, group)

    def data(self, name: str = "settings") -> Object | None:
        """The data of a ConfigMap there, or None where there is no such ConfigMap."""
        found = self.live("ConfigMap", name)
        return None if found is None else found.get("data", {})

    def recorded(self) -> tuple[bool, dict[str, bool]] | None:
        """The record as it stands in the cluster: whether it is complete, and KIND/NAME to whether cali made it."""
        found = self.somebody.get("ConfigMap", f"cali-inventory-{self.stage}", "kube-system")
        if found is None:
            return None
        items = json.loads(found["data"]["objects"])
        made = {f"{item['kind']}/{item['name']}": item["made"] for item in items}
        return found["data"]["complete"] == "true", made


@contextmanager
def corner(ground: Ground) -> Iterator[Corner]:
    """A corner, taken away afterwards whatever happened in it."""
    somebody = ground.somebody()
    made = Corner(ground, f"{ground.mark}-{secrets.token_hex(3)}", somebody)
    try:
        yield made
    finally:
        for door in made.opened:
            door.close()
        sweep(somebody, made.name)
        somebody.close()
