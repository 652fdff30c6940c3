"""Texts that Terraform 1.11 and the AWS provider 5.100 really printed, and what a user is told instead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cali_infra.adapters import terraform_errors
from cali_infra.adapters.terraform_errors import Failure, human_diagnostics, lock_info
from cali_infra.adapters.terraform_events import DiagnosticEvent, decode, diagnostic
from cali_infra.errors import (
    CaliError,
    CredentialsError,
    Diagnostic,
    InvalidConfigurationError,
    LockHeldError,
    PreconditionError,
    ProviderMissingError,
    StalePlanError,
    TerraformError,
    ThrottledError,
)

SAMPLES = Path(__file__).parent / "terraform_samples"


def failure(sample: str) -> Failure:
    """The failure that a sample is: `.jsonl` is stdout of a command with -json, `.txt` stderr of one without."""
    path = SAMPLES / sample
    if path.suffix == ".txt":
        return Failure("init", "/w/eks", 1, stderr=path.read_text(), log="/w/cali.log")
    if path.suffix == ".json":
        said = tuple(diagnostic(raw) for raw in json.loads(path.read_text())["diagnostics"])
        return Failure("validate", "/w/eks", 1, said, log="/w/cali.log")
    events = [decode(line, str)[0] for line in path.read_text().splitlines()]
    said = tuple(event.diagnostic for event in events if isinstance(event, DiagnosticEvent))
    return Failure("plan", "/w/eks", 1, said, log="/w/cali.log")


@pytest.mark.parametrize(
    ("sample", "kind", "message", "remedy"),
    [
        ("lock-local.jsonl", LockHeldError, "locked by ops@laptop (apply since 2026", "force-unlock "),
        ("lock-local-untaint.txt", LockHeldError, "locked by ops@laptop (apply since 2026", "-chdir=/w/eks"),
        ("lock-s3.jsonl", LockHeldError, "locked by ops@laptop (apply since 2026", "force-unlock "),
        ("state-lost.jsonl", TerraformError, "/w/eks/errored.tfstate", "state push errored.tfstate"),
        (
            "state-lost-interrupted.jsonl",
            TerraformError,
            "/w/eks/errored.tfstate",
            "-chdir=/w/eks state push",
        ),
        ("stale.jsonl", StalePlanError, "the state has moved on", "plans anew"),
        ("backend-changed.txt", PreconditionError, "kept elsewhere", "-chdir=/w/eks init -migrate-state"),
        ("backend-migration.txt", PreconditionError, "kept elsewhere", "put `state` in cali.yaml back"),
        ("backend-not-initialised.jsonl", PreconditionError, "kept elsewhere", "-migrate-state"),
        ("backend-pull.txt", PreconditionError, "kept elsewhere", "-migrate-state"),
        ("bucket-missing.txt", PreconditionError, "bucket of the state", "cali state bootstrap"),
        ("credentials-ExpiredToken.jsonl", CredentialsError, "ExpiredToken", "aws sso login"),
        ("credentials-InvalidClientTokenId.jsonl", CredentialsError, "InvalidClientTokenId", "aws sso login"),
        ("credentials-none.jsonl", CredentialsError, "No valid credential sources", "get-caller-identity"),
        ("credentials-profile.jsonl", CredentialsError, "profile, nonesuch", "get-caller-identity"),
        ("credentials-sso.jsonl", CredentialsError, "SSO token", "aws sso login"),
        ("credentials-account.jsonl", CredentialsError, "another account's", "right profile"),
        ("throttled.jsonl", ThrottledError, "throttled", "wait a few minutes"),
        ("provider-missing.txt", ProviderMissingError, "hashicorp/helm", "TF_CLI_CONFIG_FILE"),
        ("provider-not-initialised.jsonl", ProviderMissingError, "hashicorp/helm", "TF_CLI_CONFIG_FILE"),
        ("provider-cache-gone.jsonl", ProviderMissingError, "hashicorp/aws", "TF_CLI_CONFIG_FILE"),
        ("invalid-variable.jsonl", InvalidConfigurationError, "nodes must be positive", "cali.yaml"),
        ("wrong-type.jsonl", InvalidConfigurationError, "a number is required", "cali.yaml"),
        ("variable-missing.jsonl", InvalidConfigurationError, '"nodes" is not set', "cali.yaml"),
        ("invalid-configuration-plan.jsonl", InvalidConfigurationError, '"inpt"', "cali.yaml"),
        ("validate-invalid.json", InvalidConfigurationError, "x.tf:1: Unsupported argument", "cali.yaml"),
        ("precondition.jsonl", InvalidConfigurationError, "too few", "cali.yaml"),
        ("provider-values.jsonl", InvalidConfigurationError, "aws_vpc.x: expected cidr_block", "cali.yaml"),
        ("core-version.jsonl", InvalidConfigurationError, "Unsupported Terraform Core version", ""),
        ("core-version-init.txt", InvalidConfigurationError, "Unsupported Terraform Core version", ""),
        ("unreachable.jsonl", TerraformError, "cannot be reached", "AWS_ENDPOINT_URL"),
        ("import-unknown.txt", TerraformError, "does not exist in the configuration", "/w/cali.log"),
        ("untaint-not-tainted.txt", TerraformError, "is not tainted", "/w/cali.log"),
    ],
)
def test_a_failure_becomes_a_type_with_a_remedy(
    sample: str, kind: type[CaliError], message: str, remedy: str
) -> None:
    error = terraform_errors.error(failure(sample))
    assert type(error) is kind
    assert message in error.message
    assert remedy in error.remedy
    assert error.remedy


def test_every_sample_of_a_failure_is_looked_at() -> None:
    parameters = test_a_failure_becomes_a_type_with_a_remedy.pytestmark[0].args[1]  # type: ignore[attr-defined]
    no_failures = {"plan.jsonl", "apply.jsonl", "interrupted.jsonl", "state.json"}
    assert {path.name for path in SAMPLES.iterdir()} == {row[0] for row in parameters} | no_failures


def test_a_held_lock_says_who_and_since_when() -> None:
    error = terraform_errors.error(failure("lock-s3.jsonl"))
    assert isinstance(error, LockHeldError)
    assert (error.lock.who, error.lock.operation, error.lock.path) == ("ops@laptop", "apply", "bkt1/locks")
    assert error.lock.created.endswith(" UTC")
    assert "." not in error.lock.created
    assert error.lock.id in error.remedy


def test_a_lock_without_information_is_still_told() -> None:
    assert lock_info("nothing to see").id == ""


def test_one_throttled_call_beside_another_failure_is_not_called_throttling() -> None:
    mixed = (
        Diagnostic("error", "creating EC2 VPC: api error RequestLimitExceeded: slow down"),
        Diagnostic("error", "creating IAM Role: api error EntityAlreadyExists: it is there"),
    )
    error = terraform_errors.error(Failure("apply", "/w", 1, mixed))
    assert type(error) is TerraformError
    assert "RequestLimitExceeded" in error.message
    assert "EntityAlreadyExists" in error.message


def test_an_expired_token_explains_what_else_went_wrong() -> None:
    mixed = (
        Diagnostic("error", "reading EKS Cluster: couldn't find resource"),
        Diagnostic("error", "reading EC2 VPC: api error ExpiredToken: it has expired"),
        Diagnostic("error", "execution halted"),
    )
    assert type(terraform_errors.error(Failure("apply", "/w", 1, mixed))) is CredentialsError


def test_a_state_that_was_not_written_matters_more_than_why() -> None:
    mixed = (
        Diagnostic("error", "creating EC2 VPC: api error ExpiredToken: it has expired"),
        Diagnostic("error", "Failed to persist state to backend", "it is in errored.tfstate"),
    )
    error = terraform_errors.error(Failure("apply", "/w", 1, mixed))
    assert "state push errored.tfstate" in error.remedy
    assert "ExpiredToken" in error.message


def test_warnings_are_no_causes() -> None:
    said = (Diagnostic("warning", "ExpiredToken, says a warning"), Diagnostic("error", "it broke"))
    error = terraform_errors.error(Failure("plan", "/w", 1, said))
    assert type(error) is TerraformError
    assert error.diagnostics == said[1:]


def test_without_a_diagnostic_the_last_words_and_the_exit_code_are_told() -> None:
    error = terraform_errors.error(Failure("plan", "/w", 11, stderr="panic: boom\ngoroutine 1"))
    assert error.message == "terraform plan ended with exit code 11\npanic: boom\ngoroutine 1"


def test_a_killed_terraform_warns_of_what_the_state_may_miss() -> None:
    error = terraform_errors.error(Failure("apply", "/w", -9))
    assert "killed by signal 9" in error.message
    assert "missing from the state" in error.remedy


def test_a_terraform_that_hangs_is_not_blamed_on_its_last_words() -> None:
    error = terraform_errors.error(Failure("init", "/w", 1, stderr="Error: ExpiredToken", timed_out=True))
    assert type(error) is TerraformError
    assert "did not come to an end" in error.message


def test_diagnostics_are_read_with_and_without_the_box() -> None:
    boxed = "╷\n│ Error: it broke\n│ \n│ in two\n│ lines\n╵\n╷\n│ Warning: careful\n╵\n"
    plain = "\nError: it broke\n\nin two\nlines\n\nWarning: careful\n"
    expected = (Diagnostic("error", "it broke", "in two\nlines"), Diagnostic("warning", "careful"))
    assert human_diagnostics(boxed) == human_diagnostics(plain) == expected
