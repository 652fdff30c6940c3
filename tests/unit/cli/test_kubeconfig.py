"""`cali kubeconfig`, as a teammate runs it: with cali.yaml and keys, against stand-ins of AWS and Kubernetes."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from cali_infra.sandbox.aws.server import AwsStandIn
from cali_infra.sandbox.certificates import Authority
from cali_infra.sandbox.kubernetes.standin import KubernetesStandIn
from cali_infra.sandbox.ports import Caller

from .conftest import Cali, Ran

# Of its own: an account of moto's is one stand-in's at a time.
ACCOUNT = "210987654322"
REGION = "ap-northeast-2"
ARN = f"arn:aws:eks:{REGION}:{ACCOUNT}:cluster/cali-default"
ENTRY = f"cali:{ARN}"


class NoDomains:
    """A host for domains that nobody makes."""

    def create(self, name: str, username: str, password: str) -> str:
        raise NotImplementedError

    update = create  # type: ignore[assignment]

    def delete(self, name: str) -> None:
        """There is none."""


@dataclass
class Platform:
    """A cluster in an account, with the keys of three people."""

    aws: AwsStandIn
    kubernetes: KubernetesStandIn
    keys: dict[str, dict[str, str]] = field(default_factory=dict)
    subnets: list[str] = field(default_factory=list)
    clients: dict[str, Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        """A client of the operator's."""
        if service not in self.clients:
            operator = self.aws.operator
            self.clients[service] = boto3.client(
                service,
                region_name=REGION,
                endpoint_url=self.aws.endpoint,
                aws_access_key_id=operator.access_key_id,
                aws_secret_access_key=operator.secret_access_key,
            )
        return self.clients[service]

    def make(self, name: str, **network: Any) -> None:
        self.client("eks").create_cluster(
            name=name,
            version="1.35",
            roleArn=f"arn:aws:iam::{ACCOUNT}:role/cluster",
            resourcesVpcConfig={"subnetIds": self.subnets, "endpointPrivateAccess": True, **network},
            accessConfig={"authenticationMode": "API"},
        )


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    aws: AwsStandIn

    def authenticate(cluster: str, token: str) -> Caller | None:
        return aws.authenticator(cluster, token)

    kubernetes = KubernetesStandIn(Authority.create(), authenticate)
    aws = AwsStandIn(kubernetes, NoDomains(), account=ACCOUNT)
    with aws:
        found = Platform(aws, kubernetes)
        ec2, iam, eks = (found.client(service) for service in ("ec2", "iam", "eks"))
        vpc = ec2.create_vpc(CidrBlock="10.40.0.0/16")["Vpc"]["VpcId"]
        for index, zone in enumerate("ab"):
            made = ec2.create_subnet(
                VpcId=vpc, CidrBlock=f"10.40.{index}.0/24", AvailabilityZone=f"{REGION}{zone}"
            )
            found.subnets.append(made["Subnet"]["SubnetId"])
        trust = {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Principal": {"Service": "eks.amazonaws.com"}, "Action": "sts:AssumeRole"}
            ],
        }
        iam.create_role(RoleName="cluster", AssumeRolePolicyDocument=json.dumps(trust))
        found.make("cali-default", endpointPublicAccess=False)
        for name in ("jin", "stranger"):
            iam.create_user(UserName=name)
            iam.attach_user_policy(UserName=name, PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
            key = iam.create_access_key(UserName=name)["AccessKey"]
            found.keys[name] = {
                "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
                "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            }
        eks.create_access_entry(clusterName="cali-default", principalArn=f"arn:aws:iam::{ACCOUNT}:user/jin")
        yield found
    kubernetes.close()


@dataclass(frozen=True)
class Teammate:
    """Somebody with a checkout of cali.yaml, a home folder and keys."""

    cali: Cali
    folder: Path
    home: Path
    environ: dict[str, str]

    def __call__(self, *arguments: str, ok: bool = True, **environ: str) -> Ran:
        ran = self.cali("--output", "json", *arguments, environ={**self.environ, **environ})
        assert (ran.code == 0) is ok, ran.err
        return ran

    @property
    def config(self) -> Path:
        return self.home / ".kube" / "config"

    def read(self, path: Path | None = None) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load((path or self.config).read_text())
        return found


People = Callable[[str], Teammate]


@pytest.fixture
def people(cali: Cali, platform: Platform, tmp_path: Path) -> People:
    def make(name: str) -> Teammate:
        (tmp_path / "cali.yaml").write_text("project: cali\n")
        home = tmp_path / "home"
        home.mkdir()
        environ = {"HOME": str(home), "AWS_ENDPOINT_URL": platform.aws.endpoint, **platform.keys[name]}
        return Teammate(cali, tmp_path, home, environ)

    return make


@pytest.fixture
def jin(people: People) -> Teammate:
    """A teammate with an access entry."""
    return people("jin")


def test_a_teammate_gets_in_with_cali_yaml_and_keys_alone(jin: Teammate) -> None:
    ran = jin("kubeconfig")

    assert ran.document == {
        "ok": True,
        "file": str(jin.config),
        "context": "cali-default",
        "cluster": "cali-default",
        "changed": True,
        "backup": None,
        "current": True,
        "caller": f"arn:aws:iam::{ACCOUNT}:user/jin",
        "problem": None,
    }
    assert f"{jin.config} has the context cali-default, which is the current one" in ran.err
    assert f"the cluster knows you as arn:aws:iam::{ACCOUNT}:user/jin" in ran.err
    assert "try it: kubectl get nodes\n" in ran.err
    assert stat.S_IMODE(jin.config.stat().st_mode) == 0o600
    assert stat.S_IMODE(jin.config.parent.stat().st_mode) == 0o700
    found = jin.read()
    assert found["current-context"] == "cali-default"
    assert found["contexts"] == [{"name": "cali-default", "context": {"cluster": ENTRY, "user": ENTRY}}]
    plugin = found["users"][0]["user"]["exec"]
    assert plugin["command"] == sys.executable
    assert plugin["args"][-5:] == ["token", "--cluster", "cali-default", "--region", REGION]
    # Neither a workspace nor passwords, and no key in the file.
    assert sorted(path.name for path in jin.folder.iterdir()) == ["cali.yaml", "home"]
    for value in (jin.environ["AWS_SECRET_ACCESS_KEY"], jin.environ["AWS_ACCESS_KEY_ID"]):
        assert value not in jin.config.read_text() + ran.out + ran.err


def test_a_second_time_nothing_is_written(jin: Teammate) -> None:
    jin("kubeconfig")
    before = jin.config.stat()

    ran = jin("kubeconfig")

    assert (ran.document["changed"], ran.document["backup"]) == (False, None)
    assert "nothing was written" in ran.err
    assert jin.config.stat().st_mtime_ns == before.st_mtime_ns
    assert [path.name for path in jin.config.parent.iterdir()] == ["config"]


def test_other_contexts_stay_and_the_file_is_kept(jin: Teammate) -> None:
    theirs = "# mine\ncurrent-context: home\ncontexts:\n- name: home\n  context: {cluster: home}\n"
    jin.config.parent.mkdir(mode=0o700)
    jin.config.write_text(theirs)
    jin.config.chmod(0o640)

    ran = jin("kubeconfig", "--no-switch", "--name", "prod", "--namespace", "logging")

    backup = Path(ran.document["backup"])
    assert backup.parent == jin.config.parent
    assert backup.name.startswith("config.cali-backup-")
    assert (backup.read_text(), stat.S_IMODE(backup.stat().st_mode)) == (theirs, 0o600)
    assert str(backup) in ran.err
    assert jin.config.read_text().startswith(theirs)
    assert jin.read()["contexts"][1] == {
        "name": "prod",
        "context": {"cluster": ENTRY, "user": ENTRY, "namespace": "logging"},
    }
    assert ran.document["current"] is False
    assert "try it: kubectl --context prod get nodes" in ran.err
    assert "warning:" in ran.err
    assert "(mode 0640); its mode is 0600 now" in ran.err
    assert stat.S_IMODE(jin.config.stat().st_mode) == 0o600


def test_the_file_is_the_one_that_is_named_or_kubectl_s(jin: Teammate) -> None:
    named = jin.folder / "a folder" / "kube"
    ran = jin("--kubeconfig", "a folder/kube", "kubeconfig")
    assert ran.document["file"] == str(named)
    assert f"try it: kubectl --kubeconfig '{named}' get nodes" in ran.err
    one, two = jin.folder / "one", jin.folder / "two"
    two.touch(mode=0o600)
    ran = jin("kubeconfig", KUBECONFIG=f"{one}:{two}")
    assert ran.document["file"] == str(two)
    assert "try it: kubectl get nodes\n" in ran.err
    assert not one.exists()
    assert not jin.config.exists()


def test_a_link_is_kept(jin: Teammate) -> None:
    real = jin.folder / "dotfiles"
    real.write_text("kind: Config\n")
    link = jin.folder / "link"
    link.symlink_to(real)
    assert jin("--kubeconfig", str(link), "kubeconfig").document["file"] == str(link)
    assert link.is_symlink()
    assert jin.read(real)["current-context"] == "cali-default"


def test_another_s_context_is_refused(jin: Teammate) -> None:
    jin.config.parent.mkdir()
    jin.config.write_text("contexts:\n- name: cali-default\n  context: {cluster: home, user: me}\n")
    before = jin.config.read_bytes()

    ran = jin("kubeconfig", ok=False)

    assert ran.code == 3
    assert ran.document["error"]["code"] == "refused"
    assert jin.config.read_bytes() == before
    assert [path.name for path in jin.config.parent.iterdir()] == ["config"]
    assert jin("kubeconfig", "--overwrite").document["changed"]


@pytest.mark.parametrize("text", ["kind: Config\nusers: {\n", "kind: Config\nusers: 1\n"])
def test_a_broken_file_is_refused_with_its_line(jin: Teammate, text: str) -> None:
    jin.config.parent.mkdir()
    jin.config.write_text(text)
    ran = jin("kubeconfig", ok=False)
    assert ran.code == 2
    assert ran.document["error"]["code"] == "invalid-kubeconfig"
    assert f"{jin.config}, line " in ran.document["error"]["message"]
    assert jin.config.read_text() == text


def test_a_profile_goes_into_the_credential(jin: Teammate) -> None:
    keys = jin.folder / "keys"
    lines = "".join(f"{name.lower()} = {value}\n" for name, value in jin.environ.items() if "KEY" in name)
    keys.write_text(f"[team]\n{lines}")
    environ = {name: value for name, value in jin.environ.items() if "KEY" not in name}
    environ |= {"AWS_SHARED_CREDENTIALS_FILE": str(keys), "AWS_CONFIG_FILE": str(jin.folder / "none")}

    def profile(*arguments: str, **more: str) -> list[str]:
        path = jin.folder / "profile"
        path.unlink(missing_ok=True)
        ran = jin.cali("--kubeconfig", str(path), "kubeconfig", *arguments, environ={**environ, **more})
        assert ran.code == 0, ran.err
        found = jin.read(path)["users"][0]["user"]["exec"]["args"]
        return list(found[found.index("--region") + 2 :])

    # A shell that works with a profile is not the one that kubectl runs in.
    assert profile(AWS_PROFILE="team") == ["--profile", "team"]
    assert profile("--profile", "team", AWS_PROFILE="no-such-profile") == ["--profile", "team"]
    # Keys of the environment come before AWS_PROFILE, for AWS' clients too.
    assert profile(AWS_PROFILE="x", **{k: v for k, v in jin.environ.items() if "KEY" in k}) == []
    (jin.folder / "cali.yaml").write_text("profile: team\n")
    assert profile() == ["--profile", "team"]


def test_without_an_access_entry_the_context_is_written_and_the_cause_is_told(people: People) -> None:
    stranger = people("stranger")
    ran = stranger("kubeconfig")
    assert ran.document["caller"] is None
    assert ran.document["problem"] == (
        f"the cluster does not know you as arn:aws:iam::{ACCOUNT}:user/stranger"
    )
    assert ran.document["changed"]
    assert "warning: the context is right, but the cluster does not know you" in ran.err
    assert "principals" in ran.err
    assert stranger("kubeconfig", "--no-check").document["problem"] is None


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ({"endpointPublicAccess": False}, "the cluster's endpoint is private"),
        ({"publicAccessCidrs": ["203.0.113.7/32"]}, "answers to 203.0.113.7/32 only"),
        ({}, "open to every address"),
    ],
)
def test_a_cluster_out_of_reach_is_a_warning_with_the_way_in(
    jin: Teammate, platform: Platform, network: dict[str, Any], words: str
) -> None:
    platform.make("cali-away", **network)
    try:
        # It goes on existing for AWS, and answers no more.
        platform.kubernetes.delete("cali-away")
        ran = jin("--env", "away", "kubeconfig")
    finally:
        platform.client("eks").delete_cluster(name="cali-away")
    assert "cannot be reached" in ran.document["problem"]
    assert words in ran.err
    assert ran.document["changed"]


def test_through_a_proxy_of_the_entry_nothing_is_asked(jin: Teammate) -> None:
    jin("kubeconfig")
    found = jin.read()
    found["clusters"][0]["cluster"]["proxy-url"] = "socks5://127.0.0.1:1"
    jin.config.write_text(yaml.safe_dump(found))
    ran = jin("kubeconfig")
    assert (ran.document["changed"], ran.document["caller"], ran.document["problem"]) == (False, None, None)


def test_no_cluster_is_told_with_the_account_that_was_asked(jin: Teammate) -> None:
    ran = jin("--env", "prod", "kubeconfig", ok=False)
    assert ran.code == 2
    error = ran.document["error"]
    assert error["code"] == "precondition"
    assert f"no cluster cali-prod in {REGION} of account {ACCOUNT}" in error["message"]
    assert "user/jin" in error["message"]
    assert "--profile" in error["remedy"]
    assert not jin.config.exists()


@pytest.mark.parametrize(
    ("name", "seconds", "status", "words"),
    [("soon", 3600, "CREATING", "aws eks wait"), ("broken", 0.001, "FAILED", "cali status")],
)
def test_a_cluster_that_is_not_there_yet_or_never_will_be_is_told(
    jin: Teammate, platform: Platform, name: str, seconds: float, status: str, words: str
) -> None:
    platform.aws.controls.delay("cluster_create", seconds, "FAILED" if status == "FAILED" else None)
    try:
        platform.make(f"cali-{name}")
    finally:
        platform.aws.controls.clear()
    ran = jin("--env", name, "kubeconfig", ok=False)
    assert ran.code == 2
    assert status in ran.document["error"]["message"]
    assert words in ran.document["error"]["remedy"]
    assert not jin.config.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("kubeconfig", "--namespace", "Logging"), "'Logging' is not the name of a namespace"),
        (("kubeconfig", "--name", " "), "' ' is no name for a context"),
        (("kubeconfig", "--name", "a\nb"), "is no name for a context"),
        (("--context", "a", "kubeconfig", "--name", "b"), "name two contexts"),
        (("--sandbox", "kubeconfig", "--profile", "team"), "keys of its own"),
        (("kubeconfig", "--kubeconfig", "file"), "--kubeconfig"),
    ],
)
def test_wrong_words_touch_nothing(jin: Teammate, arguments: tuple[str, ...], words: str) -> None:
    ran = jin(*arguments, ok=False)
    assert ran.code == 2
    assert words in ran.document["error"]["message"]
    assert sorted(path.name for path in jin.folder.iterdir()) == ["cali.yaml", "home"]
    assert list(jin.home.iterdir()) == []


def test_without_cali_yaml_or_a_home_it_is_said(jin: Teammate) -> None:
    ran = jin("kubeconfig", ok=False, HOME="")
    assert (ran.code, "HOME is not set" in ran.document["error"]["message"]) == (2, True)
    (jin.folder / "cali.yaml").unlink()
    ran = jin("kubeconfig", ok=False)
    assert (ran.code, "no cali.yaml" in ran.document["error"]["message"]) == (2, True)


def test_the_global_option_names_the_context_too(jin: Teammate) -> None:
    assert jin("--context", "platform", "kubeconfig").document["context"] == "platform"


def test_wrong_secrets_do_not_matter(jin: Teammate) -> None:
    (jin.folder / "secrets.yaml").write_text("opensearch: [not, valid")
    assert jin("kubeconfig").document["ok"]
