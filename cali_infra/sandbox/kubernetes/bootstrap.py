"""What a new EKS cluster holds before anybody applies anything, and what its add-ons bring.

Plain data in the form of manifests, minimal but real: names, namespaces, kinds, service accounts and labels
are those of the real ones, so that a check that looks for them finds them. Sources: a new cluster of EKS
1.35 as its documentation describes it, and the add-ons' own manifests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cali_infra.sandbox.kubernetes.authorization import CLUSTER_ROLES
from cali_infra.sandbox.kubernetes.errors import Obj
from cali_infra.sandbox.ports import NodeSpec

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_REGISTRY = "602401143452.dkr.ecr.us-west-2.amazonaws.com"


def cluster_objects() -> list[Obj]:
    """The namespaces, EKS's own StorageClass (in-tree, no default), priority classes and default roles."""
    objects: list[Obj] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in NAMESPACES
    ]
    objects.append(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": "gp2"},
            "provisioner": "kubernetes.io/aws-ebs",
            "parameters": {"type": "gp2", "fsType": "ext4"},
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "WaitForFirstConsumer",
        }
    )
    objects += [
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "globalDefault": False,
        }
        for name, value in (("system-cluster-critical", 2000000000), ("system-node-critical", 2000001000))
    ]
    objects += [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
            "rules": rules,
        }
        for name, rules in CLUSTER_ROLES.items()
    ]
    objects.append(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "cluster-admin", "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "cluster-admin",
            },
            "subjects": [{"kind": "Group", "name": "system:masters"}],
        }
    )
    objects.append(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": "kubernetes",
                "namespace": "default",
                "labels": {"component": "apiserver", "provider": "kubernetes"},
            },
            "spec": {
                "clusterIP": "172.20.0.1",
                "ports": [{"name": "https", "port": 443, "targetPort": 443, "protocol": "TCP"}],
            },
        }
    )
    return objects


def addon_objects(addon: str, version: str) -> list[Obj]:
    """The objects of an EKS add-on. Raises LookupError for an add-on that the stand-in does not know."""
    build = _ADDONS.get(addon)
    if build is None:
        raise LookupError(
            f"the sandbox's Kubernetes stand-in does not know the add-on {addon}; it knows "
            + ", ".join(sorted(_ADDONS))
        )
    return [item for part in build for item in _part(part, version)]


def node_object(group: str, spec: NodeSpec, kubelet: str, instance_id: str) -> Obj:
    """A Ready node of a managed node group; `kubelet` is its version, such as v1.35.0-eks-113cf36."""
    region = spec.zone.rstrip("abcdefghijklmnopqrstuvwxyz") or spec.zone
    labels = {
        "beta.kubernetes.io/arch": "amd64",
        "beta.kubernetes.io/instance-type": spec.instance_type,
        "beta.kubernetes.io/os": "linux",
        "eks.amazonaws.com/capacityType": "ON_DEMAND",
        "eks.amazonaws.com/nodegroup": group,
        "failure-domain.beta.kubernetes.io/region": region,
        "failure-domain.beta.kubernetes.io/zone": spec.zone,
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": spec.name,
        "kubernetes.io/os": "linux",
        "node.kubernetes.io/instance-type": spec.instance_type,
        "topology.kubernetes.io/region": region,
        "topology.kubernetes.io/zone": spec.zone,
        "topology.ebs.csi.aws.com/zone": spec.zone,
        **spec.labels,
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": spec.name, "labels": labels},
        "spec": {"providerID": f"aws:///{spec.zone}/{instance_id}"},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": _address(spec.name)},
                {"type": "InternalDNS", "address": spec.name},
                {"type": "Hostname", "address": spec.name},
            ],
            "allocatable": {"cpu": "3920m", "memory": "14988336Ki", "pods": "58"},
            "capacity": {"cpu": "4", "memory": "16005136Ki", "pods": "58"},
            "nodeInfo": {
                "architecture": "amd64",
                "bootID": "",
                "containerRuntimeVersion": "containerd://2.1.4",
                "kernelVersion": "6.12.46-66.121.amzn2023.x86_64",
                "kubeProxyVersion": kubelet,
                "kubeletVersion": kubelet,
                "machineID": "",
                "operatingSystem": "linux",
                "osImage": "Amazon Linux 2023 (sandbox)",
                "systemUUID": "",
            },
        },
    }


def _address(host: str) -> str:
    """`10.40.1.7` out of `ip-10-40-1-7.ap-northeast-2.compute.internal`; other names have no address to tell."""
    parts = host.split(".")[0].removeprefix("ip-").split("-")
    return ".".join(parts) if len(parts) == 4 and all(part.isdigit() for part in parts) else "127.0.0.1"


class _Part:
    """A workload of an add-on with its service account."""

    def __init__(
        self,
        kind: str,
        name: str,
        account: str,
        containers: Sequence[str],
        label: str = "app.kubernetes.io/name",
    ) -> None:
        self.kind, self.name, self.account, self.containers, self.label = (
            kind,
            name,
            account,
            containers,
            label,
        )


_ADDONS: Mapping[str, Sequence[_Part]] = {
    "vpc-cni": (_Part("DaemonSet", "aws-node", "aws-node", ("aws-node", "aws-eks-nodeagent"), "k8s-app"),),
    "kube-proxy": (_Part("DaemonSet", "kube-proxy", "kube-proxy", ("kube-proxy",), "k8s-app"),),
    "coredns": (_Part("Deployment", "coredns", "coredns", ("coredns",), "k8s-app"),),
    "aws-ebs-csi-driver": (
        _Part("DaemonSet", "ebs-csi-node", "ebs-csi-node-sa", ("ebs-plugin", "node-driver-registrar"), "app"),
        _Part(
            "Deployment",
            "ebs-csi-controller",
            "ebs-csi-controller-sa",
            ("ebs-plugin", "csi-provisioner", "csi-attacher", "csi-resizer"),
            "app",
        ),
    ),
    "eks-pod-identity-agent": (
        _Part("DaemonSet", "eks-pod-identity-agent", "eks-pod-identity-agent", ("eks-pod-identity-agent",)),
    ),
    "metrics-server": (_Part("Deployment", "metrics-server", "metrics-server", ("metrics-server",)),),
}


def _part(part: _Part, version: str) -> list[Obj]:
    labels = {part.label: "kube-dns" if part.name == "coredns" else part.name}
    metadata: Obj = {"name": part.name, "namespace": "kube-system", "labels": dict(labels)}
    template = {
        "metadata": {"labels": labels},
        "spec": {
            "serviceAccountName": part.account,
            "priorityClassName": "system-node-critical"
            if part.kind == "DaemonSet"
            else "system-cluster-critical",
            "containers": [
                {"name": name, "image": f"{_REGISTRY}/eks/{name}:{version}"} for name in part.containers
            ],
            "tolerations": [{"operator": "Exists"}],
        },
    }
    spec: Obj = {"selector": {"matchLabels": labels}, "template": template}
    if part.kind == "Deployment":
        spec["replicas"] = 2
    objects: list[Obj] = [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": part.account, "namespace": "kube-system"},
        },
        {"apiVersion": "apps/v1", "kind": part.kind, "metadata": metadata, "spec": spec},
    ]
    if part.name == "coredns":
        objects.append(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": dict(labels)},
                "spec": {
                    "clusterIP": "172.20.0.10",
                    "selector": labels,
                    "ports": [
                        {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                        {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
                    ],
                },
            }
        )
    if part.name == "ebs-csi-controller":
        objects.append(
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "CSIDriver",
                "metadata": {"name": "ebs.csi.aws.com"},
                "spec": {"attachRequired": True, "podInfoOnMount": False},
            }
        )
    return objects
