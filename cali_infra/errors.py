"""Every error that cali raises on purpose.

    CaliError
    ├── UsageError                 exit 2: wrong arguments, nothing was touched
    │   ├── SettingsError          cali.yaml or secrets.yaml, every mistake at once
    │   ├── PreconditionError      a tool is missing or too old, an earlier stage was never applied
    │   ├── InvalidKubeconfigError a file that kubectl could not read either
    │   └── WrongTargetError       the workspace belongs to another account, region or endpoint
    ├── RefusedError               exit 3: not approved
    │   └── GuardedChangeError     a guarded resource would be replaced or deleted
    ├── RunInterruptedError        exit 130: Ctrl-C, after everything was put down cleanly
    └── OperationError             exit 1: it was tried and it failed
        ├── LeaseHeldError
        ├── LeaseLostError
        ├── AwsError
        │   └── RoleUnresolvedError
        ├── TerraformError
        │   ├── LockHeldError
        │   ├── StalePlanError
        │   ├── CredentialsError
        │   ├── ThrottledError
        │   ├── ProviderMissingError
        │   └── InvalidConfigurationError
        ├── KubernetesError
        │   ├── UnauthorizedError
        │   ├── ForbiddenError
        │   ├── InvalidObjectError
        │   ├── ConflictError
        │   ├── PodPortError
        │   ├── PodCommandError
        │   ├── JobError
        │   └── UnreachableError
        ├── KubeconfigError
        ├── KustomizeError
        ├── GitError
        ├── OpenSearchError
        ├── GrafanaError
        ├── AirflowError
        └── SandboxError

An error carries objects, not only text: `code` is stable and goes into the JSON, `message` says what
is wrong in a sentence, `remedy` says what to type now. Which exit code follows is decided in `cli/`
from the four branches above and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class CaliError(Exception):
    """The root: anything that cali reports instead of a traceback."""

    code = "error"

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class UsageError(CaliError):
    """The command or its inputs are wrong; nothing was touched."""

    code = "usage"


@dataclass(frozen=True)
class SettingsProblem:
    """One mistake in a settings file: where it stands, what is wrong, what a right value looks like."""

    file: str
    key: str
    problem: str
    example: str = ""

    def __str__(self) -> str:
        where = f"{self.file}: {self.key}" if self.key else self.file
        return f"{where}: {self.problem}" + (f" (for example: {self.example})" if self.example else "")


class SettingsError(UsageError):
    """`cali.yaml` or `secrets.yaml` holds mistakes; all of them are listed."""

    code = "invalid-settings"

    def __init__(self, problems: Sequence[SettingsProblem], *, remedy: str = "") -> None:
        self.problems = tuple(problems)
        super().__init__(
            "\n".join(str(problem) for problem in self.problems),
            remedy=remedy or "correct the keys above and run the command again; nothing was changed",
        )


class PreconditionError(UsageError):
    """Something that must be there first is not: a tool, a version, an earlier stage."""

    code = "precondition"


class InvalidKubeconfigError(UsageError):
    """A file is no kubeconfig; `line` counts from 1, None where the mistake has no place."""

    code = "invalid-kubeconfig"

    def __init__(self, path: str, line: int | None, problem: str) -> None:
        self.path = path
        self.line = line
        where = path if line is None else f"{path}, line {line}"
        super().__init__(
            f"{where}: {problem}",
            remedy="correct the file, or name another one: cali --kubeconfig FILE kubeconfig; it was left as it is",
        )


class WrongTargetError(UsageError):
    """The workspace was made for another account, region or endpoint than the caller's."""

    code = "wrong-target"


class RefusedError(CaliError):
    """The change was not approved."""

    code = "refused"


class GuardedChangeError(RefusedError):
    """A plan deletes or replaces a guarded resource that no `--allow-replace` names, or reaches further than was
    asked for."""

    code = "guarded-change"

    def __init__(self, stage: str, addresses: Sequence[str], *, message: str = "", remedy: str = "") -> None:
        self.stage = stage
        self.addresses = tuple(addresses)
        super().__init__(
            f"{stage}: {message or 'the plan deletes or replaces ' + ', '.join(self.addresses)}",
            remedy=remedy
            or "if that is what you want: " + " ".join(f"--allow-replace '{a}'" for a in self.addresses),
        )


class RunInterruptedError(CaliError):
    """The user pressed Ctrl-C; locks are released and the state is written."""

    code = "interrupted"


class OperationError(CaliError):
    """It was tried and it failed."""

    code = "failed"


class LeaseHeldError(OperationError):
    """Others had the lease on the record of access for as long as one was willing to wait; `holder` says who."""

    code = "lease-held"

    def __init__(self, message: str, *, holder: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.holder = holder


class LeaseLostError(OperationError):
    """The lease on the record of access is no longer one's own: what was read under it may be out of date."""

    code = "lease-lost"


class AwsError(OperationError):
    """AWS answered with an error; `aws_code` is its own code, such as `ResourceNotFoundException`."""

    code = "aws"

    def __init__(self, message: str, *, aws_code: str = "", remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.aws_code = aws_code


class RoleUnresolvedError(AwsError):
    """The role behind a session cannot be told; `standing` is how IAM answered, in `aws_iam`'s words."""

    code = "role-unresolved"

    def __init__(self, message: str, *, standing: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.standing = standing


@dataclass(frozen=True)
class Diagnostic:
    """One diagnostic of Terraform's, as its `-json` output carries it."""

    severity: str
    summary: str
    detail: str = ""
    address: str = ""

    def __str__(self) -> str:
        where = f"{self.address}: " if self.address else ""
        return where + self.summary + (f"\n{self.detail}" if self.detail else "")


class TerraformError(OperationError):
    """Terraform ended with an error; `diagnostics` are its own words, `log` the kept file."""

    code = "terraform"

    def __init__(
        self,
        message: str,
        *,
        diagnostics: Sequence[Diagnostic] = (),
        exit_code: int | None = None,
        log: str = "",
        remedy: str = "",
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.diagnostics = tuple(diagnostics)
        self.exit_code = exit_code
        self.log = log


@dataclass(frozen=True)
class LockInfo:
    """Who holds a state lock, as Terraform prints it."""

    id: str = ""
    who: str = ""
    created: str = ""
    operation: str = ""
    path: str = ""


class LockHeldError(TerraformError):
    """Somebody else holds the state's lock; `lock` says who and since when."""

    code = "terraform-lock-held"

    def __init__(self, message: str, *, lock: LockInfo, **rest: object) -> None:
        super().__init__(message, **rest)  # type: ignore[arg-type]
        self.lock = lock


class StalePlanError(TerraformError):
    """The state has moved on since the plan was made."""

    code = "terraform-stale-plan"


class CredentialsError(TerraformError):
    """The AWS credentials are missing, wrong or expired."""

    code = "credentials"


class ThrottledError(TerraformError):
    """AWS throttled the calls beyond the provider's own retries."""

    code = "throttled"


class ProviderMissingError(TerraformError):
    """A provider cannot be installed from where Terraform looks."""

    code = "terraform-provider-missing"


class InvalidConfigurationError(TerraformError):
    """The stack's configuration or its variables are invalid."""

    code = "terraform-invalid-configuration"


class KubernetesError(OperationError):
    """The Kubernetes API refused a request; `object_ref` names the object as KIND [NAMESPACE/]NAME."""

    code = "kubernetes"

    def __init__(
        self, message: str, *, object_ref: str = "", status: int | None = None, remedy: str = ""
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.object_ref = object_ref
        self.status = status


class UnauthorizedError(KubernetesError):
    """401: the token's principal has no access entry, or the token is no longer valid."""

    code = "kubernetes-unauthorized"


class ForbiddenError(KubernetesError):
    """403: the principal may not do this."""

    code = "kubernetes-forbidden"


class InvalidObjectError(KubernetesError):
    """400 or 422: the object is wrong; `fields` are the paths that the API server names."""

    code = "kubernetes-invalid"

    def __init__(self, message: str, *, fields: Sequence[str] = (), **rest: object) -> None:
        super().__init__(message, **rest)  # type: ignore[arg-type]
        self.fields = tuple(fields)


class ConflictError(KubernetesError):
    """409: another field manager owns fields that the apply sets; `owners` maps field to manager."""

    code = "kubernetes-conflict"

    def __init__(self, message: str, *, owners: dict[str, str] | None = None, **rest: object) -> None:
        super().__init__(message, **rest)  # type: ignore[arg-type]
        self.owners = owners or {}


class PodPortError(KubernetesError):
    """A pod refuses a connection to one of its ports; `reason` is the kubelet's own words."""

    code = "kubernetes-pod-port"

    def __init__(self, what: str, reason: str) -> None:
        # The last words are what happened, those before them where.
        super().__init__(f"{what}: {reason.strip().rpartition(': connect: ')[2]}", object_ref=what)
        self.reason = reason


class PodCommandError(KubernetesError):
    """A command in a container ended with an error; `exit_code` is its own, `words` the last that it said."""

    code = "kubernetes-pod-command"

    def __init__(self, where: str, exit_code: int, words: str) -> None:
        super().__init__(f"{where}: {words} (exit code {exit_code})", object_ref=where)
        self.exit_code = exit_code
        self.words = words


class JobError(KubernetesError):
    """A Job did not come to an end; `reason` is the controller's word, or NotStarted, or Gone."""

    code = "kubernetes-job"

    def __init__(self, message: str, *, reason: str, object_ref: str = "", remedy: str = "") -> None:
        super().__init__(message, object_ref=object_ref, remedy=remedy)
        self.reason = reason


class UnreachableError(KubernetesError):
    """The API server cannot be reached, or its certificate does not fit."""

    code = "kubernetes-unreachable"


class KubeconfigError(OperationError):
    """A kubeconfig cannot be locked, read or written; it is as it was."""

    code = "kubeconfig"


class KustomizeError(OperationError):
    """`kubectl kustomize` failed; its own words are in the message."""

    code = "kustomize"


class GitTrouble(Enum):
    """Why a repository could not be listed."""

    NO_TOOL = "no-tool"
    HOST_UNKNOWN = "host-unknown"
    HOST_CHANGED = "host-changed"
    REFUSED = "refused"
    NOT_FOUND = "not-found"
    UNREACHABLE = "unreachable"
    UNCLEAR = "unclear"


class GitError(OperationError):
    """Git could not list a repository; its own words are in the message, `trouble` says which kind it is."""

    code = "git"

    def __init__(self, message: str, *, trouble: GitTrouble, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.trouble = trouble


class OpenSearchError(OperationError):
    """The OpenSearch domain refused a request or cannot be reached."""

    code = "opensearch"

    def __init__(self, message: str, *, status: int | None = None, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.status = status


class GrafanaError(OperationError):
    """Grafana, or a data source behind it, refused a request or cannot be reached; `status` is the HTTP one."""

    code = "grafana"

    def __init__(self, message: str, *, status: int | None = None, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.status = status


class AirflowError(OperationError):
    """Airflow's API server refused a request or cannot be reached."""

    code = "airflow"

    def __init__(self, message: str, *, status: int | None = None, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.status = status


class SandboxError(OperationError):
    """The sandbox cannot start, has died, or its packages are not installed."""

    code = "sandbox"
