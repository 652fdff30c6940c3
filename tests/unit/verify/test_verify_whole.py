"""Every check sees the one thing that is broken: its cause, a command to copy, and nothing else in its family."""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from whole import ACCOUNT, FLUENT_BIT, JIN, MINA, NAME, POLICY, REGION, Whole, autoscaler_policy

from cali_infra.adapters.aws import ClusterVersion
from cali_infra.adapters.kubernetes import ObjectRef
from cali_infra.core.access import Entry
from cali_infra.core.index import READER, WRITER
from cali_infra.core.pod_targets import is_ready
from cali_infra.core.secrets import GitSyncSecrets
from cali_infra.core.service_secrets import SERVICES
from cali_infra.core.stacks import Drift
from cali_infra.core.stages import STAGES, Kind
from cali_infra.core.storage_class import DEFAULT
from cali_infra.core.workspace import Owner
from cali_infra.errors import GitError, GitTrouble
from cali_infra.plans import Action, ResourceChange
from cali_infra.sandbox.agents.fluent_bit import FluentBit
from cali_infra.sandbox.aws.controls import Fault
from cali_infra.sandbox.ports import ScalingGroup
from cali_infra.verify.checks import Result, Status
from cali_infra.verify.families import CHECKS
from cali_infra.verify.subject import Subject

FAIL = "sandbox.cali.dev/fail"
BY_ID = {check.id: check for check in CHECKS}
Broken = Subject | None
Break = Callable[[Whole], AbstractContextManager[Broken]]


@dataclass(frozen=True)
class Case:
    """One break: the check that sees it, in which way, with which cause and which command."""

    check: str
    breaks: Break
    cause: str
    remedy: str
    status: Status = Status.FAIL
    ahead: timedelta = timedelta()
    hurry: float = 1.0


CASES: list[Case] = []


def case(
    check: str,
    cause: str,
    remedy: str,
    status: Status = Status.FAIL,
    ahead: timedelta = timedelta(),
    hurry: float = 1.0,
) -> Callable[[Callable[[Whole], Iterator[Broken]]], Callable[[Whole], Iterator[Broken]]]:
    def add(function: Callable[[Whole], Iterator[Broken]]) -> Callable[[Whole], Iterator[Broken]]:
        CASES.append(Case(check, contextmanager(function), cause, remedy, status, ahead, hurry))
        return function

    return add


# -- AWS ------------------------------------------------------------------------------------------------------


@case("aws.identity", f"in account {ACCOUNT}.*belongs to 111111111111", "another --env")
def another_account(whole: Whole) -> Iterator[Broken]:
    yield replace(whole.subject, owner=lambda: Owner("111111111111", REGION, "aws"))


@case("aws.identity", "security token", "aws sts get-caller-identity")
def keys_that_nobody_knows(whole: Whole) -> Iterator[Broken]:
    from cali_infra.adapters.aws import Aws

    stranger = Aws(REGION, {**whole.environ, "AWS_ACCESS_KEY_ID": "AKIAUNKNOWN"})
    yield replace(whole.subject, aws=stranger, identity=stranger.identity)


@case("eks.cluster-active", "there is no cluster cali-other", "cali up --through eks")
def no_cluster(whole: Whole) -> Iterator[Broken]:
    # The domain has its own name from the same two.
    domain = whole.aws.domain(NAME)

    class Elsewhere(type(whole.aws)):  # type: ignore[misc]
        def domain(self, name: str) -> Any:
            return domain

    yield replace(whole.with_settings(environment="other"), aws=Elsewhere(REGION, whole.environ))


@case("eks.cluster-active", "is FAILED", f"describe-cluster --name cali-default .*--region {REGION}")
def a_cluster_that_failed(whole: Whole) -> Iterator[Broken]:
    whole.cloud.controls.ail("cluster", NAME, {"status": "FAILED"})
    yield None


@case("eks.cluster-active", "answers, and AWS is changing it", "aws eks describe-cluster", Status.WARN)
def a_cluster_that_is_being_changed(whole: Whole) -> Iterator[Broken]:
    whole.cloud.controls.ail("cluster", NAME, {"status": "UPDATING"})
    yield None


@case("eks.cluster-active", r"KmsKeyDisabled: the key is off \(key-1\)", "aws eks describe-cluster")
def a_cluster_that_ails(whole: Whole) -> Iterator[Broken]:
    issue = {"code": "KmsKeyDisabled", "message": "the key is off", "resourceIds": ["key-1"]}
    whole.cloud.controls.ail("cluster", NAME, {"health": {"issues": [issue]}})
    yield None


@case("eks.version", "runs 1.35, cali.yaml says 1.34", "cali up eks")
def another_version_in_the_settings(whole: Whole) -> Iterator[Broken]:
    yield whole.with_settings(eks={"version": "1.34"})


@case(
    "eks.version",
    r"standard support of 1\.35 ends on 2027-03-27, in \d+ days",
    "set eks.version in cali.yaml",
    Status.WARN,
    ahead=datetime(2027, 2, 27, tzinfo=UTC) - datetime.now(UTC),
)
def support_that_ends(whole: Whole) -> Iterator[Broken]:
    yield None


@contextmanager
def offered(whole: Whole, support: str, until: date | None = None) -> Iterator[Broken]:
    """AWS that offers 1.35 with other support."""
    known = ClusterVersion("1.35", support, False, None, until)

    class Later(type(whole.aws)):  # type: ignore[misc]
        def cluster_versions(self) -> tuple[ClusterVersion, ...]:
            return (known,)

    yield replace(whole.subject, aws=Later(REGION, whole.environ))


@case("eks.version", "extended support until 2028-03-27.*costs more", "set eks.version", Status.WARN)
def support_that_costs_more(whole: Whole) -> Iterator[Broken]:
    with offered(whole, "EXTENDED_SUPPORT", date(2028, 3, 27)) as subject:
        yield subject


@case("eks.version", "AWS does not support 1.35 any more", "set eks.version")
def support_that_is_over(whole: Whole) -> Iterator[Broken]:
    with offered(whole, "UNSUPPORTED") as subject:
        yield subject


@case("eks.node-groups", "DEGRADED: AsgInstanceLaunchFailures: no capacity", "aws eks describe-nodegroup")
def a_node_group_without_capacity(whole: Whole) -> Iterator[Broken]:
    issue = {"code": "AsgInstanceLaunchFailures", "message": "no capacity", "resourceIds": ["asg-1"]}
    shows = {"status": "DEGRADED", "health": {"issues": [issue]}}
    whole.cloud.controls.ail("nodegroup", f"{NAME}-nodes", shows)
    yield None


@case("eks.node-groups", r"nodes runs 1\.34, the cluster 1\.35", "cali up eks", Status.WARN)
def nodes_of_an_older_version(whole: Whole) -> Iterator[Broken]:
    whole.cloud.controls.ail("nodegroup", f"{NAME}-nodes", {"version": "1.34"})
    yield None


@case("eks.addons", "coredns is DEGRADED: InsufficientNumberOfReplicas: no place", "--addon-name coredns")
def an_addon_that_ails(whole: Whole) -> Iterator[Broken]:
    issue = {"code": "InsufficientNumberOfReplicas", "message": "no place", "resourceIds": []}
    whole.cloud.controls.ail("addon", "coredns", {"status": "DEGRADED", "health": {"issues": [issue]}})
    yield None


@case("eks.addons", "not installed: kube-proxy", "cali up eks")
def an_addon_that_is_gone(whole: Whole) -> Iterator[Broken]:
    whole.eks.delete_addon(clusterName=NAME, addonName="kube-proxy", preserve=True)
    yield None
    whole.eks.create_addon(clusterName=NAME, addonName="kube-proxy")


@contextmanager
def without_identity(whole: Whole, account: str) -> Iterator[None]:
    names: dict[str, str] = {"clusterName": NAME, "namespace": "kube-system", "serviceAccount": account}
    (found,) = whole.eks.list_pod_identity_associations(**names)["associations"]
    identifier = {"clusterName": NAME, "associationId": found["associationId"]}
    role = whole.eks.describe_pod_identity_association(**identifier)["association"]["roleArn"]
    whole.eks.delete_pod_identity_association(**identifier)
    yield
    whole.eks.create_pod_identity_association(**names, roleArn=role)


@case("eks.pod-identities", "no pod identity for kube-system/ebs-csi-controller-sa", "cali up eks")
def a_driver_without_a_role(whole: Whole) -> Iterator[Broken]:
    with without_identity(whole, "ebs-csi-controller-sa"):
        yield None


@case("autoscaler.identity", "no pod identity for kube-system/cluster-autoscaler", "cali up autoscaler")
def an_autoscaler_without_a_role(whole: Whole) -> Iterator[Broken]:
    with without_identity(whole, "cluster-autoscaler"):
        yield None


@case("autoscaler.identity", "gets .*role/autoscaler, not .*role/another", "cali up autoscaler")
def an_autoscaler_with_another_role(whole: Whole) -> Iterator[Broken]:
    values = whole.stacks["autoscaler"].values
    before = values["role_arn"]
    values["role_arn"] = f"arn:aws:iam::{ACCOUNT}:role/another"
    yield None
    values["role_arn"] = before


@contextmanager
def role_policy(whole: Whole, change: Callable[[list[Any]], None]) -> Iterator[None]:
    def put(document: Any) -> None:
        whole.iam.put_role_policy(
            RoleName="autoscaler", PolicyName="own", PolicyDocument=json.dumps(document)
        )

    document = autoscaler_policy()
    change(document["Statement"])
    put(document)
    yield
    put(autoscaler_policy())


@case("autoscaler.role", "it may not autoscaling:DescribeTags", "cali up autoscaler")
def an_autoscaler_that_may_not_look(whole: Whole) -> Iterator[Broken]:
    with role_policy(whole, lambda found: found[0]["Action"].remove("autoscaling:DescribeTags")):
        yield None


@case("autoscaler.role", "it may not autoscaling:SetDesiredCapacity, .* on eks-", "cali up autoscaler")
def an_autoscaler_that_may_not_scale(whole: Whole) -> Iterator[Broken]:
    with role_policy(whole, lambda found: found.pop()):  # type: ignore[arg-type, return-value]
        yield None


@case("autoscaler.role", "it may scale the groups of other clusters", "cali up autoscaler")
def an_autoscaler_that_may_scale_everything(whole: Whole) -> Iterator[Broken]:
    with role_policy(whole, lambda found: found[1].pop("Condition")):
        yield None


@contextmanager
def without_entry(whole: Whole, arn: str) -> Iterator[None]:
    whole.eks.delete_access_entry(clusterName=NAME, principalArn=arn)
    yield
    whole.grant(arn, "AmazonEKSViewPolicy", "logging")


@case("access.entries", "Mina .*: on record, but the cluster has no entry", "cali up access")
def an_entry_that_is_gone(whole: Whole) -> Iterator[Broken]:
    with without_entry(whole, MINA):
        yield None


@contextmanager
def other_policy(whole: Whole, arn: str, *policies: str) -> Iterator[None]:
    """An entry with other policies than the record says."""
    names = {"clusterName": NAME, "principalArn": arn}
    whole.eks.delete_access_entry(**names)
    whole.eks.create_access_entry(**names)
    for policy in policies:
        whole.eks.associate_access_policy(**names, policyArn=POLICY + policy, accessScope={"type": "cluster"})
    yield
    whole.eks.delete_access_entry(**names)
    whole.grant(arn, "AmazonEKSClusterAdminPolicy")


@case("access.entries", "Jin .*: should have AmazonEKSClusterAdminPolicy, has none", "cali up access")
def an_entry_without_a_policy(whole: Whole) -> Iterator[Broken]:
    with other_policy(whole, JIN):
        yield None


@case("access.entries", "Jin .*: also has AmazonEKSViewPolicy", "cali list-access", Status.WARN)
def an_entry_with_one_policy_more(whole: Whole) -> Iterator[Broken]:
    with other_policy(whole, JIN, "AmazonEKSClusterAdminPolicy", "AmazonEKSViewPolicy"):
        yield None


@case("access.entries", "Sora .*: in secrets.yaml only", "cali up access", Status.WARN)
def a_principal_that_was_not_applied(whole: Whole) -> Iterator[Broken]:
    sora = Entry(f"arn:aws:iam::{ACCOUNT}:user/sora", "Sora", "view")
    yield replace(whole.subject, principals=lambda: [sora])


STRANGER = f"arn:aws:iam::{ACCOUNT}:user/stranger"


@contextmanager
def stranger(whole: Whole) -> Iterator[None]:
    whole.grant(STRANGER, "AmazonEKSViewPolicy")
    yield
    whole.eks.delete_access_entry(clusterName=NAME, principalArn=STRANGER)


@case("access.strangers", "stranger .*: made by hand", f"cali revoke-access {STRANGER}", Status.WARN)
def somebody_whom_nobody_knows(whole: Whole) -> Iterator[Broken]:
    with stranger(whole):
        yield None


@contextmanager
def on_record(whole: Whole, change: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    values = whole.stacks["access"].values
    before = values["record"]
    values["record"] = deepcopy(before)
    change(values["record"])
    yield
    values["record"] = before


@case("access.strangers", "revoked on 2026-02-01 by Lee, and made again by hand", "cali revoke-access")
def somebody_who_is_back(whole: Whole) -> Iterator[Broken]:
    gone = {STRANGER: {"name": "S", "revoked_at": "2026-02-01", "revoked_by": "Lee"}}
    with stranger(whole), on_record(whole, lambda found: found["revoked"].update(gone)):
        yield None


@case("access.expired", r"Jin \(.*\) had access until 2026-01-31T00:00:00Z", "cali revoke-access --expired")
def somebody_whose_time_is_over(whole: Whole) -> Iterator[Broken]:
    until = "2026-01-31T00:00:00Z"
    with on_record(whole, lambda found: found["principals"][JIN].update(until=until)):
        yield None


@case("search.domain-active", "is still being made", "aws opensearch describe-domain-change-progress")
def a_domain_without_an_endpoint(whole: Whole) -> Iterator[Broken]:
    whole.cloud.controls.ail("domain", NAME, {"Endpoint": ""})
    yield None


@case("search.domain-active", r"busy with a change \(Upgrading\)", "aws opensearch", Status.WARN)
def a_domain_that_is_being_upgraded(whole: Whole) -> Iterator[Broken]:
    shows = {"UpgradeProcessing": True, "DomainProcessingStatus": "Upgrading"}
    whole.cloud.controls.ail("domain", NAME, shows)
    yield None


@case("search.encryption", "off: encryption at rest, encryption between nodes", "cali plan search")
def a_domain_in_clear(whole: Whole) -> Iterator[Broken]:
    off = {"Enabled": False}
    shows = {"EncryptionAtRestOptions": off, "NodeToNodeEncryptionOptions": off}
    whole.cloud.controls.ail("domain", NAME, shows)
    yield None


@case("search.tls", "HTTPS is not enforced", "cali up search")
def a_domain_that_takes_http(whole: Whole) -> Iterator[Broken]:
    whole.cloud.controls.ail("domain", NAME, {"DomainEndpointOptions": {"EnforceHTTPS": False}})
    yield None


@case("search.tls", "Policy-Min-TLS-1-0-2019-07, which takes TLS 1.0", "cali up search")
def a_domain_with_an_old_tls(whole: Whole) -> Iterator[Broken]:
    policy = {"TLSSecurityPolicy": "Policy-Min-TLS-1-0-2019-07"}
    whole.cloud.controls.ail("domain", NAME, {"DomainEndpointOptions": policy})
    yield None


@contextmanager
def drifted(whole: Whole, stack: str, drift: Drift) -> Iterator[None]:
    whole.stacks[stack].found = drift
    yield
    whole.stacks[stack].found = Drift()


VPC = ResourceChange("aws_vpc.this", Action.UPDATE)


@case("drift.network", r"changed outside: aws_vpc\.this \(tags\)", "cali up network")
def a_change_by_hand(whole: Whole) -> Iterator[Broken]:
    with drifted(whole, "network", Drift((VPC,), {"aws_vpc.this": ("tags",)})):
        yield None


@case("drift.search", r"changed outside: aws_vpc\.this \(gone\)", "cali up search")
def a_resource_that_is_gone(whole: Whole) -> Iterator[Broken]:
    with drifted(whole, "search", Drift((VPC,), {"aws_vpc.this": ()})):
        yield None


def not_applied(stack: str) -> None:
    @case(f"drift.{stack}", r"`up` would update aws_vpc\.this", f"cali up {stack}", Status.WARN)
    def a_setting_that_was_not_applied(whole: Whole) -> Iterator[Broken]:
        with drifted(whole, stack, Drift((VPC,))):
            yield None


for _stage in STAGES:
    if _stage.kind is Kind.TERRAFORM and f"drift.{_stage.name}" in BY_ID:
        not_applied(_stage.name)


# -- Kubernetes -----------------------------------------------------------------------------------------------


@case("kubernetes.api", "cannot be reached", "allowed_cidrs")
def an_api_that_is_away(whole: Whole) -> Iterator[Broken]:
    whole.clusters.faults.unreachable(3600)
    yield None
    whole.clusters.faults.unreachable(0)


@case("kubernetes.api", "does not accept|Unauthorized|401", "access")
def a_caller_without_an_entry(whole: Whole) -> Iterator[Broken]:
    whole.eks.delete_access_entry(clusterName=NAME, principalArn=whole.cloud.operator.arn)
    yield None
    whole.grant(whole.cloud.operator.arn, "AmazonEKSClusterAdminPolicy")


def node_names(whole: Whole) -> list[str]:
    return sorted(node["metadata"]["name"] for node in whole.kubernetes.list("v1", "Node"))


@contextmanager
def conditions(whole: Whole, **changed: dict[str, str]) -> Iterator[str]:
    """A node with other conditions."""
    name = node_names(whole)[0]
    path = f"/api/v1/nodes/{name}/status"
    before = whole.request("GET", f"/api/v1/nodes/{name}")["status"]["conditions"]
    after = [{**item, **changed.get(item["type"], {})} for item in before]
    whole.request("PATCH", path, {"status": {"conditions": after}})
    yield name
    whole.request("PATCH", path, {"status": {"conditions": before}})


@case("kubernetes.nodes", "not Ready: the kubelet stopped posting", "kubectl describe node ip-")
def a_node_that_is_gone(whole: Whole) -> Iterator[Broken]:
    with conditions(whole, Ready={"status": "Unknown", "message": "the kubelet stopped posting"}):
        yield None


@case("kubernetes.nodes", "DiskPressure", "kubectl describe node ip-")
def a_node_with_a_full_disk(whole: Whole) -> Iterator[Broken]:
    with conditions(whole, DiskPressure={"status": "True"}):
        yield None


@case("kubernetes.nodes", "cordoned: ip-", "kubectl uncordon ip-", Status.WARN)
def a_cordoned_node(whole: Whole) -> Iterator[Broken]:
    ref = ObjectRef("v1", "Node", None, node_names(whole)[0])
    with whole.patched(ref, {"spec": {"unschedulable": True}}, {"spec": {"unschedulable": None}}):
        yield None


@case("kubernetes.zones", f"all 3 in {REGION}a", "kubectl get nodes -L topology")
def one_zone_alone(whole: Whole) -> Iterator[Broken]:
    label = "topology.kubernetes.io/zone"
    with ExitStack() as stack:
        for name in node_names(whole):
            found = whole.kubernetes.get(ObjectRef("v1", "Node", None, name))
            assert found is not None
            before = found["metadata"]["labels"][label]
            stack.enter_context(
                whole.patched(
                    ObjectRef("v1", "Node", None, name),
                    {"metadata": {"labels": {label: f"{REGION}a"}}},
                    {"metadata": {"labels": {label: before}}},
                )
            )
        yield None


def pod_of(whole: Whole, namespace: str, start: str) -> ObjectRef:
    names = [pod["metadata"]["name"] for pod in whole.kubernetes.list("v1", "Pod", namespace)]
    return ObjectRef("v1", "Pod", namespace, min(name for name in names if name.startswith(start)))


@contextmanager
def failing(whole: Whole, pod: ObjectRef, how: str) -> Iterator[None]:
    def ready() -> bool:
        found = whole.kubernetes.get(pod)
        assert found is not None
        return any(c["type"] == "Ready" and c["status"] == "True" for c in found["status"]["conditions"])

    with whole.patched(
        pod, {"metadata": {"annotations": {FAIL: how}}}, {"metadata": {"annotations": {FAIL: None}}}
    ):
        whole.until(lambda: not ready())
        yield
    whole.until(ready)


@case("kubernetes.system-pods", "coredns.*: CrashLoopBackOff", "kubectl -n kube-system describe pod coredns-")
def a_pod_that_crashes(whole: Whole) -> Iterator[Broken]:
    with failing(whole, pod_of(whole, "kube-system", "coredns"), "CrashLoopBackOff"):
        yield None


@case(
    "kubernetes.system-pods", "waits-for-ever is not scheduled: .*nodes are available", "describe pod waits"
)
def a_pod_without_a_place(whole: Whole) -> Iterator[Broken]:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "waits-for-ever", "namespace": "kube-system"},
        "spec": {
            "nodeSelector": {"no": "such"},
            "containers": [{"name": "main", "image": "example.com/a:1"}],
        },
    }
    whole.kubernetes.create(pod)
    ref = ObjectRef("v1", "Pod", "kube-system", "waits-for-ever")
    whole.until(lambda: "conditions" in (whole.kubernetes.get(ref) or {}).get("status", {}))
    yield None
    whole.kubernetes.delete(ref, wait=5)


GP2 = ObjectRef("storage.k8s.io/v1", "StorageClass", None, "gp2")


@case("storage.default-class", "no StorageClass is the default", "cali up storage")
def no_default_class(whole: Whole) -> Iterator[Broken]:
    mark = {"metadata": {"annotations": {DEFAULT: "true"}}}
    with whole.patched(GP2, {"metadata": {"annotations": {DEFAULT: None}}}, mark):
        yield None


@contextmanager
def another_class(whole: Whole, provisioner: str) -> Iterator[None]:
    other = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "other", "annotations": {DEFAULT: "true"}},
        "provisioner": provisioner,
    }
    whole.kubernetes.create(other)
    yield
    whole.kubernetes.delete(replace(GP2, name="other"), wait=5)


@case("storage.default-class", "more than one default: gp2, other", "cali up storage")
def two_default_classes(whole: Whole) -> Iterator[Broken]:
    with another_class(whole, "ebs.csi.aws.com"):
        yield None


@case("storage.default-class", "other is kubernetes.io/aws-ebs's, not ebs.csi", "cali up storage")
def a_default_class_of_another_driver(whole: Whole) -> Iterator[Broken]:
    mark = {"metadata": {"annotations": {DEFAULT: "true"}}}
    with (
        another_class(whole, "kubernetes.io/aws-ebs"),
        whole.patched(GP2, {"metadata": {"annotations": {DEFAULT: None}}}, mark),
    ):
        yield None


@contextmanager
def claim(whole: Whole, *, used: bool) -> Iterator[None]:
    name = "waiting"
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "nothing",
        "resources": {"requests": {"storage": "1Gi"}},
    }
    meta = {"name": name, "namespace": "default"}
    whole.kubernetes.create(
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}
    )
    if used:
        volume = {"name": "data", "persistentVolumeClaim": {"claimName": name}}
        containers = [{"name": "main", "image": "example.com/a:1"}]
        whole.kubernetes.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": meta,
                "spec": {"containers": containers, "volumes": [volume]},
            }
        )
    yield
    for kind in ("Pod", "PersistentVolumeClaim"):
        whole.kubernetes.delete(ObjectRef("v1", kind, "default", name), wait=5)


@case("storage.claims", "default/waiting is Pending: ", "kubectl -n default describe pvc waiting")
def a_claim_that_nobody_fills(whole: Whole) -> Iterator[Broken]:
    with claim(whole, used=True):
        yield None


@case("storage.claims", "no pod uses default/waiting", "kubectl get pvc", Status.WARN)
def a_claim_that_nobody_uses(whole: Whole) -> Iterator[Broken]:
    with claim(whole, used=False):
        yield None


@case("logging.fluent-bit", "2 of 3 pods ready: .*ImagePullBackOff", "kubectl -n logging describe daemonset")
def a_node_without_fluent_bit(whole: Whole) -> Iterator[Broken]:
    with failing(whole, pod_of(whole, "logging", "fluent-bit"), "ImagePullBackOff"):
        whole.until(lambda: ready_pods(whole) == 2)
        yield None
    whole.until(lambda: ready_pods(whole) == 3)


def ready_pods(whole: Whole) -> int:
    found = whole.kubernetes.get(FLUENT_BIT)
    assert found is not None
    return int(found["status"]["numberReady"])


def config_map(whole: Whole, start: str) -> ObjectRef:
    found = whole.kubernetes.list("v1", "ConfigMap", "logging")
    (name,) = [one["metadata"]["name"] for one in found if one["metadata"]["name"].startswith(start)]
    return ObjectRef("v1", "ConfigMap", "logging", name)


@case("logging.configuration", "ConfigMap logging/fluent-bit-settings-.*: update", "cali up logging")
def another_configuration(whole: Whole) -> Iterator[Broken]:
    ref = config_map(whole, "fluent-bit-settings")
    whole.kubernetes.patch(ref, {"data": {"INDEX_PREFIX": "elsewhere"}})
    yield None
    whole.put_right("logging")


@case("services.secrets", "Secret grafana/grafana-admin: update", "cali up service-secrets")
def another_password_of_a_service(whole: Whole) -> Iterator[Broken]:
    ref = ObjectRef("v1", "Secret", "grafana", "grafana-admin")
    whole.kubernetes.patch(ref, {"data": {"admin-password": "b3RoZXI="}})
    yield None
    whole.put_right("service-secrets")


def release_of(whole: Whole, name: str, namespace: str) -> ObjectRef:
    labels = {"owner": "helm", "name": name}
    (secret,) = whole.kubernetes.list("v1", "Secret", namespace, labels)
    return ObjectRef("v1", "Secret", namespace, secret["metadata"]["name"])


@contextmanager
def release_status(whole: Whole, name: str, namespace: str, status: str) -> Iterator[None]:
    ref = release_of(whole, name, namespace)
    with whole.patched(
        ref,
        {"metadata": {"labels": {"status": status}}},
        {"metadata": {"labels": {"status": "deployed"}}},
    ):
        yield


@case(
    "autoscaler.release",
    "revision 1 of cluster-autoscaler is failed: Install complete",
    "helm -n kube-system",
)
def a_failed_release(whole: Whole) -> Iterator[Broken]:
    with release_status(whole, "cluster-autoscaler", "kube-system", "failed"):
        yield None


@case("autoscaler.release", "there is no release cluster-autoscaler", "cali up --through autoscaler")
def no_release(whole: Whole) -> Iterator[Broken]:
    with whole.without(release_of(whole, "cluster-autoscaler", "kube-system")):
        yield None


DEPLOYMENT = ObjectRef("apps/v1", "Deployment", "kube-system", "cluster-autoscaler-aws-cluster-autoscaler")


def image(tag: str) -> dict[str, Any]:
    container = {
        "name": "aws-cluster-autoscaler",
        "image": f"registry.k8s.io/autoscaling/cluster-autoscaler:{tag}",
    }
    return {"spec": {"template": {"spec": {"containers": [container]}}}}


@case("autoscaler.version", r"cluster-autoscaler:v1\.33\.0 in a cluster of v1\.35", "image_tag in cali.yaml")
def an_older_autoscaler(whole: Whole) -> Iterator[Broken]:
    with whole.patched(DEPLOYMENT, image("v1.33.0"), image("v1.35.0")):
        whole.settled()
        yield None
    whole.settled()


STATUS = ObjectRef("v1", "ConfigMap", "kube-system", "cluster-autoscaler-status")


@contextmanager
def status(whole: Whole, change: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    import yaml

    found = whole.kubernetes.get(STATUS)
    assert found is not None
    text = found["data"]["status"]
    document = yaml.safe_load(text)
    change(document)
    with whole.patched(STATUS, {"data": {"status": yaml.safe_dump(document)}}, {"data": {"status": text}}):
        yield


@case("autoscaler.status", "its last status is 5 hours old", "kubectl -n kube-system logs")
def an_old_status(whole: Whole) -> Iterator[Broken]:
    old = datetime.now(UTC) - timedelta(hours=5, minutes=1)
    with status(whole, lambda found: found.update(time=f"{old:%Y-%m-%d %H:%M:%S.%f}000 +0000 UTC")):
        yield None


@case("autoscaler.status", "the cluster is Unhealthy to it", "kubectl -n kube-system logs")
def an_unhealthy_status(whole: Whole) -> Iterator[Broken]:
    with status(whole, lambda found: found["clusterWide"]["health"].update(status="Unhealthy")):
        yield None


@case("autoscaler.status", "it is Initializing and not Running", "kubectl -n kube-system logs")
def an_autoscaler_that_never_began(whole: Whole) -> Iterator[Broken]:
    with status(whole, lambda found: found.update(autoscalerStatus="Initializing")):
        yield None


@case("autoscaler.status", "it has written no status", "kubectl -n kube-system logs")
def no_status(whole: Whole) -> Iterator[Broken]:
    with whole.without(STATUS):
        yield None


@case("autoscaler.status", "not the YAML", "cali up autoscaler")
def a_status_in_prose(whole: Whole) -> Iterator[Broken]:
    found = whole.kubernetes.get(STATUS)
    assert found is not None
    prose = "Cluster-autoscaler status at 2023-11-29 13:34:29 +0000 UTC:\nCluster-wide:\n  Health: Healthy\n"
    with whole.patched(STATUS, {"data": {"status": prose}}, {"data": found["data"]}):
        yield None


@case("autoscaler.status", "could not be made larger, and it waits: no capacity", "logs", Status.WARN)
def a_node_group_that_cannot_grow(whole: Whole) -> Iterator[Broken]:
    backoff = {"status": "Backoff", "backoffInfo": {"errorCode": "X", "errorMessage": "no capacity"}}
    with status(whole, lambda found: found["nodeGroups"][0].update(scaleUp=backoff)):
        yield None


@case("autoscaler.node-groups", f"it does not see eks-{NAME}-nodes-", "aws autoscaling describe-tags")
def an_autoscaler_that_sees_no_group(whole: Whole) -> Iterator[Broken]:
    with status(whole, lambda found: found.update(nodeGroups=[])):
        yield None


@case("autoscaler.node-groups", "no node group of this cluster: eks-other", "kubectl -n kube-system logs")
def an_autoscaler_of_another_cluster(whole: Whole) -> Iterator[Broken]:
    def add(found: dict[str, Any]) -> None:
        found["nodeGroups"].append({"name": "eks-other", "health": {"status": "Healthy"}})

    with status(whole, add):
        yield None


# Of each service one workload, with as many replicas as it has.
WORKLOADS = {"airflow": "airflow-scheduler", "milvus": "milvus-standalone", "grafana": "grafana"}


def broken_service(name: str) -> None:
    @case(f"{name}.release", f"revision 2 of {name} is pending-upgrade", f"helm -n {name} history {name}")
    def a_release_in_the_middle(whole: Whole) -> Iterator[Broken]:
        with release_status(whole, name, name, "pending-upgrade"):
            yield None

    @case(f"{name}.release", f"there is no release {name}", "cali up --through services")
    def no_such_release(whole: Whole) -> Iterator[Broken]:
        with whole.without(release_of(whole, name, name)):
            yield None

    @case(
        f"{name}.workloads",
        f"Deployment {name}/{WORKLOADS[name]} has 0 of 1 replicas ready: .*CrashLoop",
        f"kubectl -n {name} describe deployment {WORKLOADS[name]}",
    )
    def a_service_that_crashes(whole: Whole) -> Iterator[Broken]:
        with failing(whole, pod_of(whole, name, WORKLOADS[name]), "CrashLoopBackOff"):
            yield None


for _service in SERVICES:
    broken_service(_service)


# -- OpenSearch -----------------------------------------------------------------------------------------------


@case("search.auth", "does not accept the password of cali-admin", "cali up search")
def another_password_in_the_secrets(whole: Whole) -> Iterator[Broken]:
    opensearch = whole.secrets.opensearch.model_copy(update={"master_password": SecretStr("Another-one-1")})
    yield replace(whole.subject, secrets=whole.secrets.model_copy(update={"opensearch": opensearch}))


@case("search.auth.wrong-password", "cali-admin gets in with any password", "cali plan search")
def a_domain_that_takes_any_password(whole: Whole) -> Iterator[Broken]:
    whole.domains.leave_open(NAME, "any-password")
    yield None
    whole.domains.leave_open(NAME)


@case("search.auth.no-password", "lets anybody in", "cali plan search")
def a_domain_that_asks_for_none(whole: Whole) -> Iterator[Broken]:
    whole.domains.leave_open(NAME, "no-password")
    yield None
    whole.domains.leave_open(NAME)


@case("search.auth.plain-http", "answers over plain HTTP", "cali plan search")
def a_domain_that_speaks_http(whole: Whole) -> Iterator[Broken]:
    with front(whole.endpoint) as address:
        whole.cloud.controls.ail("domain", NAME, {"Endpoint": address})
        yield None


@contextmanager
def front(behind: str) -> Iterator[str]:
    """A server before a domain that passes TLS on, and answers plain HTTP by itself: it demands a password."""
    host, _, port = behind.partition(":")

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for one in (source, sink):
                one.close()

    def serve(client: socket.socket) -> None:
        if client.recv(1, socket.MSG_PEEK) == b"\x16":
            server = socket.create_connection((host, int(port)))
            threading.Thread(target=pump, args=(client, server), daemon=True).start()
            pump(server, client)
            return
        client.recv(65536)
        client.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        client.close()

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@contextmanager
def index(whole: Whole, name: str, **settings: Any) -> Iterator[None]:
    whole.ask_domain("PUT", f"/{name}", {"settings": {"index": settings}})
    yield
    whole.ask_domain("DELETE", f"/{name}")


@case("search.health", "yellow: 3 shards unassigned", "_cluster/allocation/explain", Status.WARN)
def an_index_with_too_many_copies(whole: Whole) -> Iterator[Broken]:
    with index(whole, "other", number_of_shards=1, number_of_replicas=5):
        yield None


@case("search.health", "red: ", "_cluster/allocation/explain")
def an_index_without_a_place(whole: Whole) -> Iterator[Broken]:
    with index(whole, "other", **{"routing.allocation.require._name": "gone"}):
        yield None


@case("search.template", "index template cali-logs: .*priority: 7 -> 109", "cali up index")
def another_template(whole: Whole) -> Iterator[Broken]:
    body = whole.search.template("cali-logs")
    assert body is not None
    whole.search.put_template("cali-logs", {**body, "priority": 7})
    yield None
    whole.put_index_right()


@case("search.template", "there is no index template cali-logs", "cali up index")
def no_template(whole: Whole) -> Iterator[Broken]:
    whole.ask_domain("DELETE", "/_index_template/cali-logs")
    yield None
    whole.put_index_right()


@case("search.retention", "policy cali-logs-retention: .*99d.* -> .*30d", "cali up index")
def another_retention(whole: Whole) -> Iterator[Broken]:
    found = whole.search.policy("cali-logs-retention")
    assert found is not None
    policy, version = found
    changed = {key: policy[key] for key in ("description", "default_state", "states", "ism_template")}
    changed["states"][0]["transitions"][0]["conditions"] = {"min_index_age": "99d"}
    whole.search.put_policy("cali-logs-retention", changed, version)
    yield None
    whole.put_index_right()


@case("search.retention", "no policy deletes cali-logs-kept", "cali plan index", Status.WARN)
def an_index_without_a_policy(whole: Whole) -> Iterator[Broken]:
    with index(whole, "cali-logs-kept"):
        whole.ask_domain("POST", "/_plugins/_ism/remove/cali-logs-kept")
        yield None


@contextmanager
def role(whole: Whole, name: str, *actions: str) -> Iterator[None]:
    body = whole.search.role(name)
    assert body is not None
    given = [*body["index_permissions"][0]["allowed_actions"], *actions]
    whole.search.put_role(
        name,
        {
            "cluster_permissions": body["cluster_permissions"],
            "index_permissions": [{"index_patterns": ["cali-logs-*"], "allowed_actions": given}],
            "tenant_permissions": [],
        },
    )
    yield
    whole.put_index_right()


@case("search.writer", "cali-writer may read", "cali up index")
def a_writer_that_may_read(whole: Whole) -> Iterator[Broken]:
    with role(whole, WRITER, "read"):
        yield None


@case("search.writer", "cali-writer does not get in with its password", "cali up index")
def a_writer_with_another_password(whole: Whole) -> Iterator[Broken]:
    whole.search.put_user(WRITER, SecretStr("Another-one-1"), {"backend_roles": [], "attributes": {}})
    yield None
    whole.put_index_right()


@case("search.reader", "cali-reader may write", "cali up index")
def a_reader_that_may_write(whole: Whole) -> Iterator[Broken]:
    with role(whole, READER, "write"):
        yield None


def now_text(**ago: float) -> str:
    return f"{datetime.now(UTC) - timedelta(**ago):%Y-%m-%dT%H:%M:%S.%f}Z"


@contextmanager
def only(whole: Whole, *records: dict[str, Any]) -> Iterator[None]:
    """Other records instead of those that are there."""
    before = whole.documents()
    query = {"query": {"match_all": {}}}
    whole.ask_domain("POST", "/cali-logs-*/_delete_by_query", query)
    whole.write(*records)
    yield
    whole.ask_domain("POST", "/cali-logs-*/_delete_by_query", query)
    whole.write(*before)


@case(
    "search.records", "no record of the last 15 minutes in cali-logs-*", "kubectl -n logging logs daemonset"
)
def no_records(whole: Whole) -> Iterator[Broken]:
    with only(whole):
        yield None


@case("search.records", "no record of the last 15 minutes", "kubectl -n logging logs daemonset")
def old_records_alone(whole: Whole) -> Iterator[Broken]:
    with only(whole, {"@timestamp": now_text(hours=3), "log": "a line"}):
        yield None


@case(
    "search.records", "app/web: @timestamp is .*, the container runtime took the line at", "cali up logging"
)
def a_time_that_lies(whole: Whole) -> Iterator[Broken]:
    pod = {"namespace_name": "app", "pod_name": "web"}
    with only(whole, {"@timestamp": now_text(), "time": now_text(hours=9), "kubernetes": pod}):
        yield None


@contextmanager
def besides(whole: Whole, record: dict[str, Any]) -> Iterator[None]:
    whole.write(record, index="cali-logs-strange")
    yield
    whole.ask_domain("DELETE", "/cali-logs-strange")


@case(
    "search.timestamps",
    "1 record in the future, such as .* of app/web in cali-logs-strange",
    "cali up logging",
)
def a_record_of_tomorrow(whole: Whole) -> Iterator[Broken]:
    pod = {"namespace_name": "app", "pod_name": "web"}
    with besides(whole, {"@timestamp": now_text(days=-1), "kubernetes": pod}):
        yield None


@case("search.timestamps", "1 record older than what is kept, such as 2019-01-01", "cali up logging")
def a_record_of_long_ago(whole: Whole) -> Iterator[Broken]:
    with besides(whole, {"@timestamp": "2019-01-01T00:00:00Z", "log": "a line"}):
        yield None


@case("search.timestamps", "1 record without @timestamp", "cali up logging")
def a_record_without_a_time(whole: Whole) -> Iterator[Broken]:
    with besides(whole, {"log": "a line"}):
        yield None


# -- end to end: the applications -----------------------------------------------------------------------------


def programs(whole: Whole) -> Any:
    return whole.services.programs(NAME)


@case("e2e.grafana", "does not accept the password of admin", "reset-admin-password")
def another_password_in_grafana(whole: Whole) -> Iterator[Broken]:
    kept = programs(whole).state["grafana"]
    programs(whole).change(grafana="Another-one-1")
    yield None
    programs(whole).change(grafana=kept)


@case("e2e.grafana", "does not accept the password of cali-reader", "rollout restart deployment/grafana")
def another_password_of_the_reader(whole: Whole) -> Iterator[Broken]:
    secret, labels = (
        ObjectRef("v1", "Secret", "grafana", "grafana-opensearch"),
        {"app.kubernetes.io/name": "grafana"},
    )
    found = whole.kubernetes.get(secret)
    assert found is not None
    other = {"OPENSEARCH_READER_PASSWORD": base64.b64encode(b"Another-one-1").decode()}
    with whole.patched(secret, {"data": other}, {"data": found["data"]}):
        whole.restart("grafana", labels)
        yield None
    whole.restart("grafana", labels)


@case("e2e.grafana", "has no data source opensearch", "cali up services")
def a_grafana_without_its_data_source(whole: Whole) -> Iterator[Broken]:
    config, labels = ObjectRef("v1", "ConfigMap", "grafana", "grafana"), {"app.kubernetes.io/name": "grafana"}
    found = whole.kubernetes.get(config)
    assert found is not None
    with whole.patched(config, {"data": {"datasources.yaml": "{}"}}, {"data": found["data"]}):
        whole.restart("grafana", labels)
        yield None
    whole.restart("grafana", labels)


@case(
    "e2e.airflow",
    r"the scheduler is unhealthy to Airflow itself: its last heartbeat was at \d\d:\d\d:\d\d UTC",
    "logs deployment/airflow-scheduler",
)
def a_scheduler_that_hangs(whole: Whole) -> Iterator[Broken]:
    whole.services.hold_scheduler_back(NAME, ago=timedelta(minutes=1))
    yield None
    whole.services.hold_scheduler_back(NAME, False)


@contextmanager
def scaled(whole: Whole, part: str, replicas: int) -> Iterator[None]:
    ref = ObjectRef("apps/v1", "Deployment", "airflow", f"airflow-{part}")
    labels = {"release": "airflow", "component": part}

    def pods() -> list[Any]:
        return whole.kubernetes.list("v1", "Pod", "airflow", labels)

    before = len(pods())
    with whole.patched(ref, {"spec": {"replicas": replicas}}, {"spec": {"replicas": before}}):
        whole.until(lambda: len(pods()) == replicas)
        yield
    whole.until(lambda: [is_ready(pod) for pod in pods()] == [True] * before)
    whole.crew.tick()


@case("e2e.airflow", "the triggerer is unhealthy", "logs deployment/airflow-triggerer")
def an_airflow_without_a_triggerer(whole: Whole) -> Iterator[Broken]:
    with scaled(whole, "triggerer", 0):
        yield None


@case(
    "e2e.git-sync",
    "reads [0-9a-f]{12}, and main is at [0-9a-f]{12}: GitSync has not",
    "-c git-sync",
)
def a_git_sync_that_brings_nothing(whole: Whole) -> Iterator[Broken]:
    whole.services.hold_git_sync_back(NAME)
    whole.commit()
    # A shorter period than cali.yaml may name.
    airflow = whole.settings.airflow.model_copy(update={"sync_seconds": 1})
    yield replace(whole.subject, settings=whole.settings.model_copy(update={"airflow": airflow}))
    whole.services.hold_git_sync_back(NAME, False)
    programs(whole).change(commit=whole.head())


@case("e2e.git-sync", "has brought nothing yet", "-c git-sync")
def a_first_look_that_has_not_ended(whole: Whole) -> Iterator[Broken]:
    whole.services.hold_git_sync_back(NAME)
    programs(whole).change(commit=None)
    yield None
    whole.services.hold_git_sync_back(NAME, False)
    programs(whole).change(commit=whole.head())


@case(
    "e2e.git-sync", "could not be asked from this machine: no route", "exec deployment/airflow", Status.WARN
)
def a_repository_that_this_machine_does_not_reach(whole: Whole) -> Iterator[Broken]:
    def head() -> str:
        raise GitError("no route to it", trouble=GitTrouble.UNREACHABLE)

    yield replace(whole.subject, head=head)


# -- end to end: the line -------------------------------------------------------------------------------------

LINE = "it is not in OpenSearch after 90 s: "


@case(
    "e2e.log-line", LINE + "there is no DaemonSet logging/fluent-bit", "cali up --through logging", hurry=30
)
def no_fluent_bit(whole: Whole) -> Iterator[Broken]:
    with whole.without_fluent_bit():
        yield None


@case("e2e.log-line", LINE + ".*CrashLoopBackOff", "-n logging describe pod fluent-bit", hurry=30)
def a_fluent_bit_that_crashes(whole: Whole) -> Iterator[Broken]:
    pods = whole.kubernetes.list("v1", "Pod", "logging", {"app.kubernetes.io/name": "fluent-bit"})
    with ExitStack() as stack:
        for pod in pods:
            ref = ObjectRef("v1", "Pod", "logging", pod["metadata"]["name"])
            stack.enter_context(failing(whole, ref, "CrashLoopBackOff"))
        yield None


@case(
    "e2e.log-line", LINE + ".*secret .fluent-bit-opensearch. not found", "describe pod fluent-bit", hurry=30
)
def no_password_for_fluent_bit(whole: Whole) -> Iterator[Broken]:
    labels = {"app.kubernetes.io/name": "fluent-bit"}
    secret = whole.kubernetes.get(ObjectRef("v1", "Secret", "logging", "fluent-bit-opensearch"))
    assert secret is not None
    whole.kubernetes.delete(ObjectRef("v1", "Secret", "logging", "fluent-bit-opensearch"), wait=5)
    for pod in whole.kubernetes.list("v1", "Pod", "logging", labels):
        whole.kubernetes.delete(ObjectRef("v1", "Pod", "logging", pod["metadata"]["name"]), wait=5)
    yield None
    whole.fluent_bit_is_back()


@case("e2e.log-line", LINE + "cali-writer does not get in", "cali up index", hurry=30)
def a_writer_that_is_refused(whole: Whole) -> Iterator[Broken]:
    whole.ask_domain("DELETE", f"/_plugins/_security/api/internalusers/{WRITER}")
    yield None
    whole.put_index_right()


@contextmanager
def configured(whole: Whole, old: str, new: str) -> Iterator[None]:
    """Fluent Bit with a configuration in which some text is another."""
    daemon = whole.kubernetes.get(FLUENT_BIT)
    assert daemon is not None
    volumes = daemon["spec"]["template"]["spec"]["volumes"]
    name = next(volume["configMap"]["name"] for volume in volumes if volume["name"] == "config")
    ref = ObjectRef("v1", "ConfigMap", "logging", name)
    found = whole.kubernetes.get(ref)
    assert found is not None
    text = found["data"]["fluent-bit.yaml"]
    assert old in text
    changed = {"data": {"fluent-bit.yaml": text.replace(old, new)}}
    with whole.patched(ref, changed, {"data": {"fluent-bit.yaml": text}}):
        yield


OTHER = "the cluster has another configuration: ConfigMap logging/fluent-bit-config-"


@case(
    "e2e.log-line", "not kept as source_timestamp: it is left in app.@timestamp; " + OTHER, "cali up logging"
)
def no_hard_rename(whole: Whole) -> Iterator[Broken]:
    with configured(whole, "              - '__app__@timestamp source_timestamp'\n", ""):
        yield None


@case(
    "e2e.log-line", "@timestamp is 2001-.* of the line's own; the line was written at .*; " + OTHER, "logging"
)
def a_time_that_is_the_lines_own(whole: Whole) -> Iterator[Broken]:
    with configured(whole, "'__app__@timestamp source_timestamp'", "'__app__@timestamp @timestamp'"):
        yield None


@case("e2e.log-line", "arrived as text in `log`: it was not taken apart; " + OTHER, "cali up logging")
def a_line_that_is_not_taken_apart(whole: Whole) -> Iterator[Broken]:
    with configured(whole, "    decode_field_as: json app\n", ""):
        yield None


@case("e2e.log-line", "does not name its pod cali-verify-.*: labels", "cali up logging")
def records_without_labels(whole: Whole) -> Iterator[Broken]:
    with configured(whole, "            labels: on\n", "            labels: off\n"):
        yield None


@case("e2e.log-line", "there is no index template cali-logs", "cali up index")
def no_template_for_tomorrow(whole: Whole) -> Iterator[Broken]:
    whole.ask_domain("DELETE", "/_index_template/cali-logs")
    yield None
    whole.put_index_right()


@case("e2e.log-line", r"was made without the template cali-logs: .*source_timestamp", "curl -X DELETE")
def an_index_of_before_the_template(whole: Whole) -> Iterator[Broken]:
    whole.ask_domain("DELETE", "/_index_template/cali-logs")
    whole.forget_records()
    # The first record of a day makes the day's index.
    line = whole.results("e2e.log-line")["e2e.log-line"]
    assert line.status is Status.FAIL
    whole.put_index_right()
    yield None
    whole.forget_records()


@case(
    "e2e.log-line",
    "was made by another template than .*stream.type: .text. -> .keyword.",
    "tomorrow is right",
    Status.WARN,
)
def an_index_of_an_earlier_template(whole: Whole) -> Iterator[Broken]:
    body = deepcopy(whole.search.template("cali-logs"))
    assert body is not None
    body["template"]["mappings"]["properties"]["stream"] = {"type": "text"}
    whole.search.put_template("cali-logs", body)
    whole.forget_records()
    # The first record of a day makes the day's index.
    whole.results("e2e.log-line")
    whole.put_index_right()
    yield None
    whole.forget_records()


@case("e2e.once", "the line is there 2 times, in cali-logs-.*; " + OTHER, "cali up logging")
def a_line_that_is_sent_twice(whole: Whole) -> Iterator[Broken]:
    """By another Fluent Bit that reads the same files, and no record has an id that would tell."""
    another, over = FluentBit(whole.clusters, str(whole.ca), lambda: datetime.now(UTC)), threading.Event()

    def ship() -> None:
        while not over.wait(0.02):
            another.tick(NAME)

    thread = threading.Thread(target=ship, name="another")
    with configured(whole, "      generate_id: on\n", "      generate_id: off\n"):
        thread.start()
        yield None
        over.set()
        thread.join()


@case("e2e.grafana.line", "Grafana does not find the line, which OpenSearch has", "cali up services")
def a_data_source_with_another_time(whole: Whole) -> Iterator[Broken]:
    config, labels = ObjectRef("v1", "ConfigMap", "grafana", "grafana"), {"app.kubernetes.io/name": "grafana"}
    found = whole.kubernetes.get(config)
    assert found is not None
    other = found["data"]["datasources.yaml"].replace('"timeField": "@timestamp"', '"timeField": "observed"')
    assert other != found["data"]["datasources.yaml"]
    with whole.patched(config, {"data": {"datasources.yaml": other}}, {"data": found["data"]}):
        whole.restart("grafana", labels)
        yield None
    whole.restart("grafana", labels)


@case("e2e.analysis", "connect: .*collections/list answered 401 .*1800", "cali up service-secrets services")
def another_password_in_milvus(whole: Whole) -> Iterator[Broken]:
    kept = programs(whole).state["milvus"]
    programs(whole).change(milvus="Another-one-1")
    yield None
    programs(whole).change(milvus=kept)


@case("e2e.analysis", "the pod has no connection milvus_default", "cali up service-secrets services")
def no_connection_to_milvus(whole: Whole) -> Iterator[Broken]:
    ref = ObjectRef("v1", "Secret", "airflow", "airflow-connections")
    found = whole.kubernetes.get(ref)
    assert found is not None
    name = "AIRFLOW_CONN_MILVUS_DEFAULT"
    with whole.patched(ref, {"data": {name: None}}, {"data": {name: found["data"][name]}}):
        yield None


# -- deep -----------------------------------------------------------------------------------------------------


@case("deep.leftovers", "left by an earlier run: EBS volume vol-123 .pvc-1.", "delete-volume", Status.WARN)
def a_volume_of_a_run_that_was_killed(whole: Whole) -> Iterator[Broken]:
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "pvc-1"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"},
            "claimRef": {"namespace": "cali-verify-abcdef", "name": "volume"},
            "csi": {"driver": "ebs.csi.aws.com", "volumeHandle": "vol-123"},
        },
    }
    whole.kubernetes.create(volume)
    yield None
    whole.kubernetes.delete(ObjectRef("v1", "PersistentVolume", None, "pvc-1"), wait=5)


@case(
    "deep.volume",
    "no volume within 180 seconds: ExternalProvisioning: Waiting for a volume to be created",
    "logs deployment/ebs-csi-controller",
    hurry=60,
)
def a_driver_that_is_gone(whole: Whole) -> Iterator[Broken]:
    with whole.without(ObjectRef("apps/v1", "Deployment", "kube-system", "ebs-csi-controller")):
        yield None


@case("deep.volume", "cannot be written and read: sync: I/O error", "logs deployment/ebs-csi-controller")
def a_disk_that_fails(whole: Whole) -> Iterator[Broken]:
    programs = whole.folder / "programs"
    programs.mkdir(exist_ok=True)
    (programs / "sync").write_text("#!/bin/sh\necho 'sync: I/O error' >&2\nexit 1\n")
    (programs / "sync").chmod(0o755)
    with whole.another_crew(PATH=f"{programs}:/usr/bin:/bin"):
        yield None


@case("deep.volume", "EBS volume vol-.* its class does not delete it", f"delete-volume .* --region {REGION}")
def a_class_that_keeps_its_volumes(whole: Whole) -> Iterator[Broken]:
    keeping = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "keeping", "annotations": {DEFAULT: "true"}},
        "provisioner": "ebs.csi.aws.com",
        "parameters": {"encrypted": "true"},
        "reclaimPolicy": "Retain",
    }
    whole.kubernetes.create(keeping)
    mark = {"metadata": {"annotations": {DEFAULT: "true"}}}
    with whole.patched(GP2, {"metadata": {"annotations": {DEFAULT: None}}}, mark):
        yield None
    whole.kubernetes.delete(replace(GP2, name="keeping"), wait=5)
    for volume in whole.kubernetes.list("v1", "PersistentVolume"):
        if volume["spec"]["storageClassName"] == "keeping":
            name = volume["metadata"]["name"]
            whole.kubernetes.delete(ObjectRef("v1", "PersistentVolume", None, name), wait=5)


@case("deep.scale-up", "no word of the autoscaler within 3 minutes: .*is not scheduled", "logs", hurry=60)
def an_autoscaler_that_crashes(whole: Whole) -> Iterator[Broken]:
    with (
        whole.another_crew(),
        failing(whole, pod_of(whole, "kube-system", "cluster-autoscaler"), "CrashLoopBackOff"),
    ):
        yield None


@case("deep.scale-up", "no word of the autoscaler within 3 minutes", "kubectl -n kube-system logs", hurry=60)
def an_autoscaler_that_cannot_ask(whole: Whole) -> Iterator[Broken]:
    with whole.another_crew(), without_identity(whole, "cluster-autoscaler"):
        yield None


@case(
    "deep.scale-up",
    "cannot add a node: Scale-up failed for group eks-.*: AccessDenied: .*SetDesiredCapacity",
    "cali verify autoscaler",
    hurry=60,
)
def an_autoscaler_that_is_refused(whole: Whole) -> Iterator[Broken]:
    # Its group is left alone for a while, which others need not wait for.
    with (
        whole.another_crew(),
        role_policy(whole, lambda found: found.pop()),  # type: ignore[arg-type, return-value]
    ):
        yield None


@case("deep.scale-up", "no node group may grow: eks-.* has 3 of 3 nodes", "set eks.max_nodes", Status.WARN)
def a_group_at_its_maximum(whole: Whole) -> Iterator[Broken]:
    whole.resize(3, most=3)
    with whole.another_crew():
        yield None


@case(
    "deep.scale-up",
    "adds no node: pod didn't trigger scale-up: 1 max node group size reached",
    "kubectl -n kube-system logs",
    hurry=60,
)
def a_group_whose_maximum_the_status_does_not_know_yet(whole: Whole) -> Iterator[Broken]:
    with whole.another_crew():
        whole.resize(3, most=3)
        yield None


@case(
    "deep.scale-up",
    r"3->4 \(max: 8\).*, and the pod does not run within 10 minutes: .*anti-affinity",
    f"describe-scaling-activities --auto-scaling-group-name eks-.* --region {REGION}",
    hurry=100,
)
def a_node_that_does_not_come(whole: Whole) -> Iterator[Broken]:
    class OutOfCapacity:
        def scaling_groups(self, cluster: str) -> Sequence[ScalingGroup]:
            return whole.cloud.scaling_groups(cluster)

        def pod_role(self, cluster: str, namespace: str, service_account: str) -> str | None:
            return whole.cloud.pod_role(cluster, namespace, service_account)

        def set_desired(self, cluster: str, group: str, desired: int, role: str) -> None:
            """Nothing comes of it."""

    with whole.another_crew(OutOfCapacity()):
        yield None


# -- the tests ------------------------------------------------------------------------------------------------


def dependents(name: str) -> set[str]:
    """Every check that needs this one, directly or not."""
    found = {name}
    while more := {c.id for c in CHECKS if c.id not in found and found & set(c.needs)}:
        found |= more
    return found - {name}


def not_passed(found: dict[str, Result]) -> dict[str, str]:
    """How each ended that neither passed nor has nothing to look at."""
    return {
        name: result.status.value
        for name, result in found.items()
        if result.status is not Status.PASS
        and (result.status is not Status.SKIP or result.cause in found)
        and not (result.status is Status.SKIP and found[result.cause].status is Status.SKIP)
    }


@pytest.mark.parametrize(
    "names", [(), pytest.param(("e2e",), marks=pytest.mark.processes)], ids=["all", "end-to-end"]
)
def test_everything_passes_on_a_whole_platform(whole: Whole, names: tuple[str, ...]) -> None:
    report = whole.report(*names)

    found = {line.check.id: line.result for line in report.lines}
    assert not_passed(found) == {}, found
    assert report.ok(strict=True)
    for name, result in found.items():
        assert result.detail, name
        assert result.status is Status.PASS, name


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(
            one,
            id=f"{one.check}-{number}",
            marks=[pytest.mark.processes] if BY_ID[one.check].option else [],
        )
        for number, one in enumerate(CASES)
    ],
)
def test_a_break_is_seen_by_the_check_that_is_there_for_it(whole: Whole, broken: Case) -> None:
    family = BY_ID[broken.check].family
    with broken.breaks(whole) as subject:
        found = whole.results(
            family.value,
            subject=subject,
            now=lambda: datetime.now(UTC) + broken.ahead,
            hurry={broken.check: broken.hurry},
        )
    result = found[broken.check]
    assert result.status is broken.status, found
    assert re.search(broken.cause, result.detail), result.detail
    assert re.search(broken.remedy, result.remedy), result.remedy
    behind = dependents(broken.check) if broken.status is Status.FAIL else set()
    assert not_passed(found) == {
        broken.check: broken.status.value,
        **{name: "skip" for name in found if name in behind},
    }
    for name in behind & set(found):
        assert found[name].detail == f"{broken.check} failed"


@pytest.mark.parametrize("service", ["grafana", "airflow"])
def test_what_is_off_is_not_asked_end_to_end(whole: Whole, service: str) -> None:
    off = whole.with_settings(services={service: False})
    result = whole.results(f"e2e.{service}", subject=off)[f"e2e.{service}"]
    assert result.status is Status.SKIP
    assert f"{service} is off in cali.yaml" in result.detail


def test_without_a_repository_there_is_no_git_sync_to_ask(whole: Whole) -> None:
    secrets = whole.secrets.model_copy(update={"gitsync": GitSyncSecrets()})
    result = whole.results("e2e.git-sync", subject=replace(whole.subject, secrets=secrets))["e2e.git-sync"]
    assert result.status is Status.SKIP
    assert "has no gitsync.url" in result.detail


def test_who_may_not_ask_the_simulator_skips_it(whole: Whole) -> None:
    whole.cloud.controls.fail(
        Fault("iam", "SimulatePrincipalPolicy", "AccessDenied", "not authorized to perform", status=403)
    )
    result = whole.results("autoscaler.role")["autoscaler.role"]
    assert result.status is Status.SKIP
    assert "not authorized to perform" in result.detail


def test_a_workspace_from_which_nothing_was_applied_is_no_failure(whole: Whole) -> None:
    """A team's state is elsewhere."""
    result = whole.results("aws.identity", subject=replace(whole.subject, owner=lambda: None))["aws.identity"]
    assert result.status is Status.PASS
    assert "nothing was applied from here yet" in result.detail


@pytest.mark.parametrize("dead", ["kubernetes.api", "eks.cluster-active", "search.domain-active"])
def test_one_dead_system_is_one_failure(whole: Whole, dead: str) -> None:
    """Over all families: what hangs on it is skipped with the cause, and what does not still passes."""
    if dead == "kubernetes.api":
        whole.clusters.faults.unreachable(3600)
    elif dead == "eks.cluster-active":
        whole.cloud.controls.ail("cluster", NAME, {"status": "FAILED"})
    else:
        whole.cloud.controls.ail("domain", NAME, {"Endpoint": ""})
    try:
        found = whole.results()
    finally:
        whole.clusters.faults.unreachable(0)
    assert [name for name, result in found.items() if result.status is Status.FAIL] == [dead]
    skipped = {name for name, result in found.items() if result.status is Status.SKIP}
    assert skipped == dependents(dead) & found.keys()
    assert {found[name].detail for name in skipped} == {f"{dead} failed"}
    assert len(skipped) > 5


def test_every_check_has_a_break() -> None:
    assert {check.id for check in CHECKS} - {one.check for one in CASES} == set()
