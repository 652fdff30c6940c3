"""What EKS offers: Kubernetes versions with their dates, add-ons with their versions, access policies.

It owns these tables. The dates are of AWS' release calendar; the builds of add-ons are plausible, not
complete: of each add-on there are the default and one newer build for every Kubernetes version.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

DEFAULT_VERSION = "1.35"
POLICY_PREFIX = "arn:aws:eks::aws:cluster-access-policy/"
ACCESS_POLICIES = (
    "AmazonEKSAdminPolicy",
    "AmazonEKSAdminViewPolicy",
    "AmazonEKSClusterAdminPolicy",
    "AmazonEKSEditPolicy",
    "AmazonEKSViewPolicy",
)


@dataclass(frozen=True)
class ClusterVersion:
    """A Kubernetes version of EKS: when it came, and when each kind of support ends."""

    version: str
    patch: str
    released: date
    standard_until: date
    extended_until: date

    def status(self, today: date) -> str:
        """UNSUPPORTED, EXTENDED_SUPPORT or STANDARD_SUPPORT on that day."""
        if today > self.extended_until:
            return "UNSUPPORTED"
        return "EXTENDED_SUPPORT" if today > self.standard_until else "STANDARD_SUPPORT"

    def document(self, today: date) -> dict[str, Any]:
        """The version as DescribeClusterVersions shows it."""
        status = self.status(today)
        return {
            "clusterVersion": self.version,
            "clusterType": "eks",
            "defaultPlatformVersion": "eks.5",
            "defaultVersion": self.version == DEFAULT_VERSION,
            "releaseDate": _midnight(self.released),
            "endOfStandardSupportDate": _midnight(self.standard_until),
            "endOfExtendedSupportDate": _midnight(self.extended_until),
            "status": status.lower().replace("_", "-"),
            "versionStatus": status,
            "kubernetesPatchVersion": self.patch,
        }


VERSIONS = (
    ClusterVersion("1.35", "1.35.0", date(2026, 1, 27), date(2027, 3, 27), date(2028, 3, 27)),
    ClusterVersion("1.34", "1.34.3", date(2025, 10, 2), date(2026, 12, 2), date(2027, 12, 2)),
    ClusterVersion("1.33", "1.33.7", date(2025, 5, 29), date(2026, 7, 29), date(2027, 7, 29)),
    ClusterVersion("1.32", "1.32.11", date(2025, 1, 23), date(2026, 3, 23), date(2027, 3, 23)),
    ClusterVersion("1.31", "1.31.14", date(2024, 9, 26), date(2025, 11, 26), date(2026, 11, 26)),
    ClusterVersion("1.30", "1.30.14", date(2024, 5, 23), date(2025, 7, 23), date(2026, 7, 23)),
    ClusterVersion("1.29", "1.29.15", date(2024, 1, 23), date(2025, 3, 23), date(2026, 3, 23)),
)


@dataclass(frozen=True)
class AddonKind:
    """An add-on: its builds (default first, then a newer one), and what it needs.

    `{k8s}` in a build stands for the Kubernetes version. `waits_for_nodes`: it runs Deployments, which
    stay without replicas until there are nodes. `service_account` is the one that pod identity serves.
    """

    name: str
    builds: tuple[str, ...]
    category: str
    waits_for_nodes: bool = False
    service_account: str = ""
    policies: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    def versions(self, kubernetes: str) -> tuple[str, ...]:
        """The builds for a Kubernetes version, default first."""
        return tuple(build.format(k8s=kubernetes) for build in self.builds)

    def document(self, kubernetes: str | None) -> dict[str, Any]:
        """The add-on as DescribeAddonVersions shows it, for one Kubernetes version or for all."""
        shown: dict[str, dict[str, Any]] = {}
        for version in VERSIONS:
            if kubernetes not in (None, version.version):
                continue
            for build in self.versions(version.version):
                entry = shown.setdefault(
                    build,
                    {
                        "addonVersion": build,
                        "architecture": ["amd64", "arm64"],
                        "computeTypes": ["ec2", "hybrid"],
                        "compatibilities": [],
                        "requiresConfiguration": False,
                        "requiresIamPermissions": bool(self.service_account),
                    },
                )
                entry["compatibilities"].append(
                    {
                        "clusterVersion": version.version,
                        "platformVersions": ["*"],
                        "defaultVersion": build == self.versions(version.version)[0],
                    }
                )
        return {
            "addonName": self.name,
            "type": self.category,
            "publisher": "eks",
            "owner": "aws",
            "defaultNamespace": "kube-system",
            # AWS lists the newest build first, and so finds it whoever asks for the most recent one.
            "addonVersions": list(reversed(shown.values())),
        }


ADDONS = {
    kind.name: kind
    for kind in (
        AddonKind(
            "vpc-cni",
            ("v1.20.4-eksbuild.2", "v1.20.5-eksbuild.1"),
            "networking",
            service_account="aws-node",
            policies=("arn:aws:iam::aws:policy/AmazonEKS_CNI_Policy",),
            settings=("enableNetworkPolicy", "env", "init", "nodeAgent", "resources"),
        ),
        AddonKind(
            "kube-proxy", ("v{k8s}.0-eksbuild.2", "v{k8s}.1-eksbuild.2"), "networking", settings=("mode",)
        ),
        AddonKind(
            "coredns",
            ("v1.12.4-eksbuild.1", "v1.13.1-eksbuild.1"),
            "networking",
            waits_for_nodes=True,
            settings=("autoScaling", "computeType", "corefile", "replicaCount", "resources", "tolerations"),
        ),
        AddonKind(
            "aws-ebs-csi-driver",
            ("v1.53.0-eksbuild.1", "v1.54.0-eksbuild.1"),
            "storage",
            waits_for_nodes=True,
            service_account="ebs-csi-controller-sa",
            policies=("arn:aws:iam::aws:policy/service-role/AmazonEBSCSIDriverPolicy",),
            settings=("controller", "defaultStorageClass", "node", "sidecars"),
        ),
        AddonKind("eks-pod-identity-agent", ("v1.3.9-eksbuild.5", "v1.3.10-eksbuild.1"), "security"),
        AddonKind("metrics-server", ("v0.8.0-eksbuild.5", "v0.8.0-eksbuild.6"), "observability", True),
    )
}


def policies_of_caller() -> list[dict[str, str]]:
    """The access policies as ListAccessPolicies shows them."""
    return [{"name": name, "arn": POLICY_PREFIX + name} for name in ACCESS_POLICIES]


def version(name: str) -> ClusterVersion | None:
    """The Kubernetes version of that name."""
    return next((each for each in VERSIONS if each.version == name), None)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
