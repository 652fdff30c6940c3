"""The guides that are handed to a teammate: what they tell people to type exists, and both say the same."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest
import typer
from botocore import exceptions as botocore

from cali_infra.cli.app import COMMANDS, app, load
from cali_infra.cli.context import Options
from cali_infra.core import principals
from cali_infra.core.index import READER
from cali_infra.core.service_secrets import SERVICES
from cali_infra.core.settings import load_settings
from cali_infra.ui import UI

ROOT = Path(__file__).parents[2]
ENGLISH, KOREAN = "eks-access-guide.md", "eks-access-guide.ko.md"
# AWS keeps this account for documentation.
EXAMPLE_ACCOUNT = "111122223333"
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
    "cannot be reached": "the Kubernetes API at {self.host} cannot be reached",
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


@dataclass(frozen=True)
class Guide:
    """A guide in its parts. `blocks` are fenced code with its kind, `prose` is all the rest."""

    name: str
    text: str

    @property
    def blocks(self) -> list[tuple[str, str]]:
        return re.findall(r"^```(\w*)\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)

    @property
    def prose(self) -> str:
        return re.sub(r"^```.*?^```$", "", self.text, flags=re.MULTILINE | re.DOTALL)

    @property
    def spans(self) -> list[str]:
        """The code inside of sentences and tables."""
        return re.findall(r"`([^`\n]+)`", self.prose)

    @property
    def headings(self) -> list[str]:
        return re.findall(r"^#+ .+$", self.prose, re.MULTILINE)

    @property
    def commands(self) -> list[str]:
        """Every command line, wherever it stands."""
        lines = [line for kind, code in self.blocks if kind == "console" for line in code.splitlines()]
        programs = ("cali ", "aws ", "kubectl ", "curl ")
        return lines + [span for span in self.spans if span.startswith(programs)]

    @property
    def errors(self) -> list[tuple[str, ...]]:
        """The texts in the first cell of each row of the table of errors."""
        section = next(part for part in re.split(r"^## ", self.prose, flags=re.MULTILINE) if "401:" in part)
        rows = [line for line in section.splitlines() if line.startswith("|")][2:]
        return [tuple(re.findall(r"`([^`]+)`", row.split(" | ")[0])) for row in rows]


def guide(name: str) -> Guide:
    return Guide(name, (ROOT / "docs" / name).read_text(encoding="utf-8"))


@pytest.fixture(params=[ENGLISH, KOREAN])
def each(request: pytest.FixtureRequest) -> Guide:
    return guide(request.param)


def parsed(command: str) -> str:
    """The name of the command in a line that cali's own parser takes; nothing is run.

    Raises typer's own error for a line that it does not take.
    """
    words = shlex.split(command)[1:]
    if words == ["--version"]:
        return words[0]
    place = next((index for index, word in enumerate(words) if word in COMMANDS), None)
    assert place is not None, f"{command}: cali has no such command"
    name = words[place]
    silent = io.StringIO()
    ui = UI(
        stdin=silent,
        stdout=silent,
        stderr=silent,
        environ={},
        clock=lambda: 0.0,
        now=lambda: datetime(2026, 11, 23, 12, 0),
    )
    options = Options(ui=ui, environ={}, project=Path())
    # Both parse on their own; the callbacks that would run something are never called.
    typer.main.get_command(app).make_context("cali", words[: place + 1], obj=options)
    load(name).make_context(name, words[place + 1 :], obj=options)
    return name


class TestCommands:
    def test_every_command_of_cali_is_one_that_cali_takes(self, each: Guide) -> None:
        ours = [command for command in each.commands if command.startswith("cali ")]
        used = {parsed(command) for command in ours}
        assert {"kubeconfig", "grant-access", "revoke-access", "up"} <= used

    @pytest.mark.parametrize(
        "wrong",
        [
            "cali token --no-such-option",
            "cali token --cluster",
            "cali up --yes=perhaps",
            "cali --region x token",
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
        english, korean = guide(ENGLISH).errors, guide(KOREAN).errors
        assert english == korean
        assert all(english)

    def test_the_usual_ones_are_there(self, each: Guide) -> None:
        assert set(REQUIRED) <= set(flat(each.errors))

    def test_what_cali_says_is_what_cali_says(self, each: Guide) -> None:
        source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "cali_infra").rglob("*.py"))
        for said, made_from in OURS.items():
            assert said in flat(each.errors)
            assert made_from in source, f"cali does not say {said!r} any more"

    def test_what_the_aws_cli_says_is_what_its_library_says(self, each: Guide) -> None:
        triggers = flat(each.errors)
        for error in AWS:
            assert any(str(error).startswith(trigger) for trigger in triggers), error


class TestBothLanguages:
    def test_the_same_sections(self) -> None:
        english, korean = guide(ENGLISH).headings, guide(KOREAN).headings
        number = re.compile(r"^#+ (?:\d+\.)?")
        assert [number.match(line)[0] for line in english] == [number.match(line)[0] for line in korean]  # type: ignore[index]

    def test_the_same_code(self) -> None:
        assert guide(ENGLISH).blocks == guide(KOREAN).blocks

    def test_the_same_names_in_the_sentences(self) -> None:
        assert sorted(set(guide(ENGLISH).spans)) == sorted(set(guide(KOREAN).spans))

    def test_no_code_is_left_open(self, each: Guide) -> None:
        assert "```" not in each.prose
        assert all(line.count("`") % 2 == 0 for line in each.prose.splitlines())

    def test_each_leads_to_the_other_and_the_readme_to_both(self) -> None:
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        assert f"]({KOREAN})" in guide(ENGLISH).text
        assert f"]({ENGLISH})" in guide(KOREAN).text
        assert f"](docs/{ENGLISH})" in readme
        assert f"](docs/{KOREAN})" in readme


class TestNothingOfOurs:
    def test_every_account_is_the_example(self, each: Guide) -> None:
        numbers = set(re.findall(r"(?<![\w-])\d{12}(?![\w-])", each.text))
        assert numbers == {EXAMPLE_ACCOUNT}

    def test_every_arn_is_of_the_example_account_and_one_that_cali_knows(self, each: Guide) -> None:
        arns = re.findall(r"arn:[^\s`\"|]+", each.text)
        assert arns
        for arn in arns:
            assert arn.split(":")[4] == EXAMPLE_ACCOUNT, arn
        granted = re.findall(r"cali (?:grant|revoke)-access (arn:\S+)", each.text)
        assert granted
        assert not [arn for arn in granted if isinstance(principals.examine(arn), principals.Rejection)]

    def test_every_address_is_one_for_documentation(self, each: Guide) -> None:
        assert set(re.findall(r"\d+\.\d+\.\d+\.\d+", each.text)) == {"203.0.113.7", "203.0.113.10"}

    def test_no_password_and_no_key(self, each: Guide) -> None:
        assert not re.search(r"(AKIA|ASIA)[A-Z0-9]{12,}", each.text)
        assert not re.search(r"(?i)(password|secret|token|비밀번호)\s*[:=]\s*[^\s`|]{8,}", each.text)
        assert not re.search(r"(--user|-u)[ =]\S+:\S", each.text)
        assert not re.search(r"https?://[^/\s]+:[^/\s]+@", each.text)


def flat(rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [text for row in rows for text in row]
