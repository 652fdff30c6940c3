"""The guides: what they tell people to type exists, both languages say the same, and no account is a real one."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

import pytest
import typer
from botocore import exceptions as botocore

from cali_infra.core import principals
from cali_infra.core.index import READER
from cali_infra.core.service_secrets import SERVICES
from cali_infra.core.settings import load_settings
from tests.unit.guides import ACCESS, OPERATIONS, ROOT, Guide, flat, guide, parsed, spans

# AWS keeps this account for documentation.
EXAMPLE_ACCOUNT = "111122223333"
# RFC 5737, and this machine and the whole world, which are nobody's.
DOCUMENTATION = [
    ipaddress.ip_network(network)
    for network in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "127.0.0.1/32", "0.0.0.0/32")
]
REQUIRED = (
    "error: You must be logged in to the server (Unauthorized)",
    "Error from server (Forbidden): nodes is forbidden: User",
    "The config profile (cali) could not be found",
    "Error when retrieving token from sso: Token has expired and refresh failed",
    "No cluster found for name: cali-default",
    "is not authorized to perform: eks:DescribeCluster",
    "Unable to connect to the server: dial tcp 203.0.113.10:443: i/o timeout",
    'exec plugin: invalid apiVersion "client.authentication.k8s.io/v1alpha1"',
    "exceeds the supported minor version skew of +/-1",
)
# What cali itself says, with the words of its source that it is made from.
OURS = {
    "the cluster does not know you": "the cluster does not know you",
    "there is no cluster cali-default in ap-northeast-2": "there is no cluster {name} in {aws.region}",
    "cannot be reached": "the Kubernetes API at {host} cannot be reached",
    "there is no cali.yaml in": "there is no {FILE} in {project_dir}",
    "has another context cali-default": "has another context {context.name}",
}
# What the AWS CLI says, in the words of the library that it says it by.
AWS = (
    botocore.ProfileNotFound(profile="cali"),
    botocore.TokenRetrievalError(provider="sso", error_msg="Token has expired and refresh failed"),
    botocore.SSOTokenLoadError(error_msg="Token for cali does not exist"),
    botocore.NoCredentialsError(),
    botocore.EndpointConnectionError(endpoint_url="https://eks.ap-northeast-22.amazonaws.com/"),
)


@pytest.fixture(params=ACCESS)
def each(request: pytest.FixtureRequest) -> Guide:
    """The guide for teammates, in each language."""
    return guide(request.param)


@pytest.fixture(params=[*ACCESS, *OPERATIONS])
def every(request: pytest.FixtureRequest) -> Guide:
    """Every guide, in each language."""
    return guide(request.param)


@pytest.fixture(params=[ACCESS, OPERATIONS], ids=["access", "operations"])
def pair(request: pytest.FixtureRequest) -> tuple[Guide, Guide]:
    """A guide and its translation."""
    english, korean = request.param
    return guide(english), guide(korean)


def errors(of: Guide) -> list[tuple[str, ...]]:
    """The texts in the first cell of each row of the teammates' table of errors."""
    table = next(one for one in of.tables if "(Unauthorized)" in one[0][0])
    return [tuple(spans(row[0])) for row in table]


class TestCommands:
    def test_every_command_of_cali_is_one_that_cali_takes(self, every: Guide) -> None:
        used = {parsed(command) for command in set(every.of("cali"))}
        assert {"kubeconfig", "grant-access", "revoke-access", "up"} <= used

    @pytest.mark.parametrize(
        "wrong",
        [
            "cali token --no-such-option",
            "cali token --cluster",
            "cali up --yes=perhaps",
            "cali --region x token",
            "cali state bootstrap --bucket x",
        ],
    )
    def test_a_wrong_one_would_be_noticed(self, wrong: str) -> None:
        with pytest.raises(typer.TyperException):
            parsed(wrong)

    def test_an_unknown_one_would_be_noticed(self) -> None:
        with pytest.raises(AssertionError, match="no such command"):
            parsed("cali invite jin")

    def test_the_whole_way_is_there_with_cali_and_without(self, each: Guide) -> None:
        code = "".join(code for _, code in each.blocks)
        for command in (
            "aws configure sso --profile cali",
            "aws configure --profile cali",
            "aws sso login --profile cali",
            "aws sts get-caller-identity --profile cali",
            "cali kubeconfig --profile cali",
            "aws eks update-kubeconfig --name cali-default --region ap-northeast-2 --profile cali "
            "--alias cali-default",
            "kubectl get nodes",
        ):
            assert f"{command}\n" in code

    def test_names_and_versions_are_cali_s_defaults(self, each: Guide, tmp_path: Path) -> None:
        (tmp_path / "cali.yaml").write_text("{}\n")
        settings = load_settings(tmp_path, {})
        lines = "\n".join(each.commands)
        assert set(re.findall(r"--(?:name|domain-name) (cali-\S+) --region", lines)) == {
            settings.cluster_name,
            settings.domain_name,
        }
        assert set(re.findall(r"--region (\S+)", lines)) == {settings.region}
        assert set(re.findall(r"\$ENDPOINT/([^/_]+)-\*", lines)) == {settings.logging.index_prefix}
        assert set(re.findall(r"--user (\S+)", lines)) == {READER}
        assert set(re.findall(r"kubectl -n (\S+)", lines)) <= set(SERVICES)
        minor = int(settings.eks.version.split(".")[1])
        row = next(line for line in each.prose.splitlines() if line.startswith("| kubectl"))
        assert re.findall(r"1\.(\d+)", row) == [str(n) for n in (minor - 1, minor, minor + 1, minor)]


class TestErrors:
    def test_both_explain_the_same_errors(self) -> None:
        english, korean = (errors(guide(name)) for name in ACCESS)
        assert english == korean
        assert all(english)

    def test_the_usual_ones_are_there(self, each: Guide) -> None:
        assert set(REQUIRED) <= set(flat(errors(each)))

    def test_what_cali_says_is_what_cali_says(self, each: Guide) -> None:
        source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "cali_infra").rglob("*.py"))
        for said, made_from in OURS.items():
            assert said in flat(errors(each))
            assert made_from in source, f"cali does not say {said!r} any more"

    def test_what_the_aws_cli_says_is_what_its_library_says(self, each: Guide) -> None:
        triggers = flat(errors(each))
        for error in AWS:
            assert any(str(error).startswith(trigger) for trigger in triggers), error


class TestBothLanguages:
    def test_the_same_sections(self, pair: tuple[Guide, Guide]) -> None:
        number = re.compile(r"^#+ (?:\d+\.)?")
        first, second = ([number.match(line)[0] for line in one.headings] for one in pair)  # type: ignore[index]
        assert first == second

    def test_the_same_code(self, pair: tuple[Guide, Guide]) -> None:
        assert pair[0].blocks == pair[1].blocks

    def test_the_same_names_in_the_sentences(self, pair: tuple[Guide, Guide]) -> None:
        assert sorted(set(pair[0].spans)) == sorted(set(pair[1].spans))

    def test_the_same_rows_with_the_same_names(self, pair: tuple[Guide, Guide]) -> None:
        first, second = (
            [[sorted(spans(" ".join(row))) for row in table] for table in one.tables] for one in pair
        )
        assert first == second

    def test_no_code_is_left_open(self, every: Guide) -> None:
        assert "```" not in every.prose
        assert all(line.count("`") % 2 == 0 for line in every.prose.splitlines())

    def test_each_leads_to_the_other_and_the_readme_to_both(self, pair: tuple[Guide, Guide]) -> None:
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        english, korean = pair
        assert f"]({korean.name})" in english.text
        assert f"]({english.name})" in korean.text
        assert f"](docs/{english.name})" in readme
        assert f"](docs/{korean.name})" in readme

    def test_every_link_to_a_file_leads_to_one(self, every: Guide) -> None:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", every.text):
            assert (ROOT / "docs" / target).is_file(), target


class TestNothingOfOurs:
    def test_every_account_is_the_example(self, every: Guide) -> None:
        numbers = set(re.findall(r"(?<![\w-])\d{12}(?![\w-])", every.text))
        assert numbers == {EXAMPLE_ACCOUNT}

    def test_every_arn_is_of_the_example_account_and_one_that_cali_knows(self, every: Guide) -> None:
        arns = re.findall(r"arn:[^\s`\"|]+", every.text)
        assert arns
        for arn in arns:
            assert arn.split(":")[4] == EXAMPLE_ACCOUNT, arn
        granted = re.findall(r"cali (?:grant|revoke)-access (arn:\S+)", every.text)
        assert granted
        assert not [arn for arn in granted if isinstance(principals.examine(arn), principals.Rejection)]

    def test_every_address_is_one_for_documentation(self, every: Guide) -> None:
        found = re.findall(r"\d+\.\d+\.\d+\.\d+", every.text)
        assert found
        for address in found:
            assert any(ipaddress.ip_address(address) in network for network in DOCUMENTATION), address

    def test_no_password_and_no_key(self, every: Guide) -> None:
        assert not re.search(r"(AKIA|ASIA)[A-Z0-9]{12,}", every.text)
        # What a variable holds, or somebody is asked for, is not there.
        given = r"(?i)(password|secret|token|비밀번호)\s*[:=]\s*(?!\"?\$|getpass)[^\s`|]{8,}"
        assert not re.search(given, every.text)
        assert not re.search(r"(--user|-u)[ =]\S+:\S", every.text)
        assert not re.search(r"https?://[^/\s]+:[^/\s]+@", every.text)
