"""The one place that reads Terraform's error texts and decides which typed error they are.

Callers catch types and never parse text. The patterns were taken from what Terraform 1.11 and the AWS
provider 5.100 print; `tests/unit/adapters/terraform_samples` keeps those texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cali_infra.errors import (
    CaliError,
    CredentialsError,
    Diagnostic,
    InvalidConfigurationError,
    LockHeldError,
    LockInfo,
    PreconditionError,
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
    diagnostics: tuple[Diagnostic, ...] = ()
    stderr: str = ""
    log: str = ""
    timed_out: bool = False


def error(failure: Failure) -> CaliError:
    """The typed error for a failure, with the remedy that says what to type.

    It is a PreconditionError where the state is kept elsewhere or its bucket is missing, and a TerraformError
    otherwise.
    """
    said = tuple(d for d in failure.diagnostics if d.severity == "error")
    said = said or tuple(d for d in human_diagnostics(failure.stderr) if d.severity == "error")
    if failure.timed_out:
        return _timed_out(failure, said)
    causes = [d for d in said if d.summary != "execution halted"] or said
    kinds = {_kind(d) for d in causes}
    for kind in _KINDS:
        # One lock or one expired token explains everything else; of the milder kinds every cause must be.
        if kind in kinds and (kind.decisive or kinds == {kind}):
            return kind.build(failure, said)
    return _other(failure, said)


def human_diagnostics(text: str) -> tuple[Diagnostic, ...]:
    """The diagnostics in what a command without `-json` prints on stderr, with or without the box around it.

    Terraform breaks their lines at 78 columns: a pattern has to take any white space for a space.
    """
    lines = [re.sub(r"^[╷│╵] ?", "", line).rstrip() for line in text.splitlines()]
    starts = [i for i, line in enumerate(lines) if line.startswith(("Error: ", "Warning: "))]
    found = []
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=False):
        severity, summary = lines[start].split(": ", 1)
        found.append(Diagnostic(severity.lower(), summary, "\n".join(lines[start + 1 : end]).strip()))
    return tuple(found)


def lock_info(text: str) -> LockInfo:
    """Who holds the lock, from the block "Lock Info" of a message; empty fields where it says nothing."""
    fields = dict(re.findall(r"^\s*(ID|Path|Operation|Who|Created):[ \t]*(.*?)\s*$", text, re.MULTILINE))
    return LockInfo(
        id=fields.get("ID", ""),
        who=fields.get("Who", ""),
        created=re.sub(r"\.\d+ \+0000 UTC$", " UTC", fields.get("Created", "")),
        operation=fields.get("Operation", "").removeprefix("OperationType").lower(),
        path=fields.get("Path", ""),
    )


@dataclass(frozen=True)
class _Kind:
    """One kind of failure: how its text looks, and which error it becomes."""

    pattern: re.Pattern[str]
    build: Callable[[Failure, Sequence[Diagnostic]], CaliError]
    decisive: bool = False


def _kind(diagnostic: Diagnostic) -> _Kind | None:
    text = " ".join(f"{diagnostic.summary} {diagnostic.detail}".split())
    return next((kind for kind in _KINDS if kind.pattern.search(text)), None)


def _lock_held(failure: Failure, said: Sequence[Diagnostic]) -> TerraformError:
    lock = lock_info("\n".join(d.detail for d in said))
    holder = (
        f"{lock.who or 'somebody'} ({lock.operation or 'working'} since {lock.created or 'an unknown time'})"
    )
    return LockHeldError(
        f"the state is locked by {holder}, lock {lock.id or 'without an ID'}",
        lock=lock,
        diagnostics=said,
        exit_code=failure.exit_code,
        log=failure.log,
        remedy="wait until that run has ended and run the command again; only if you know that it is dead: "
        f"terraform -chdir={failure.folder} force-unlock {lock.id or 'LOCK_ID'}",
    )


def state_unsaved(diagnostics: Sequence[Diagnostic]) -> bool:
    """Whether Terraform could not write the state at its end: what it made is in `errored.tfstate` alone."""
    return any(_UNSAVED.search(d.summary) for d in diagnostics)


def unsaved_remedy(folder: str) -> str:
    """What to type when a state lies in `errored.tfstate`."""
    return (
        f"bring it in: terraform -chdir={folder} state push errored.tfstate, then delete that file; "
        "before that, an apply would make everything a second time"
    )


def _state_lost(failure: Failure, said: Sequence[Diagnostic]) -> TerraformError:
    return TerraformError(
        _lines(f"the state could not be written; it lies in {failure.folder}/errored.tfstate", said),
        diagnostics=said,
        exit_code=failure.exit_code,
        log=failure.log,
        remedy=f"mend what kept it from being written, as the messages say; then {unsaved_remedy(failure.folder)}",
    )


def _as(
    kind: type[TerraformError], message: str, remedy: str
) -> Callable[[Failure, Sequence[Diagnostic]], CaliError]:
    def build(failure: Failure, said: Sequence[Diagnostic]) -> CaliError:
        return kind(
            _lines(message, said),
            diagnostics=said,
            exit_code=failure.exit_code,
            log=failure.log,
            remedy=remedy,
        )

    return build


def _precondition(message: str, remedy: str) -> Callable[[Failure, Sequence[Diagnostic]], CaliError]:
    def build(failure: Failure, said: Sequence[Diagnostic]) -> CaliError:
        return PreconditionError(
            message.format(folder=failure.folder), remedy=remedy.format(folder=failure.folder)
        )

    return build


def _timed_out(failure: Failure, said: Sequence[Diagnostic]) -> TerraformError:
    return TerraformError(
        _lines(f"terraform {failure.command} did not come to an end and was stopped", said),
        diagnostics=said,
        exit_code=failure.exit_code,
        log=failure.log,
        remedy=_look_into("check the network, then run the command again", failure),
    )


def _other(failure: Failure, said: Sequence[Diagnostic]) -> TerraformError:
    if failure.exit_code < 0:
        message = _lines(f"terraform {failure.command} was killed by signal {-failure.exit_code}", said)
        remedy = "run the command again; what was in flight may be missing from the state"
    else:
        message = "\n".join(str(d) for d in said)
        if not message:
            last = failure.stderr.strip().splitlines()[-5:]
            message = "\n".join(
                [f"terraform {failure.command} ended with exit code {failure.exit_code}", *last]
            )
        remedy = "correct the cause and run the command again; it goes on from where it stopped"
    return TerraformError(
        message,
        diagnostics=said,
        exit_code=failure.exit_code,
        log=failure.log,
        remedy=_look_into(remedy, failure),
    )


def _look_into(remedy: str, failure: Failure) -> str:
    return remedy + (f"; everything Terraform said is in {failure.log}" if failure.log else "")


def _lines(message: str, said: Sequence[Diagnostic]) -> str:
    return "\n".join([message, *(str(d) for d in said)])


def _pattern(*alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives))


_SIGN_IN = (
    "sign in again (aws sso login, or new AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), check with "
    "`aws sts get-caller-identity`, then run the command again"
)
_UNSAVED = _pattern("Failed to save state", "Failed to persist state")
_KINDS: tuple[_Kind, ...] = (
    # Before all others: an expired token or a lost bucket may be the cause, but this is what has to be mended.
    _Kind(_UNSAVED, _state_lost, decisive=True),
    _Kind(_pattern(r"Error acquiring the state lock.*Lock Info:"), _lock_held, decisive=True),
    _Kind(
        _pattern("Saved plan is stale", "Saved plan does not match the given state"),
        _as(
            StalePlanError,
            "the state has moved on since this plan was made; nothing of it was applied",
            "run the command again: it plans anew",
        ),
        decisive=True,
    ),
    _Kind(
        _pattern(
            "Backend configuration changed",
            "Backend initialization required",
            "Can't ask approval for state migration",
        ),
        _precondition(
            "{folder}: its state is kept elsewhere than cali.yaml says",
            "put `state` in cali.yaml back as it was, or move the state by hand: "
            "terraform -chdir={folder} init -migrate-state",
        ),
        decisive=True,
    ),
    _Kind(
        _pattern(r"S3 bucket \S+ does not exist", r"NoSuchBucket\b"),
        _precondition(
            "the bucket of the state does not exist",
            "make it: cali state bootstrap (for a rehearsal: cali --sandbox state bootstrap)",
        ),
        decisive=True,
    ),
    _Kind(
        _pattern("AWS account ID not allowed"),
        _as(CredentialsError, "the credentials are another account's", "use the right profile or keys"),
        decisive=True,
    ),
    _Kind(
        _pattern(
            r"\bExpiredToken",
            r"\bInvalidClientTokenId\b",
            r"\bUnrecognizedClientException\b",
            r"\bSignatureDoesNotMatch\b",
            r"\bInvalidAccessKeyId\b",
            r"\bAuthFailure\b",
            r"\bRequestExpired\b",
            "No valid credential sources? found",
            "failed to refresh cached credentials",
            "failed to get shared config profile",
            "SSO (?:session|token).{0,80}(?:expired|invalid)",
        ),
        _as(CredentialsError, "AWS does not accept the credentials", _SIGN_IN),
        decisive=True,
    ),
    _Kind(
        _pattern(
            r"\bThrottling(?:Exception)?\b",
            r"\bThrottledException\b",
            r"\bRequestLimitExceeded\b",
            r"\bTooManyRequestsException\b",
            r"\bPriorRequestNotComplete\b",
            r"\bSlowDown\b",
            "Rate exceeded",
        ),
        _as(
            ThrottledError,
            "AWS throttled the calls for longer than the provider keeps trying",
            "wait a few minutes, then run the command again; it goes on from where it stopped",
        ),
    ),
    _Kind(
        _pattern(
            "Failed to query available provider packages",
            "Failed to install provider",
            "Required plugins are not installed",
            "Inconsistent dependency lock file",
            "Failed to load plugin schemas",
            "Could not load plugin",
        ),
        _as(
            ProviderMissingError,
            "Terraform cannot get a provider that the stack needs",
            "check the network, or let TF_CLI_CONFIG_FILE name a file with a provider mirror that holds it",
        ),
    ),
    _Kind(
        _pattern(
            "[Ii]nvalid value for",
            r"^Invalid (?:reference|expression|function argument|index|attribute|template|operand|for_each"
            r"|count|single-argument|multi-line|block|character|Attribute|Configuration|Parameter)",
            "Unsupported (?:argument|attribute|block type|Terraform Core version)",
            "Missing (?:required argument|newline|resource instance key|Configuration)",
            "Argument or block definition required",
            "No value for required variable",
            "Value for undeclared variable",
            "Incorrect attribute value type",
            "Reference to undeclared",
            "Duplicate (?:resource|variable|output|provider|required)",
            "Resource (?:pre|post)condition failed",
            "Module not (?:installed|found)",
            r"^expected \S+ to ",
            r"^\S+: (?:one of|conflicts with) ",
        ),
        _as(
            InvalidConfigurationError,
            "the configuration or a value in it is invalid",
            "correct the value in cali.yaml or secrets.yaml and run the command again",
        ),
    ),
    _Kind(
        _pattern(
            "request send failed",
            "connection refused",
            "no such host",
            r"\bi/o timeout\b",
            "TLS handshake timeout",
            "certificate signed by unknown authority",
            "could not connect to",
        ),
        _as(
            TerraformError,
            "an address cannot be reached",
            "check the network, the proxy and AWS_ENDPOINT_URL, then run the command again",
        ),
    ),
)
