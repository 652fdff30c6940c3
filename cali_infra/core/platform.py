"""One run's whole equipment: settings, doors and a driver for every stage, put together in one place.

It decides nothing about order or approval (`deploy.py`, `destroy.py`) and opens no connection before it is
needed: only STS is asked who is calling; the rest waits for its stage.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from importlib import import_module
from secrets import token_bytes
from threading import Event, Lock
from typing import TYPE_CHECKING

from cali_infra.core import access, assets, diagnostics, health, stacks
from cali_infra.core.access_change import Turn, adoptions
from cali_infra.core.cluster_stages import ClusterStage, Work
from cali_infra.core.drivers import StageDriver
from cali_infra.core.inputs import Inputs
from cali_infra.core.progress import Progress
from cali_infra.core.recovery import Recovery
from cali_infra.core.stacks import Contention, Import, TerraformStage
from cali_infra.core.stages import BY_NAME, STAGES, Kind, closure
from cali_infra.core.target import Target
from cali_infra.core.workspace import Owner, Workspace
from cali_infra.errors import PreconditionError, WrongTargetError

if TYPE_CHECKING:
    from cali_infra.adapters.aws import Aws, Identity
    from cali_infra.adapters.aws_access import AccessEntry
    from cali_infra.adapters.kubernetes import Kubernetes
    from cali_infra.adapters.terraform import Terraform
    from cali_infra.core.access_change import AccessStack
    from cali_infra.core.lease import Lease
    from cali_infra.core.search_users import SearchUsers
    from cali_infra.core.secrets import Secrets
    from cali_infra.core.settings import Settings

# A new access entry takes seconds to work; for so many of them a 401 is asked again.
_GRACE = 60.0
# For so many seconds a busy, failing or unreachable API is asked again.
_PATIENCE = 30.0
# From so many principals on, the list of a cluster's entries is asked for instead of each.
_MANY = 16
# For so many seconds who only looks waits for a cluster that does not answer.
_QUICK = 5.0

MakeStack = Callable[[str, Callable[[], Mapping[str, object]], Contention], TerraformStage]


@dataclass(frozen=True)
class Platform:
    """What a command works with. `owner` is the caller's account, region and realm."""

    target: Target
    settings: Settings
    secrets: Secrets
    workspace: Workspace
    aws: Aws
    terraform: Terraform
    identity: Identity
    owner: Owner
    inputs: Inputs
    drivers: dict[str, StageDriver]
    kubernetes: Callable[[], Kubernetes]
    make_stack: MakeStack

    def access_stack(self, turn: Turn) -> AccessStack:
        """The stack `access` for a command that changes a part of it; `turn` keeps other operators out."""
        from cali_infra.core.access_change import AccessStack

        def make(
            variables: Callable[[], Mapping[str, object]], imports: Callable[[], Sequence[Import]]
        ) -> TerraformStage:
            return self.make_stack(access.STACK, variables, Contention(imports=imports))

        return AccessStack(
            make=make,
            needs=[self.stack(need) for need in BY_NAME[access.STACK].needs],
            variables=self.inputs.access_with,
            entries=partial(_entries, self.aws, self.settings.cluster_name),
            cluster=self.settings.cluster_name,
            turn=turn,
        )

    def cluster_at_hand(self) -> Kubernetes | None:
        """The cluster as it can be asked before any state is read; None where there is none to ask yet."""
        from cali_infra.adapters.kubernetes import Kubernetes
        from cali_infra.core import cluster_access

        target, found = self.target, self.aws.cluster(self.settings.cluster_name)
        named = None
        if target.kubeconfig is not None:
            named = Kubernetes.from_kubeconfig(
                target.kubeconfig, target.context, environ=target.environ, patience=_QUICK
            )
            if target.rehearsal:
                return named
        if found is None or not found.endpoint or not found.ca:
            return None
        if named is None:
            return Kubernetes(cluster_access.access_to(self.aws, found), patience=_QUICK)
        # Another cluster is the stages' to refuse; here it is left alone.
        return named if named.host.rstrip("/").lower() == found.endpoint.rstrip("/").lower() else None

    def search_endpoint(self) -> str:
        """The domain's `host` or `host:port` by its name; empty where there is none yet."""
        domain = self.aws.domain(self.settings.domain_name)
        return domain.endpoint if domain is not None and not domain.deleted else ""

    def search_users(self) -> SearchUsers | None:
        """The teammates' own users of the domain; None where there is no domain yet."""
        from cali_infra.adapters.opensearch import OpenSearch
        from cali_infra.core.search_users import SearchUsers

        endpoint = self.search_endpoint()
        if not endpoint:
            return None
        domain = OpenSearch(
            endpoint,
            self.settings.search.master_username,
            self.secrets.opensearch.master_password,
            self.target.search_ca,
            patience=_QUICK,
        )
        return SearchUsers(domain, self.workspace.handover)

    def whoami(self) -> Callable[[Aws], str]:
        """A call that tells whom the cluster takes the caller with a door's keys for, and may be made again and
        again: the cluster is looked up once. It raises CaliError."""
        from cali_infra.core import cluster_access

        cluster = cache(lambda: cluster_access.find(self.aws, self.settings.cluster_name))
        return lambda door: cluster_access.whoami(door, cluster(), patience=_QUICK)

    def stack(self, name: str) -> TerraformStage:
        """The driver of a Terraform stage."""
        driver = self.drivers[name]
        assert isinstance(driver, TerraformStage)
        return driver

    def changed_at(self, name: str) -> str | None:
        """When the state of a stack was last written, RFC 3339 in UTC; None where that is not known."""
        state = self.settings.state
        if state.backend == "s3" and state.bucket:
            key = stacks.state_key(self.settings, name)
            moment = self.aws.object_modified(state.bucket, key)
        else:
            path = self.workspace.stack(name) / stacks.LOCAL_STATE
            moment = datetime.fromtimestamp(path.stat().st_mtime, UTC) if path.exists() else None
        return access.timestamp(moment) if moment else None


def open_platform(
    target: Target,
    settings: Settings,
    secrets: Secrets,
    *,
    redact: Callable[[str], str],
    now: datetime,
    clock: Callable[[], float],
    force_conflicts: bool = False,
    brief: bool = False,
) -> Platform:
    """Check tools and caller, then put everything together.

    With `force_conflicts` stages take over fields of Kubernetes objects that other managers hold. With `brief` a
    cluster that does not answer, or does not know the caller, is given up within seconds: that is the answer.
    Raises PreconditionError for a missing or old Terraform, AwsError when the caller is unknown, and
    WrongTargetError when the workspace belongs to another account, region or realm; nothing is touched then.
    """
    from cali_infra.adapters.aws import Aws
    from cali_infra.adapters.kustomize import Kustomize
    from cali_infra.adapters.terraform import Terraform

    workspace = Workspace(target.workspace)
    aws = Aws(settings.region, target.environ, settings.profile)
    terraform = Terraform(
        settings.terraform_binary,
        environ=target.environ,
        log=workspace.log,
        redact=redact,
        plugin_cache=workspace.plugin_cache,
    )
    with ThreadPoolExecutor(2) as pool:
        version, caller = pool.submit(terraform.version), pool.submit(aws.identity)
        version.result()
        identity = caller.result()
    owner = Owner(identity.account, settings.region, target.realm)
    workspace.check_owner(owner)
    workspace.create()

    drivers: dict[str, StageDriver] = {}

    def stack(name: str) -> TerraformStage:
        driver = drivers[name]
        assert isinstance(driver, TerraformStage)
        return driver

    def make_stack(
        name: str, variables: Callable[[], Mapping[str, object]], contention: Contention
    ) -> TerraformStage:
        stage = BY_NAME[name]
        return TerraformStage(
            stage,
            terraform=terraform,
            workspace=workspace,
            source=assets.folder("terraform") / name,
            backend=stacks.backend(settings, name),
            variables=variables,
            needs=[drivers[need] for need in stage.needs],
            recovery=recovery,
            contention=contention,
            witness=witnesses.get(name, lambda watch: nullcontext()),
        )

    inputs = Inputs(
        settings, secrets, identity.account, identity.arn, now, lambda name: stack(name).outputs()
    )

    def cluster() -> object:
        eks = stack("eks").outputs()
        return eks.get("cluster_endpoint"), eks.get("cluster_ca")

    imports = _Imports()

    def connect_cluster() -> Kubernetes:
        imports("kubernetes.client", "tenacity")
        if brief:
            return _connect(target, settings, aws, stack, grace=_QUICK, patience=_QUICK)
        return _connect(target, settings, aws, stack)

    kubernetes = _Once(connect_cluster, cluster)
    witnesses = {
        name: diagnostics.Witness(
            name, places, kubernetes, workspace.diagnostics, redact, lambda: datetime.now(UTC)
        ).watching
        for name, places in diagnostics.PLACES.items()
    }
    kustomize = Kustomize(environ=target.environ)
    manifests = assets.folder("k8s")

    def storage() -> Work:
        from cali_infra.core.storage_class import StorageClassWork

        render = partial(kustomize.render, manifests / "storage-class")
        return StorageClassWork("storage", kubernetes(), render)

    def index() -> Work:
        imports("opensearchpy", "tenacity")
        from cali_infra.adapters.opensearch import OpenSearch
        from cali_infra.core.index import IndexWork

        endpoint = str(stack("search").outputs()["opensearch_endpoint"])
        connect = partial(OpenSearch, endpoint, ca_file=target.search_ca)
        return IndexWork(connect, settings, secrets)

    def logging() -> Work:
        from cali_infra.core import fluent_bit
        from cali_infra.core.manifests import ManifestWork

        objects = partial(
            fluent_bit.objects,
            workspace.manifests / "fluent-bit",
            settings=settings,
            secrets=secrets,
            endpoint=str(stack("search").outputs()["opensearch_endpoint"]),
            render=kustomize.render,
        )
        return ManifestWork("logging", kubernetes(), objects, force=force_conflicts)

    def services() -> Work:
        from cali_infra.core import service_secrets
        from cali_infra.core.manifests import ManifestWork
        from cali_infra.core.rotation import RotatingWork

        endpoint = str(stack("search").outputs()["opensearch_endpoint"])
        objects = partial(service_secrets.objects, settings, secrets, endpoint)
        # The namespace of a service that is switched off holds its volumes.
        work = ManifestWork(
            service_secrets.STAGE, kubernetes(), objects, force=force_conflicts, keep=("Namespace",)
        )
        return RotatingWork(work, kubernetes(), token_bytes)

    makers: dict[str, Callable[[], Work]] = {
        "storage": storage,
        "index": index,
        "logging": logging,
        "service-secrets": services,
    }
    recovery = Recovery(terraform, partial(health.inspect, aws), clock)
    record = Contention(
        turn=partial(_turn, settings, workspace, aws, identity.arn),
        imports=lambda: adoptions(
            stack(access.STACK).snapshot,
            inputs.access().record,
            partial(_entries, aws, settings.cluster_name),
            settings.cluster_name,
        ),
        # Whoever is on record as revoked was taken out on purpose.
        decided=lambda: [access.instance(access.ENTRY, arn) for arn in inputs.access().record.revoked],
    )
    # In the graph's order: what a stage needs is there before it.
    for stage in STAGES:
        below = [drivers[need] for need in stage.needs]
        if stage.kind is Kind.TERRAFORM:
            contention = record if stage.name == access.STACK else Contention()
            drivers[stage.name] = make_stack(stage.name, partial(inputs.variables, stage.name), contention)
        else:
            drivers[stage.name] = ClusterStage(
                stage,
                stacks=[stack(s.name) for s in closure(stage.name) if s.kind is Kind.TERRAFORM],
                below=[driver for driver in below if isinstance(driver, ClusterStage)],
                make=makers[stage.name],
            )
    return Platform(
        target,
        settings,
        secrets,
        workspace,
        aws,
        terraform,
        identity,
        owner,
        inputs,
        drivers,
        kubernetes,
        make_stack,
    )


def _entries(aws: Aws, cluster: str, arns: Collection[str]) -> Sequence[AccessEntry]:
    """The cluster's access entries of these principals."""
    if len(arns) > _MANY:
        everybody = aws.access_entries(cluster) or ()
        return [entry for entry in everybody if entry.principal_arn in set(arns)]
    return [entry for arn in arns if (entry := aws.access_entry(cluster, arn)) is not None]


def _turn(
    settings: Settings, workspace: Workspace, aws: Aws, caller: str, watch: Progress, cancel: Event
) -> AbstractContextManager[Lease]:
    """The turn of `up` at the record of access."""
    from cali_infra.core.lease import lease_for
    from cali_infra.core.turns import Waiting

    waiting = Waiting(cancel, partial(watch.note, stage=access.STACK))
    return lease_for(settings, workspace, aws, operation="up", caller=caller, waiting=waiting)


class _Imports:
    """Imports packages for stages that start at the same time, one thread at a time.

    Both clients import themselves in circles: a thread that comes in the middle would see half a module.
    """

    def __init__(self) -> None:
        self._lock = Lock()

    def __call__(self, *packages: str) -> None:
        with self._lock:
            for package in packages:
                import_module(package)


class _Once:
    """A connection that is made when it is first asked for, and shared for as long as the cluster is the same.

    A cluster that is replaced within a run has another endpoint and another certificate: `cluster` tells.
    """

    def __init__(self, make: Callable[[], Kubernetes], cluster: Callable[[], object]) -> None:
        self._make = make
        self._cluster = cluster
        self._lock = Lock()
        self._made: tuple[object, Kubernetes] | None = None

    def __call__(self) -> Kubernetes:
        with self._lock:
            cluster = self._cluster()
            if self._made is None or self._made[0] != cluster:
                self._made = (cluster, self._make())
            return self._made[1]


def _connect(
    target: Target,
    settings: Settings,
    aws: Aws,
    stack: Callable[[str], TerraformStage],
    *,
    grace: float = _GRACE,
    patience: float = _PATIENCE,
) -> Kubernetes:
    """The stack's cluster, or whatever `--kubeconfig` names: on a real account only the stack's own cluster.

    Raises WrongTargetError when it names another, PreconditionError where the stack has no cluster to go to or to
    compare with.
    """
    from cali_infra.adapters.kubernetes import ClusterAccess, Kubernetes

    eks = stack("eks").outputs()
    endpoint = str(eks.get("cluster_endpoint", ""))
    if not endpoint and not (target.rehearsal and target.kubeconfig):
        raise PreconditionError("the cluster does not exist yet", remedy="make it: cali up --through eks")
    if target.kubeconfig is not None:
        named = Kubernetes.from_kubeconfig(
            target.kubeconfig, target.context, environ=target.environ, grace=grace, patience=patience
        )
        if not target.rehearsal and named.host.rstrip("/").lower() != endpoint.rstrip("/").lower():
            raise WrongTargetError(
                f"{target.kubeconfig} leads to {named.host}, the cluster of this environment is {endpoint}",
                remedy="choose the right --context, or leave --kubeconfig out",
            )
        return named
    access = ClusterAccess(
        endpoint, base64.b64decode(eks["cluster_ca"]), partial(aws.token, settings.cluster_name)
    )
    return Kubernetes(access, grace=grace, patience=patience)
