"""The one place that reads Terraform's error texts and decides which typed error they are.

Callers catch types and never parse text. The patterns were taken from what Terraform 1.11 and the AWS
provider 5.100 print; the tests keep the samples.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cali_infra.errors import (
    CredentialsError,
    Diagnostic,
    InvalidConfigurationError,
    LockHeldError,
    LockInfo,
    ProviderMissingError,
    StalePlanError,
    TerraformError,
    ThrottledError,
)


@dataclass(frozen=True)
class Failure:
    """A Terraform run that ended badly. `stderr` is redacted; `log` names the kept file, or is empty."""

    command: str
    folder: str
    exit_code: int
    diagnostics: tuple[Diagnostic, ...]
    stderr: str = ""
    log: str = ""


def error(failure: Failure) -> TerraformError:
    """The typed error for a failure, with the remedy that says what to type."""
    diagnostics = tuple(d for d in failure.diagnostics if d.severity == "error")
    diagnostics = diagnostics or human_diagnostics(failure.stderr)
    text = "\n".join(str(d) for d in diagnostics) or failure.stderr
    for kind, pattern in _PATTERNS:
        if pattern.search(text):
            return kind(failure, diagnostics, text)
    return _other(failure, diagnostics)


def human_diagnostics(text: str) -> tuple[Diagnostic, ...]:
    """The diagnostics in what a command without `-json` prints on stderr, with or without the box around it."""
    lines = [re.sub(r"^[╷│╵] ?", "", line).rstrip() for line in text.splitlines()]
    starts = [i for i, line in enumerate(lines) if line.startswith(("Error: ", "Warning: "))]
    found = []
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        severity, summary = lines[start].split(": ", 1)
        found.append(Diagnostic(severity.lower(), summary, "\n".join(lines[start + 1 : end]).strip()))
    return tuple(found)


def lock_info(text: str) -> LockInfo:
    """Who holds the lock, from the block "Lock Info" of a message; empty fields where it says nothing."""
    fields = dict(re.findall(r"^\s*(ID|Path|Operation|Who|Created):[ \t]*(.*?)\s*$", text, re.MULTILINE))
    return LockInfo(
        id=fields.get("ID", ""),
        who=fields.get("Who", ""),
        created=fields.get("Created", ""),
        operation=fields.get("Operation", "").removeprefix("OperationType").lower(),
        path=fields.get("Path", ""),
    )


def _lock_held(failure: Failure, diagnostics: Sequence[Diagnostic], text: str) -> TerraformError:
    lock = lock_info(text)
    holder = (
        f"{lock.who or 'somebody'} ({lock.operation or 'working'} since {lock.created or 'an unknown time'})"
    )
    return LockHeldError(
        f"the state is locked by {holder}, lock {lock.id or 'without an ID'}",
        lock=lock,
        diagnostics=diagnostics,
        exit_code=failure.exit_code,
        log=failure.log,
        remedy="wait until that run has ended and run the command again; only if you know that it is dead: "
        f"terraform -chdir={failure.folder} force-unlock {lock.id or 'LOCK_ID'}",
    )


def _simple(
    kind: type[TerraformError], message: str, remedy: str
) -> Callable[[Failure, Sequence[Diagnostic], str], TerraformError]:
    def build(failure: Failure, diagnostics: Sequence[Diagnostic], text: str) -> TerraformError:
        return kind(
            _with_cause(message, diagnostics),
            diagnostics=diagnostics,
            exit_code=failure.exit_code,
            log=failure.log,
            remedy=remedy.format(folder=failure.folder),
        )

    return build


def _other(failure: Failure, diagnostics: Sequence[Diagnostic]) -> TerraformError:
    if diagnostics:
        message = "\n".join(str(d) for d in diagnostics)
    else:
        last = failure.stderr.strip().splitlines()[-5:]
        message = "\n".join([f"terraform {failure.command} ended with {_code(failure.exit_code)}", *last])
    remedy = "correct the cause and run the command again; it goes on from where it stopped"
    return TerraformError(
        message,
        diagnostics=diagnostics,
        exit_code=failure.exit_code,
        log=failure.log,
        remedy=remedy + (f"; everything Terraform said is in {failure.log}" if failure.log else ""),
    )


def _code(exit_code: int) -> str:
    return f"exit code {exit_code}" if exit_code >= 0 else f"signal {-exit_code}"


def _with_cause(message: str, diagnostics: Sequence[Diagnostic]) -> str:
    return "\n".join([message, *(str(d) for d in diagnostics)])


_PATTERNS: tuple[
    tuple[Callable[[Failure, Sequence[Diagnostic], str], TerraformError], re.Pattern[str]], ...
] = (
    (_lock_held, re.compile(r"Error acquiring the state lock[\s\S]*Lock Info:")),
    (
        _simple(
            StalePlanError,
            "the state has moved on since this plan was made; nothing of it was applied",
            "run the command again: it plans anew",
        ),
        re.compile(r"Saved plan is stale|Saved plan does not match the given state"),
    ),
    (
        _simple(
            CredentialsError,
            "AWS does not accept the credentials",
            "sign in again (aws sso login, or new AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), check them with "
            "`aws sts get-caller-identity`, then run the command again",
        ),
        re.compile(
            r"ExpiredToken|InvalidClientTokenId|UnrecognizedClientException|SignatureDoesNotMatch"
            r"|AuthFailure\b|No valid credential sources? found|InvalidAccessKeyId|RequestExpired"
            r"|(?:SSO|sso).{0,80}(?:expired|invalid)|failed to refresh cached credentials"
            r"|get credentials|failed to get shared config profile"
        ),
    ),
    (
        _simple(
            ThrottledError,
            "AWS throttled the calls for longer than the provider keeps trying",
            "wait a few minutes, then run the command again; it goes on from where it stopped",
        ),
        re.compile(
            r"ThrottlingException|Throttling\b|RequestLimitExceeded|TooManyRequestsException|Rate exceeded"
            r"|SlowDown\b|LimitExceededException: Rate"
        ),
    ),
    (
        _simple(
            ProviderMissingError,
            "Terraform cannot get a provider that the stack needs",
            "check the network, or let TF_CLI_CONFIG_FILE name a file with a provider mirror that holds it",
        ),
        re.compile(
            r"Failed to query available provider packages|Failed to install provider|Required plugins are not "
            r"installed|no available releases match|Inconsistent dependency lock file"
            r"|Failed to instantiate provider|Could not load plugin"
        ),
    ),
    (
        _simple(
            InvalidConfigurationError,
            "the configuration or a value in it is invalid",
            "correct the value in cali.yaml or secrets.yaml and run the command again",
        ),
        re.compile(
            r"Invalid value for|Unsupported argument|Unsupported block type|Missing required argument"
            r"|Reference to undeclared|Invalid (?:reference|expression|function argument|index|attribute)"
            r"|Argument or block definition required|No value for required variable|Unsupported attribute"
            r"|Incorrect attribute value type|Invalid single-argument block|Duplicate (?:resource|variable)"
            r"|Unsupported Terraform Core version|Invalid template|is not allowed for|Value for undeclared variable"
        ),
    ),
)
