"""Access that ends by itself: the stack `access` under the real Terraform, and a cluster that then says 401.

One story in the order of this file, without the other stacks: the cluster is made by hand.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT, Project

pytestmark = pytest.mark.sandbox

ACCOUNT, REGION, CLUSTER = "123456789012", "ap-northeast-2", "demo"
JIN = f"arn:aws:iam::{ACCOUNT}:user/jin"
MINA = f"arn:aws:iam::{ACCOUNT}:user/team/mina"
OPS = f"arn:aws:iam::{ACCOUNT}:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Ops_0123456789abcdef"
SOON, LATER = "2099-01-31T00:00:00Z", "2099-06-30T00:00:00Z"
GROUP = f"{CLUSTER}-access-expiry"
# Made with the first end, and kept.
MEANS = {
    f"aws_{kind}.expiry[0]"
    for kind in ("scheduler_schedule_group", "sqs_queue", "iam_role", "iam_role_policy")
}


def principal(until: str | None = None) -> dict[str, Any]:
    return {
        "name": "Somebody",
        "level": "view",
        "namespaces": [],
        "until": until,
        "granted_by": f"arn:aws:iam::{ACCOUNT}:user/lead",
        "granted_at": "2026-01-27T10:00:00Z",
    }


def addresses(arn: str) -> list[str]:
    """What a grant to one principal is planned with: its own resources, there or not, and the record."""
    kinds = (
        "aws_eks_access_entry.this",
        "aws_eks_access_policy_association.this",
        "aws_scheduler_schedule.expiry",
    )
    return [*(f'{kind}["{arn}"]' for kind in kinds), "terraform_data.record"]


@dataclass
class Stack:
    """The stack `access` in a folder of its own."""

    folder: Path
    environ: Mapping[str, str]
    project: Project
    principals: dict[str, Any] = field(default_factory=dict)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        variables = {
            "project": "cali",
            "environment": "default",
            "region": REGION,
            "account_id": ACCOUNT,
            "cluster_name": CLUSTER,
            "creator_arn": f"arn:aws:iam::{ACCOUNT}:user/sandbox/operator",
            "keep_expiry": bool(self.outputs().get("dead_letters")),
            "principals": self.principals,
            "revoked": {},
        }
        (self.folder / "terraform.tfvars.json").write_text(json.dumps(variables))
        return subprocess.run(
            ["terraform", *arguments],
            cwd=self.folder,
            env=dict(self.environ),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def apply(self, *targets: str) -> dict[str, str]:
        """Apply, to these principals alone where some are named; returns what was planned, action by address."""
        options = [f"-target={address}" for arn in targets for address in addresses(arn)]
        done = self.run("apply", "-json", "-auto-approve", "-input=false", *options)
        assert done.returncode == 0, done.stdout + done.stderr
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        changes = [line["change"] for line in lines if line["type"] == "planned_change"]
        return {change["resource"]["addr"]: change["action"] for change in changes}

    def settled(self) -> bool:
        """Whether nothing is left to change."""
        return self.run("plan", "-input=false", "-detailed-exitcode").returncode == 0

    def outputs(self) -> dict[str, Any]:
        """The outputs in the state, by name."""
        state = self.folder / "terraform.tfstate"
        found = json.loads(state.read_text())["outputs"] if state.exists() else {}
        return {name: output["value"] for name, output in found.items()}

    def record(self) -> set[str]:
        """Whom the output `record` holds."""
        return set(self.outputs()["record"]["principals"])

    def schedules(self) -> dict[str, str]:
        """When access ends by the schedules in AWS, by principal."""
        scheduler = self.project.aws("scheduler")
        listed = scheduler.list_schedules(GroupName=GROUP)["Schedules"]
        found = [scheduler.get_schedule(Name=each["Name"], GroupName=each["GroupName"]) for each in listed]
        return {
            json.loads(each["Target"]["Input"])["PrincipalArn"]: each["ScheduleExpression"] for each in found
        }


@pytest.fixture(scope="module")
def stack(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The sandbox with a cluster and two users, and the stack before its first apply."""
    from cali_infra.sandbox.record import SandboxAddress

    assert project.cali("sandbox", "start").code == 0
    iam, ec2 = project.aws("iam"), project.aws("ec2")

    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "eks.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    role = iam.create_role(RoleName="cluster", AssumeRolePolicyDocument=trust)["Role"]
    vpc = ec2.create_vpc(CidrBlock="10.40.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.40.{n}.0/24", AvailabilityZone=f"{REGION}{zone}")
        for n, zone in enumerate("ab")
    ]
    project.aws("eks").create_cluster(
        name=CLUSTER,
        roleArn=role["Arn"],
        resourcesVpcConfig={"subnetIds": [each["Subnet"]["SubnetId"] for each in subnets]},
        accessConfig={"authenticationMode": "API"},
    )
    iam.create_user(UserName="jin")
    iam.create_user(UserName="mina", Path="/team/")
    folder = tmp_path_factory.mktemp("access")
    for file in (ROOT / "terraform/access").glob("*.tf"):
        shutil.copy(file, folder)
    address = SandboxAddress.from_json((project.folder / ".cali/sandbox/sandbox.json").read_text())
    made = Stack(folder, address.surroundings({**os.environ, **project.environ}), project)
    done = made.run("init", "-input=false")
    assert done.returncode == 0, done.stdout + done.stderr
    yield made


@pytest.fixture(scope="module")
def status(stack: Stack) -> Callable[[str], int]:
    """The status by which the cluster's API answers a user who lists pods with the user's own key."""
    from cali_infra.adapters.aws import Aws

    iam = stack.project.aws("iam")
    cluster = stack.project.aws("eks").describe_cluster(name=CLUSTER)["cluster"]
    authority = base64.b64decode(cluster["certificateAuthority"]["data"]).decode()
    context = ssl.create_default_context(cadata=authority)

    keys = {user: iam.create_access_key(UserName=user)["AccessKey"] for user in ("jin", "mina")}

    def ask(user: str) -> int:
        key = keys[user]
        own = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
        bearer = Aws(REGION, {**stack.environ, **own}).token(CLUSTER).value
        request = urllib.request.Request(
            f"{cluster['endpoint']}/api/v1/namespaces/default/pods",
            headers={"Authorization": f"Bearer {bearer}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10, context=context) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refusal:
            refusal.close()
            return refusal.code

    return ask


def test_nobody_has_an_end(stack: Stack, status: Callable[[str], int]) -> None:
    assert (status("jin"), status("mina")) == (401, 401)
    stack.principals = {JIN: principal()}

    planned = stack.apply()

    assert set(planned) == set(addresses(JIN)) - {f'aws_scheduler_schedule.expiry["{JIN}"]'}
    assert (status("jin"), status("mina")) == (200, 401)


def test_the_first_end_brings_what_it_needs(stack: Stack, status: Callable[[str], int]) -> None:
    """Planned for one principal alone, as a grant does it, although others on record would change."""
    stack.principals = {JIN: principal(LATER), MINA: principal(SOON), OPS: principal(SOON)}

    planned = stack.apply(MINA)

    made = {*addresses(MINA)[:3], *MEANS}
    assert planned == {**dict.fromkeys(made, "create"), "terraform_data.record": "update"}
    assert stack.record() == {JIN, MINA, OPS}
    assert stack.schedules() == {MINA: "at(2099-01-31T00:00:00)"}
    assert status("mina") == 200


def test_the_next_end_is_its_own_resources_and_the_record(stack: Stack) -> None:
    stack.principals |= {JIN: principal()}

    planned = stack.apply(OPS)

    assert planned == {**dict.fromkeys(addresses(OPS), "create"), "terraform_data.record": "update"}
    assert stack.schedules().keys() == {MINA, OPS}
    assert stack.settled()


def test_an_end_is_moved_in_place_and_taken_away_alone(stack: Stack) -> None:
    stack.principals |= {MINA: principal(LATER), OPS: principal()}

    planned = stack.apply(MINA, OPS)

    entry, association, schedule, record = addresses(MINA)
    assert planned == {
        entry: "update",  # its tag expires-at
        schedule: "update",
        addresses(OPS)[0]: "update",
        addresses(OPS)[2]: "delete",
        record: "update",
    }
    assert association not in planned
    assert stack.schedules() == {MINA: "at(2099-06-30T00:00:00)"}


def test_at_its_time_aws_ends_it(stack: Stack, status: Callable[[str], int]) -> None:
    stack.project.control("clock", {"now": SOON})
    assert status("mina") == 200, "it was moved"

    stack.project.control("clock", {"now": LATER})

    assert (status("jin"), status("mina")) == (200, 401)
    assert set(stack.project.aws("eks").list_access_entries(clusterName=CLUSTER)["accessEntries"]) >= {
        JIN,
        OPS,
    }


def test_what_ended_leaves_the_record_without_a_trace(stack: Stack) -> None:
    del stack.principals[MINA]

    planned = stack.apply(MINA)

    # Nobody has an end any more, and what ended Mina's access stays.
    assert planned == {addresses(MINA)[2]: "delete", "terraform_data.record": "update"}
    assert stack.record() == {JIN, OPS}
    assert stack.schedules() == {}
    assert stack.settled()


def test_what_has_ended_is_not_granted_again(stack: Stack) -> None:
    """By plain Terraform in the workspace, whose variables are those of the last run."""
    stack.principals |= {MINA: principal("2026-01-31T00:00:00Z")}

    done = stack.run("plan", "-input=false", "-no-color")

    assert done.returncode == 1
    assert f"Access of {MINA} ended on 2026-01-31T00:00:00Z" in " ".join(done.stderr.split())


def test_down_is_not_held_up_by_what_has_ended(stack: Stack) -> None:
    done = stack.run("destroy", "-auto-approve", "-input=false", "-no-color")

    assert done.returncode == 0, done.stdout + done.stderr
    groups = stack.project.aws("scheduler").list_schedule_groups()["ScheduleGroups"]
    assert [group["Name"] for group in groups] == ["default"]
    assert "QueueUrls" not in stack.project.aws("sqs").list_queues()
    assert not {JIN, MINA, OPS} & set(
        stack.project.aws("eks").list_access_entries(clusterName=CLUSTER)["accessEntries"]
    )
