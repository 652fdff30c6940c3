"""Who gets in: granted, listed, revoked, ended, by several laptops that share one state in S3.

One story in the order of this file, on one cluster. Two folders stand for two laptops: each has its own
secrets.yaml, and nothing of the other's workspace.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cali_infra.adapters.aws import Aws
from cali_infra.adapters.kubernetes import ClusterAccess, Kubernetes
from cali_infra.errors import UnauthorizedError

from .conftest import SENTINEL, Project, Ran

pytestmark = pytest.mark.sandbox

BUCKET = "acme-terraform-state"
CLUSTER = "cali-default"
ACCOUNT = "123456789012"
POLICY = "arn:aws:eks::aws:cluster-access-policy/AmazonEKS"


def user(name: str) -> str:
    return f"arn:aws:iam::{ACCOUNT}:user/{name}"


@dataclass
class Team:
    """The laptops and the account: a leader's with the platform, and a colleague's."""

    lead: Project
    other: Project

    @property
    def eks(self) -> Any:
        return self.lead.aws("eks")

    @property
    def iam(self) -> Any:
        return self.lead.aws("iam")

    def create(self, *names: str) -> list[str]:
        for name in names:
            self.iam.create_user(UserName=name)
        return [user(name) for name in names]

    def run_other(self, *arguments: str) -> Ran:
        return self.other.cali(*arguments, CALI_SANDBOX_DIR=str(self.lead.folder))

    def entries(self) -> set[str]:
        return set(self.eks.list_access_entries(clusterName=CLUSTER)["accessEntries"])

    def policies(self, arn: str) -> dict[str, Any]:
        found = self.eks.list_associated_access_policies(clusterName=CLUSTER, principalArn=arn)
        return {
            item["policyArn"].removeprefix(POLICY): item["accessScope"]
            for item in found["associatedAccessPolicies"]
        }

    def record(self) -> dict[str, Any]:
        body = self.lead.aws("s3").get_object(Bucket=BUCKET, Key="cali/default/access.tfstate")["Body"]
        found: dict[str, Any] = json.loads(body.read())["outputs"]["record"]["value"]
        return found

    def answers(self, key: dict[str, str]) -> bool:
        """Whether the cluster lets the owner of these keys in: a namespace can be listed, or it is a 401."""
        environ = {
            "AWS_ENDPOINT_URL": self.lead.record["aws_endpoint"],
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }
        door = Aws("ap-northeast-2", environ)
        cluster = self.eks.describe_cluster(name=CLUSTER)["cluster"]
        access = ClusterAccess(
            cluster["endpoint"],
            (self.lead.folder / ".cali/sandbox/ca.pem").read_bytes(),
            lambda: door.token(CLUSTER),
        )
        kubernetes = Kubernetes(access)
        try:
            return bool(kubernetes.list("v1", "Namespace"))
        except UnauthorizedError:
            return False
        finally:
            kubernetes.close()


def two_laptops(project: Project) -> Team:
    """A cluster whose record is empty, and a second folder of the same project, on one state in S3."""

    def nobody(secrets: dict[str, Any]) -> None:
        secrets["principals"] = []

    project.settings(state={"backend": "s3", "bucket": BUCKET})
    project.secrets(nobody)
    assert project.cali("state", "bootstrap").code == 0
    ran = project.cali("up", "--through", "access", "--yes")
    assert ran.code == 0, ran.err
    other = replace(project, folder=project.folder.parent / "laptop", ran=[])
    other.folder.mkdir()
    for name in ("cali.yaml", "secrets.yaml"):
        shutil.copy2(project.folder / name, other.folder / name)
    return Team(project, other)


@pytest.fixture(scope="module")
def team(project: Project) -> Team:
    return two_laptops(project)


def test_a_grant_lets_the_principals_own_keys_in(team: Team) -> None:
    (jin,) = team.create("jin")
    key = team.iam.create_access_key(UserName="jin")["AccessKey"]
    assert not team.answers(key)

    ran = team.lead.cali("grant-access", jin, "--name", "Jin", "--yes")

    assert ran.code == 0, ran.err
    (entry,) = ran.document["entries"]
    assert (entry["arn"], entry["level"], entry["status"], entry["source"]) == (
        jin,
        "admin",
        "active",
        "state",
    )
    assert team.policies(jin) == {"ClusterAdminPolicy": {"type": "cluster", "namespaces": []}}
    assert team.answers(key)
    assert "cali kubeconfig" in ran.err
    assert "aws eks update-kubeconfig" in ran.err
    assert SENTINEL not in ran.out + ran.err


def test_a_second_grant_of_the_same_changes_nothing(team: Team) -> None:
    before = team.record()

    ran = team.lead.cali("grant-access", user("jin"), "--yes")

    assert ran.code == 0, ran.err
    assert team.record() == before


def test_options_that_are_not_given_leave_things_as_they_are(team: Team) -> None:
    ran = team.lead.cali(
        "grant-access",
        user("jin"),
        "--level",
        "view",
        "--namespace",
        "logging",
        "--namespace",
        "air*",
        "--yes",
    )
    assert ran.code == 0, ran.err
    assert team.policies(user("jin")) == {
        "ViewPolicy": {"type": "namespace", "namespaces": ["air*", "logging"]}
    } or team.policies(user("jin")) == {
        "ViewPolicy": {"type": "namespace", "namespaces": ["logging", "air*"]}
    }

    ran = team.lead.cali("grant-access", user("jin"), "--level", "edit", "--yes")
    assert ran.code == 0, ran.err
    (entry,) = ran.document["entries"]
    assert (entry["level"], sorted(entry["namespaces"]), entry["name"]) == (
        "edit",
        ["air*", "logging"],
        "Jin",
    )

    ran = team.lead.cali("grant-access", user("jin"), "--whole-cluster", "--level", "admin", "--yes")
    assert ran.code == 0, ran.err
    assert team.policies(user("jin")) == {"ClusterAdminPolicy": {"type": "cluster", "namespaces": []}}


@pytest.mark.parametrize(
    ("arn", "words"),
    [
        (user("nobody"), "IAM has no such principal"),
        (f"arn:aws:iam::{ACCOUNT}:group/ops", "group"),
        (f"arn:aws:iam::{ACCOUNT}:root", "root"),
        (f"arn:aws:sts::{ACCOUNT}:assumed-role/none/me", "no role none"),
    ],
)
def test_who_cannot_have_access_is_refused_and_nothing_is_touched(team: Team, arn: str, words: str) -> None:
    before, entries = team.record(), team.entries()

    ran = team.lead.cali("grant-access", arn, "--yes")

    assert ran.code in (1, 2), ran.err
    if "assumed-role" not in arn:
        assert ran.code == 2
    assert words in ran.document["error"]["message"]
    assert (team.record(), team.entries()) == (before, entries)


def test_a_session_stands_for_its_role_with_its_path(team: Team) -> None:
    trust = {"Version": "2012-10-17", "Statement": []}
    role = team.iam.create_role(
        RoleName="AWSReservedSSO_Ops",
        Path="/aws-reserved/sso.amazonaws.com/",
        AssumeRolePolicyDocument=json.dumps(trust),
    )["Role"]["Arn"]

    ran = team.lead.cali(
        "grant-access",
        f"arn:aws:sts::{ACCOUNT}:assumed-role/AWSReservedSSO_Ops/mina",
        "--level",
        "view",
        "--yes",
    )

    assert ran.code == 0, ran.err
    assert ran.document["entries"][0]["arn"] == role
    assert role in team.entries()


def test_an_entry_made_by_hand_is_adopted_and_gets_the_level_that_was_asked_for(team: Team) -> None:
    (hana,) = team.create("hana")
    team.eks.create_access_entry(clusterName=CLUSTER, principalArn=hana)
    for policy in ("AdminViewPolicy", "EditPolicy"):
        team.eks.associate_access_policy(
            clusterName=CLUSTER,
            principalArn=hana,
            policyArn=POLICY + policy,
            accessScope={"type": "cluster"},
        )
    listed = {entry["arn"]: entry for entry in team.lead.cali("list-access").document["entries"]}
    assert listed[hana]["status"] == "unmanaged"

    ran = team.lead.cali("grant-access", hana, "--level", "view", "--yes")

    assert ran.code == 0, ran.err
    assert "adopts an entry made by hand" in ran.err
    assert set(team.policies(hana)) == {"ViewPolicy"}
    assert ran.document["entries"][0]["status"] == "active"


def test_nobody_else_is_touched(team: Team) -> None:
    """A drift of another principal is not put right by a grant; `up` does that."""
    team.eks.disassociate_access_policy(
        clusterName=CLUSTER, principalArn=user("hana"), policyArn=POLICY + "ViewPolicy"
    )
    (dora,) = team.create("dora")

    ran = team.run_other("grant-access", dora, "--yes")

    assert ran.code == 0, ran.err
    assert team.policies(user("hana")) == {}
    listed = {entry["arn"]: entry for entry in team.lead.cali("list-access").document["entries"]}
    assert listed[user("hana")]["status"] == "missing-policy"
    assert listed[dora]["status"] == "active"


def test_a_line_of_one_laptop_is_added_by_its_up_and_loses_nobody(team: Team) -> None:
    team.create("eun")

    def list_eun(secrets: dict[str, Any]) -> None:
        secrets["principals"] = [{"arn": user("eun"), "name": "Eun", "level": "edit"}]

    team.other.secrets(list_eun)

    ran = team.run_other("up", "access", "--yes")

    assert ran.code == 0, ran.err
    assert {user(name) for name in ("jin", "hana", "dora", "eun")} <= set(team.record()["principals"])
    assert set(team.policies(user("hana"))) == {"ViewPolicy"}


def test_who_is_revoked_is_out_and_stays_out(team: Team) -> None:
    key = team.iam.list_access_keys(UserName="jin")["AccessKeyMetadata"]
    assert len(key) == 1

    ran = team.lead.cali("revoke-access", user("eun"), "--yes")

    assert ran.code == 0, ran.err
    assert user("eun") not in team.entries()
    assert user("eun") in team.record()["revoked"]
    assert "until it is closed" in ran.err

    again = team.run_other("up", "access", "--yes")

    assert again.code == 0, again.err
    assert again.stages["access"] == "unchanged"
    assert user("eun") not in team.entries()
    assert "remove the line from secrets.yaml" in again.err
    assert team.lead.cali("revoke-access", user("eun"), "--yes").code == 0
    assert team.lead.cali("revoke-access", user("stranger"), "--yes").code == 2


def test_only_a_grant_brings_one_back(team: Team) -> None:
    ran = team.lead.cali("grant-access", user("eun"), "--level", "view", "--yes")

    assert ran.code == 0, ran.err
    assert user("eun") in team.entries()
    assert user("eun") not in team.record()["revoked"]


def test_an_entry_made_by_hand_can_be_taken_away(team: Team) -> None:
    (byhand,) = team.create("byhand")
    team.eks.create_access_entry(clusterName=CLUSTER, principalArn=byhand)

    ran = team.lead.cali("revoke-access", byhand, "--yes")

    assert ran.code == 0, ran.err
    assert byhand not in team.entries()


def test_the_creators_own_entry_is_shown_and_never_managed(team: Team) -> None:
    creator = team.lead.aws("sts").get_caller_identity()["Arn"]
    listed = {entry["arn"]: entry for entry in team.lead.cali("list-access").document["entries"]}
    assert listed[creator]["status"] == "unmanaged"
    assert "created the cluster" in listed[creator]["notes"][0]

    assert team.lead.cali("grant-access", creator, "--yes").code == 2
    ran = team.lead.cali("revoke-access", creator, "--yes", "--force")
    assert ran.code == 3, ran.err
    assert creator in team.entries()


def test_the_last_admin_is_not_revoked_by_mistake(team: Team) -> None:
    """The creator counts as one: without its entry, made away by hand, Jin and Dora are the admins."""
    creator = team.lead.aws("sts").get_caller_identity()["Arn"]
    assert team.lead.cali("revoke-access", user("dora"), "--yes").code == 0
    team.eks.delete_access_entry(clusterName=CLUSTER, principalArn=creator)

    for arguments in (("--yes",), ("--force",)):
        ran = team.lead.cali("revoke-access", user("jin"), *arguments)
        assert ran.code == 3, ran.err
        assert user("jin") in team.entries()

    team.eks.create_access_entry(clusterName=CLUSTER, principalArn=creator)
    team.eks.associate_access_policy(
        clusterName=CLUSTER,
        principalArn=creator,
        policyArn=POLICY + "ClusterAdminPolicy",
        accessScope={"type": "cluster"},
    )


def test_a_principal_that_was_made_anew_is_told_and_healed_by_a_grant(team: Team) -> None:
    team.iam.delete_access_key(
        UserName="jin",
        AccessKeyId=team.iam.list_access_keys(UserName="jin")["AccessKeyMetadata"][0]["AccessKeyId"],
    )
    team.iam.delete_user(UserName="jin")
    team.create("jin")
    key = team.iam.create_access_key(UserName="jin")["AccessKey"]
    assert not team.answers(key)
    listed = {entry["arn"]: entry for entry in team.lead.cali("list-access").document["entries"]}
    assert any("made anew" in note for note in listed[user("jin")]["notes"])

    ran = team.lead.cali("grant-access", user("jin"), "--yes")

    assert ran.code == 0, ran.err
    assert team.answers(key)


def test_a_team_comes_in_from_a_file_in_one_apply(team: Team) -> None:
    arns = team.create("a1", "a2", "a3")
    (team.lead.folder / "team.csv").write_text(
        "arn,name,level,namespaces\n" + "".join(f"{arn},{arn[-2:]},view,logging\n" for arn in arns)
    )
    serial = _serial(team)

    ran = team.lead.cali("grant-access", "--from", "team.csv", "--yes")

    assert ran.code == 0, ran.err
    assert {entry["name"] for entry in ran.document["entries"]} == {"a1", "a2", "a3"}
    assert set(arns) <= team.entries()
    assert _serial(team) - serial <= 3


def test_access_ends_at_its_time_with_no_laptop_awake(team: Team) -> None:
    (temp,) = team.create("temp")
    key = team.iam.create_access_key(UserName="temp")["AccessKey"]

    ran = team.lead.cali("grant-access", temp, "--level", "view", "--for", "2h", "--yes")

    assert ran.code == 0, ran.err
    assert team.answers(key)
    assert len(team.lead.aws("scheduler").list_schedules()["Schedules"]) == 1

    team.lead.control("clock", {"advance": 3 * 3600})

    assert temp not in team.entries()
    assert not team.answers(key)
    assert temp in team.record()["principals"], "no laptop was awake"


def test_what_is_over_is_cleaned_up_by_the_next_look_and_not_granted_again(team: Team) -> None:
    """The commands see the time by their own clock, so the record is given one that is past."""
    over = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    key = "cali/default/access.tfstate"
    s3 = team.lead.aws("s3")
    state = json.loads(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    text = json.dumps(state).replace(
        state["outputs"]["record"]["value"]["principals"][user("temp")]["until"], over
    )
    s3.put_object(Bucket=BUCKET, Key=key, Body=text)

    def list_temp(secrets: dict[str, Any]) -> None:
        secrets["principals"] = [{"arn": user("temp"), "name": "Temp"}]

    team.other.secrets(list_temp)

    listed = team.lead.cali("list-access")

    assert user("temp") in team.record()["revoked"], listed.err
    assert user("temp") not in team.record()["principals"]
    assert team.lead.aws("scheduler").list_schedules()["Schedules"] == []
    ran = team.run_other("up", "access", "--yes")
    assert ran.code == 0, ran.err
    assert user("temp") not in team.entries()


def test_grants_and_revokes_at_the_same_time_end_with_exactly_the_right_set(team: Team) -> None:
    arns = team.create(*(f"c{number}" for number in range(4)))
    before = set(team.record()["principals"])
    running = [
        team.lead.start("grant-access", arns[0], "--yes"),
        team.other.start(
            "grant-access", arns[1], "--level", "view", "--yes", CALI_SANDBOX_DIR=str(team.lead.folder)
        ),
        team.lead.start("revoke-access", user("a1"), "--yes"),
        team.other.start("grant-access", arns[2], "--yes", CALI_SANDBOX_DIR=str(team.lead.folder)),
        team.lead.start("grant-access", arns[3], "--yes"),
        team.other.start("revoke-access", user("a2"), "--yes", CALI_SANDBOX_DIR=str(team.lead.folder)),
    ]

    ended = [team.lead.finish(process, timeout=500) for process in running]

    assert [ran.code for ran in ended] == [0] * len(ended), "\n".join(ran.err for ran in ended)
    wanted = (before | set(arns)) - {user("a1"), user("a2")}
    assert set(team.record()["principals"]) == wanted
    creator = team.lead.aws("sts").get_caller_identity()["Arn"]
    nodes = {arn for arn in team.entries() if ":role/cali-default" in arn}
    assert team.entries() - nodes - {creator} == wanted
    assert {user("a1"), user("a2")} <= set(team.record()["revoked"])


def test_no_plan_and_no_import_is_left_behind(team: Team) -> None:
    for project in (team.lead, team.other):
        assert not list((project.workspace / "plans").iterdir())
        assert not list(project.workspace.glob("terraform/access/cali_imports*"))
        assert not _readable_by_others(project.workspace)


def _serial(team: Team) -> int:
    body = team.lead.aws("s3").get_object(Bucket=BUCKET, Key="cali/default/access.tfstate")["Body"]
    return int(json.loads(body.read())["serial"])


def _readable_by_others(folder: Path) -> list[Path]:
    return [
        path
        for path in folder.rglob("*.json")
        if ".terraform" not in path.parts and "plugins" not in path.parts and path.stat().st_mode & 0o077
    ]
