"""What AWS says: the caller, the cluster and what it consists of, the domain, the autoscaler's role, and drift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from cali_infra.core.stages import STAGES, Kind
from cali_infra.verify.checks import Check, Family, Result, check, failed, few, passed, skipped, warned
from cali_infra.verify.context import Context

if TYPE_CHECKING:
    from cali_infra.adapters.aws import ClusterDescription, ClusterVersion, DomainDescription
    from cali_infra.adapters.aws_eks import Addon, Issue, NodeGroup, PodIdentity

# Sources: terraform/eks/addons.tf, terraform/eks/identities.tf and terraform/autoscaler/identity.tf.
ADDONS = ("aws-ebs-csi-driver", "coredns", "eks-pod-identity-agent", "kube-proxy", "vpc-cni")
ADDON_ACCOUNTS = ("aws-node", "ebs-csi-controller-sa")
AUTOSCALER_ACCOUNT = "cluster-autoscaler"
SYSTEM = "kube-system"
_TAG = "k8s.io/cluster-autoscaler"
# Source: terraform/autoscaler/identity.tf.
_LOOK = (
    "autoscaling:DescribeAutoScalingGroups",
    "autoscaling:DescribeAutoScalingInstances",
    "autoscaling:DescribeLaunchConfigurations",
    "autoscaling:DescribeScalingActivities",
    "autoscaling:DescribeTags",
    "ec2:DescribeImages",
    "ec2:DescribeInstanceTypes",
    "ec2:DescribeLaunchTemplateVersions",
    "ec2:GetInstanceTypesFromInstanceRequirements",
    "eks:DescribeNodegroup",
)
_SCALE = ("autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup")
# So long before the end of its support a version is spoken of: an upgrade wants to be planned.
SUPPORT_NOTICE = timedelta(days=60)
# The newest of the policies that OpenSearch Service offers demand at least TLS 1.2.
_WEAK_TLS = ("Policy-Min-TLS-1-0-2019-07", "")
_DRIFT_TIMEOUT = 300.0


def command(context: Context, words: str) -> str:
    """A command of the AWS CLI's, in the platform's region whatever the reader's own is."""
    return f"aws {words} --region {context.subject.settings.region}"


# -- the caller -----------------------------------------------------------------------------------------------


@check(
    "aws.identity",
    "The caller is known, and the workspace is his account's",
    family=Family.AWS,
    remedy="aws sts get-caller-identity",
)
def identity(context: Context) -> Result:
    """STS knows the credentials, and the account is the one that this workspace was first applied to."""
    caller = context.subject.identity()
    owner = context.subject.owner()
    if owner is None:
        # What a team has applied may well be there: its state is not in this workspace.
        return passed(f"{caller.arn} in account {caller.account}; nothing was applied from here yet")
    region = context.subject.settings.region
    if (owner.account, owner.region) != (caller.account, region):
        return failed(
            f"{caller.arn} is in account {caller.account}, {region}; the workspace belongs to {owner.account}, "
            f"{owner.region}",
            "# use the credentials and the region that it was made with, or another --env\n"
            "aws sts get-caller-identity",
        )
    return passed(f"{caller.arn} in account {caller.account}")


# -- the cluster ----------------------------------------------------------------------------------------------


def cluster(context: Context) -> ClusterDescription | None:
    """The cluster as EKS describes it, None where there is none."""
    subject = context.subject
    return context.fact("the cluster", lambda: subject.aws.cluster(subject.settings.cluster_name))


def node_groups(context: Context) -> tuple[NodeGroup, ...]:
    """The cluster's managed node groups."""
    subject = context.subject
    return context.fact("node groups", lambda: subject.aws.node_groups(subject.settings.cluster_name))


def pod_identities(context: Context) -> tuple[PodIdentity, ...]:
    """Which role the pods of which service account get."""
    subject = context.subject
    return context.fact("pod identities", lambda: subject.aws.pod_identities(subject.settings.cluster_name))


@check(
    "eks.cluster-active",
    "The cluster is ACTIVE",
    family=Family.AWS,
    needs=("aws.identity",),
    stage="eks",
    remedy="cali up eks",
)
def cluster_active(context: Context) -> Result:
    """The EKS cluster exists, its status is ACTIVE, and EKS finds nothing wrong with it."""
    name = context.subject.settings.cluster_name
    found = cluster(context)
    if found is None:
        return failed(f"there is no cluster {name}", "cali up --through eks")
    look = command(context, f"eks describe-cluster --name {name} --query 'cluster.[status,health]'")
    if found.status not in ("ACTIVE", "UPDATING"):
        return failed(f"{name} is {found.status}", look)
    if found.issues:
        return failed(f"{name}: {_listed(found.issues)}", look)
    if found.status == "UPDATING":
        return warned(f"{name} answers, and AWS is changing it", look)
    return passed(f"{name} is ACTIVE at {found.version}")


@check(
    "eks.version",
    "The cluster's version is the one of cali.yaml, and supported",
    family=Family.AWS,
    needs=("eks.cluster-active",),
    stage="eks",
    remedy="# set eks.version in cali.yaml, one minor version at a time\ncali up",
)
def version(context: Context) -> Result:
    """The control plane runs the Kubernetes version that cali.yaml names, and AWS supports it at the standard price
    for two months more at least."""
    found = cluster(context)
    assert found is not None
    wanted = context.subject.settings.eks.version
    if found.version != wanted:
        return failed(
            f"the cluster runs {found.version}, cali.yaml says {wanted}",
            f"# or put eks.version: '{found.version}' into cali.yaml\ncali up eks",
        )
    offered = {each.version: each for each in context.subject.aws.cluster_versions()}
    return _support(offered.get(found.version), found.version, context)


def _support(known: ClusterVersion | None, version: str, context: Context) -> Result:
    if known is None or known.support == "UNSUPPORTED":
        return failed(f"AWS does not support {version} any more and upgrades the cluster by itself")
    if known.support == "EXTENDED_SUPPORT":
        end = f" until {known.extended_until}" if known.extended_until else ""
        return warned(f"{version} is in extended support{end}: every hour of the cluster costs more")
    if known.standard_until is not None:
        left = known.standard_until - context.now().date()
        if left < SUPPORT_NOTICE:
            return warned(
                f"standard support of {version} ends on {known.standard_until}, in {left.days} days"
            )
        return passed(f"{version}, in standard support until {known.standard_until}")
    return passed(f"{version}, in standard support")


@check(
    "eks.node-groups",
    "The node groups are ACTIVE and without issues",
    family=Family.AWS,
    needs=("eks.cluster-active",),
    stage="eks",
    remedy="cali up eks",
)
def node_groups_active(context: Context) -> Result:
    """Every managed node group is ACTIVE, EKS reports no health issue of it (no capacity, a role that is gone, an
    instance that does not join), and it runs the cluster's version."""
    name = context.subject.settings.cluster_name
    groups = node_groups(context)
    if not groups:
        return failed(f"{name} has no node group")
    for group in groups:
        remedy = command(
            context, f"eks describe-nodegroup --cluster-name {name} --nodegroup-name {group.name}"
        )
        if group.issues:
            return failed(f"{group.name} is {group.status}: {_listed(group.issues)}", remedy)
        if group.status != "ACTIVE":
            return failed(f"{group.name} is {group.status}", remedy)
    found = cluster(context)
    assert found is not None
    behind = [group for group in groups if group.version and group.version != found.version]
    if behind:
        shown = ", ".join(f"{group.name} runs {group.version}" for group in behind)
        return warned(f"{shown}, the cluster {found.version}", "cali up eks")
    return passed(", ".join(f"{group.name} is ACTIVE" for group in groups))


@check(
    "eks.addons",
    "The add-ons are installed, ACTIVE and without issues",
    family=Family.AWS,
    needs=("eks.cluster-active",),
    stage="eks",
    remedy="cali up eks",
)
def addons_active(context: Context) -> Result:
    """vpc-cni, kube-proxy, coredns, the EBS CSI driver and the pod identity agent are installed as EKS add-ons, and
    EKS finds nothing wrong with them."""
    name = context.subject.settings.cluster_name
    found: dict[str, Addon] = {each.name: each for each in context.subject.aws.addons(name)}
    missing = [wanted for wanted in ADDONS if wanted not in found]
    if missing:
        return failed(f"not installed: {', '.join(missing)}")
    ailing = [each for each in found.values() if each.status != "ACTIVE" or each.issues]
    if ailing:
        said = "; ".join(
            f"{each.name} is {each.status}" + (f": {_listed(each.issues)}" if each.issues else "")
            for each in ailing
        )
        return failed(
            said, command(context, f"eks describe-addon --cluster-name {name} --addon-name {ailing[0].name}")
        )
    return passed(", ".join(f"{each.name} {each.version}" for each in found.values()))


@check(
    "eks.pod-identities",
    "The add-ons' pods get their roles",
    family=Family.AWS,
    needs=("eks.cluster-active",),
    stage="eks",
    remedy="cali up eks",
)
def pod_identities_there(context: Context) -> Result:
    """The service accounts of the VPC CNI and of the EBS CSI driver are associated with a role by EKS Pod Identity:
    without it no pod gets an address, and no volume is made."""
    associated = {(each.namespace, each.service_account) for each in pod_identities(context)}
    missing = [account for account in ADDON_ACCOUNTS if (SYSTEM, account) not in associated]
    if missing:
        return failed(f"no pod identity for {', '.join(f'{SYSTEM}/{account}' for account in missing)}")
    return passed(", ".join(f"{SYSTEM}/{account}" for account in ADDON_ACCOUNTS))


@check(
    "autoscaler.identity",
    "The autoscaler's pod gets its role",
    family=Family.AWS,
    needs=("eks.cluster-active",),
    stage="autoscaler",
    remedy="cali up autoscaler",
)
def autoscaler_identity(context: Context) -> Result:
    """The service account of the autoscaler is associated with the role that the stack made for it: without it, it
    runs, is Ready, and may ask AWS nothing."""
    account = f"{SYSTEM}/{AUTOSCALER_ACCOUNT}"
    wanted = context.output("autoscaler", "role_arn")
    if not wanted:
        return skipped("the stack autoscaler was never applied")
    roles = {(each.namespace, each.service_account): each.role_arn for each in pod_identities(context)}
    role = roles.get((SYSTEM, AUTOSCALER_ACCOUNT))
    if role is None:
        return failed(f"no pod identity for {account}")
    if role != wanted:
        return failed(f"{account} gets {role}, not {wanted}")
    return passed(f"{account} gets {role}")


@check(
    "autoscaler.role",
    "The autoscaler's role may scale this cluster's groups, and no other",
    family=Family.AWS,
    needs=("autoscaler.identity", "eks.node-groups"),
    stage="autoscaler",
    remedy="cali up autoscaler",
)
def autoscaler_role(context: Context) -> Result:
    """By IAM's policy simulator, the role may look at what it has to and change the size of this cluster's Auto
    Scaling groups, which it knows by their tags; the groups of another cluster it may not. Skipped where the caller
    may not ask the simulator."""
    from cali_infra.errors import AwsError

    aws, role = context.subject.aws, context.output("autoscaler", "role_arn")
    name = context.subject.settings.cluster_name
    groups = aws.scaling_groups([each for group in node_groups(context) for each in group.scaling_groups])
    try:
        if blind := aws.denied(role, _LOOK):
            return failed(f"it may not {few(blind)}")
        for group in groups:
            if stuck := aws.denied(role, _SCALE, group.arn, _tagged(group.tags)):
                return failed(f"it may not {few(stuck)} on {group.name}")
        for group in groups:
            strange = {f"{_TAG}/enabled": "true", f"{_TAG}/{name}-another": "owned"}
            if set(_SCALE) - set(aws.denied(role, _SCALE, group.arn, _tagged(strange))):
                return failed("it may scale the groups of other clusters")
    except AwsError as error:
        if error.aws_code.startswith("AccessDenied"):
            return skipped(f"IAM's policy simulator may not be asked: {error.message}")
        raise
    return passed(f"it may scale {few([group.name for group in groups])}, and no other cluster's groups")


def _tagged(tags: Mapping[str, str]) -> dict[str, str]:
    """A resource's tags as condition keys; of many, those that the autoscaler's policy looks at."""
    return {f"aws:ResourceTag/{key}": value for key, value in tags.items() if key.startswith(_TAG)}


# -- the domain -----------------------------------------------------------------------------------------------


def domain(context: Context) -> DomainDescription | None:
    """The domain as the service describes it, None where there is none."""
    subject = context.subject
    return context.fact("the domain", lambda: subject.aws.domain(subject.settings.domain_name))


@check(
    "search.domain-active",
    "The OpenSearch domain is there and at rest",
    family=Family.AWS,
    needs=("aws.identity",),
    stage="search",
    remedy="cali up search",
)
def domain_active(context: Context) -> Result:
    """The domain exists, has an endpoint, and is not in the middle of a change."""
    name = context.subject.settings.domain_name
    found = domain(context)
    if found is None:
        return failed(f"there is no domain {name}", "cali up --through search")
    look = command(context, f"opensearch describe-domain-change-progress --domain-name {name}")
    if found.deleted:
        return failed(f"{name} is being deleted", look)
    if not found.endpoint:
        return failed(f"{name} is still being made", look)
    if found.processing:
        return warned(f"{name} answers, and is busy with a change ({found.doing or 'Processing'})", look)
    return passed(f"{name} at {found.endpoint}")


@check(
    "search.encryption",
    "The domain encrypts what it stores and what its nodes say to each other",
    family=Family.AWS,
    needs=("search.domain-active",),
    stage="search",
    remedy="cali plan search",
)
def domain_encrypted(context: Context) -> Result:
    """Encryption at rest and between nodes is on, and so is access control with the domain's own users, which
    stands on both."""
    found = domain(context)
    assert found is not None
    off = [
        what
        for what, on in (
            ("encryption at rest", found.encrypted_at_rest),
            ("encryption between nodes", found.node_to_node_encryption),
            ("fine-grained access control", found.fine_grained),
        )
        if not on
    ]
    if off:
        return failed(f"off: {', '.join(off)}")
    return passed("at rest and between nodes; fine-grained access control")


@check(
    "search.tls",
    "The domain takes HTTPS only, with a recent TLS",
    family=Family.AWS,
    needs=("search.domain-active",),
    stage="search",
    remedy="cali up search",
)
def domain_tls(context: Context) -> Result:
    """The domain enforces HTTPS, and its TLS policy demands 1.2 or newer."""
    found = domain(context)
    assert found is not None
    if not found.enforces_https:
        return failed("HTTPS is not enforced: a password could travel in clear")
    if found.tls_policy in _WEAK_TLS:
        return failed(f"the TLS policy is {found.tls_policy or 'not set'}, which takes TLS 1.0")
    return passed(f"HTTPS enforced, {found.tls_policy}")


# -- drift ----------------------------------------------------------------------------------------------------


def _drift(stack: str) -> Check:
    def ask(context: Context) -> Result:
        found = context.stack(stack)
        if not found.exists():
            return skipped("never applied here")
        # The variables are written into the stack's folder: not while another cali works there.
        context.fact("the workspace alone", lambda: context.facts.hold(context.subject.alone()))
        drift = found.drift(context.cancel)
        if drift.empty:
            return passed("no changes")
        if drift.outside:
            shown = [f"{address} ({', '.join(what) or 'gone'})" for address, what in drift.outside.items()]
            return failed(
                f"changed outside: {few(shown)}", f"# shows it first, and puts it back\ncali up {stack}"
            )
        would = [f"{change.action.value} {change.address}" for change in drift.planned] or list(drift.moved)
        return warned(f"`up` would {few(would)}", f"cali up {stack}")

    return Check(
        id=f"drift.{stack}",
        title=f"The stack {stack} is as its files say",
        family=Family.AWS,
        ask=ask,
        proves="A plan without a lock finds nothing that was changed outside of cali, and nothing that `up` would "
        "do.",
        remedy=f"cali plan {stack}",
        needs=("aws.identity",),
        stage=stack,
        timeout=_DRIFT_TIMEOUT,
        # Terraform is told to stop, and does.
        grace=20.0,
        quick=False,
    )


def _listed(issues: Sequence[Issue]) -> str:
    return "; ".join(str(issue) for issue in issues)


CHECKS: tuple[Check, ...] = (
    identity,
    cluster_active,
    version,
    node_groups_active,
    addons_active,
    pod_identities_there,
    autoscaler_identity,
    autoscaler_role,
    domain_active,
    domain_encrypted,
    domain_tls,
)
DRIFT: tuple[Check, ...] = tuple(_drift(stage.name) for stage in STAGES if stage.kind is Kind.TERRAFORM)
