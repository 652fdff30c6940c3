"""`secrets.yaml`: who gets access, and every password. Git-ignored, mode 0600, never printed.

It owns the keys and what they may hold. What is wrong with an ARN stands in `principals.py`; making
strong passwords is `init.py`'s.
"""

from __future__ import annotations

import base64
import binascii
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from cali_infra import files
from cali_infra.core import principals, settings_files
from cali_infra.core.settings_files import File, Section
from cali_infra.errors import PreconditionError, SettingsError, SettingsProblem

FILE = "secrets.yaml"


def _no_control_character(value: str) -> None:
    if any(ord(c) < 32 or ord(c) == 127 for c in value):
        raise ValueError("holds a control character, such as a line break")


def check_opensearch_password(value: str) -> str:
    """The password itself, when it meets the policy of OpenSearch's internal users; else ValueError.

    Source: AWS asks for 8 to 128 characters with an upper-case letter, a lower-case letter, a digit and a
    special character. A domain takes 15 to 30 minutes to say so itself.
    """
    lacks = [
        words
        for words, found in (
            ("an upper-case letter", any(c in string.ascii_uppercase for c in value)),
            ("a lower-case letter", any(c in string.ascii_lowercase for c in value)),
            ("a digit", any(c in string.digits for c in value)),
            ("a special character", any(not c.isalnum() and not c.isspace() for c in value)),
        )
        if not found
    ]
    if not 8 <= len(value) <= 128:
        lacks.insert(0, "8 to 128 characters")
    _no_control_character(value)
    if lacks:
        raise ValueError(f"is too weak for OpenSearch, it lacks {' and '.join(lacks)}")
    return value


def _secret(check: Callable[[str], object]) -> AfterValidator:
    def validate(value: SecretStr) -> SecretStr:
        check(value.get_secret_value())
        return value

    return AfterValidator(validate)


def _at_least(length: int) -> Callable[[str], object]:
    def check(value: str) -> None:
        _no_control_character(value)
        if len(value) < length:
            raise ValueError(f"must have at least {length} characters")

    return check


def _grafana_password(value: str) -> None:
    # Source: Grafana expands its settings once more after it has read them from the environment.
    _at_least(8)(value)
    if re.search(r"\$(__\w+)?\{[^}]+\}", value):
        raise ValueError("holds ${...}, in whose place Grafana would put a variable; leave out the braces")


def _milvus_password(value: str) -> None:
    # Source: Milvus keeps it hashed by bcrypt, which refuses more.
    _at_least(8)(value)
    if len(value.encode()) > 72:
        raise ValueError("must have at most 72 bytes, which is all that Milvus can hash")


def _fernet_keys(value: str) -> None:
    """One key, or several with commas between them: the new one first, while it is being changed."""
    for key in value.split(","):
        try:
            raw = base64.b64decode(key.strip(), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if len(raw) != 32:
            raise ValueError("is not a Fernet key: 32 bytes in URL-safe base64, 44 characters")


def _database_url(value: str) -> None:
    """A PostgreSQL that both of Airflow's drivers can open by this URL."""
    _no_control_character(value)
    try:
        parts = urlsplit(value)
        whole = bool(parts.hostname and parts.username and parts.password and parts.path.strip("/"))
        _ = parts.port
    except ValueError:
        whole, parts = False, urlsplit("")
    if parts.scheme != "postgresql" or not whole or parts.fragment:
        raise ValueError(
            "is not postgresql://USER:PASSWORD@HOST:PORT/DATABASE; write special characters of the password as "
            "%XX, a / as %2F, a # as %23"
        )
    if "$" in value:
        raise ValueError("holds a $, in whose place Airflow would put a variable; write it as %24")
    for name, given in parse_qsl(parts.query, keep_blank_values=True):
        if name != "sslmode":
            raise ValueError(f"has the parameter {name}; only sslmode means the same to both of its drivers")
        if given not in _SSL_MODES:
            raise ValueError(
                f"asks for an sslmode that is none of {', '.join(_SSL_MODES)}; those that check a certificate "
                "need a file that Airflow's image does not have"
            )


_SSL_MODES = ("disable", "allow", "prefer", "require")
OpenSearchPassword = Annotated[SecretStr, _secret(check_opensearch_password)]
_PASSWORD_EXAMPLE = "Choose-your-own-1"


def _until(value: object) -> object:
    if value is None or (isinstance(value, date) and not isinstance(value, datetime)):
        return value
    try:
        text = value.isoformat() if isinstance(value, datetime) else str(value).strip()
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            return date.fromisoformat(text)
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{str(value)[:40]!r} is neither a date nor a time") from None
    if moment.tzinfo is None:
        raise ValueError(f"{str(value)[:40]!r} does not say which time zone; end it with Z or +09:00")
    return moment


def _namespace(value: str) -> str:
    # EKS takes `*` inside a namespace of an access policy's scope.
    if not re.fullmatch(r"[a-z0-9*]([a-z0-9*-]{0,61}[a-z0-9*])?", value):
        raise ValueError(f"{value!r} is not the name of a namespace")
    return value


class Principal(Section):
    """A teammate: an IAM user or role that gets into the cluster. An expired one is kept as it is."""

    arn: str = Field(description="ARN of the IAM user or role", examples=[principals.EXAMPLE])
    name: str = Field(description="Who that is; empty: the ARN's own name", examples=["Jiwoo"])
    level: Literal["admin", "edit", "view"] = Field(
        "admin", description="admin, edit or view", examples=["view"]
    )
    namespaces: list[Annotated[str, AfterValidator(_namespace)]] = Field(
        [], description="Only these namespaces; empty: the whole cluster", examples=[["airflow"]]
    )
    until: Annotated[datetime | date | None, BeforeValidator(_until)] = Field(
        None,
        description="Last day, or the moment at which access ends; empty: no end",
        examples=["2027-03-31"],
    )

    @field_validator("arn")
    @classmethod
    def _can_have_an_entry(cls, value: str) -> str:
        found = principals.examine(value)
        if isinstance(found, principals.Rejection):
            raise ValueError(f"{value!r}: {found}")
        return value

    @model_validator(mode="before")
    @classmethod
    def _named_by_its_arn(cls, data: object) -> object:
        if isinstance(data, dict) and not data.get("name") and isinstance(data.get("arn"), str):
            return {**data, "name": data["arn"].rsplit("/", 1)[-1]}
        return data


class OpenSearchSecrets(Section):
    """Passwords of the domain's users."""

    master_password: OpenSearchPassword = Field(
        description="The master user's password", examples=[_PASSWORD_EXAMPLE]
    )
    writer_password: OpenSearchPassword = Field(
        description="The password of the user with which Fluent Bit writes", examples=[_PASSWORD_EXAMPLE]
    )
    reader_password: OpenSearchPassword = Field(
        description="The password of the user with which Grafana and people read",
        examples=[_PASSWORD_EXAMPLE],
    )


class GrafanaSecrets(Section):
    """Grafana's own."""

    admin_password: Annotated[SecretStr, _secret(_grafana_password)] = Field(
        description="The password of Grafana's user admin; read at its first start only; cali up changes it",
        examples=[_PASSWORD_EXAMPLE],
    )


class AirflowSecrets(Section):
    """Airflow's own."""

    fernet_key: Annotated[SecretStr, _secret(_fernet_keys)] = Field(
        description="Encrypts stored connections; to change it, give NEW,OLD",
        examples=["32 bytes in URL-safe base64"],
    )
    api_secret_key: Annotated[SecretStr, _secret(_at_least(16))] = Field(
        description="Signs what the web server hands out", examples=["64 random characters"]
    )
    jwt_secret: Annotated[SecretStr, _secret(_at_least(16))] = Field(
        description="Signs the tokens between Airflow's parts", examples=["64 random characters"]
    )
    admin_password: Annotated[SecretStr, _secret(_at_least(8))] = Field(
        description="The password of Airflow's user admin; read at its first start only; cali up changes it",
        examples=[_PASSWORD_EXAMPLE],
    )
    database_password: Annotated[SecretStr, _secret(_at_least(8))] = Field(
        description="The password of Airflow's bundled database; read at its first start only; cali up changes it",
        examples=[_PASSWORD_EXAMPLE],
    )
    database_url: Annotated[SecretStr, _secret(_database_url)] | None = Field(
        None,
        description="A PostgreSQL outside the cluster for Airflow; empty: the bundled one",
        examples=["postgresql://airflow:PASSWORD@db.example.com:5432/airflow?sslmode=require"],
    )


class MilvusSecrets(Section):
    """Milvus' own."""

    root_password: Annotated[SecretStr, _secret(_milvus_password)] = Field(
        description="The password of Milvus' user root; read at its first start only; cali up changes it",
        examples=[_PASSWORD_EXAMPLE],
    )
    minio_access_key: Annotated[SecretStr, _secret(_at_least(3))] = Field(
        description="Access key of the object store inside", examples=["20 random characters"]
    )
    minio_secret_key: Annotated[SecretStr, _secret(_at_least(8))] = Field(
        description="Secret key of the object store inside", examples=["40 random characters"]
    )


def check_git_url(value: str) -> str:
    """The URL itself, when it is one of a Git repository and holds no password; else ValueError."""
    # The URL reaches Airflow's Deployment in clear, and a token stands where a user's name does.
    if re.match(r"https?://[^/]*@|[a-z+]+://[^@]*:[^@]*@", value):
        raise ValueError(
            "holds a password or a token; leave it out and use an SSH key, or give it as gitsync.token"
        )
    if not re.match(r"((https|ssh)://[^\s/]+/|[^\s@:/]+@[^\s:/]+:)\S+\Z", value):
        raise ValueError("is not the URL of a Git repository, by https or by ssh")
    return value


def ssh_host(url: str | None) -> str | None:
    """The `host` or `host:port` to which a Git URL goes over SSH, or None when it does not."""
    found = re.match(r"ssh://(?:[^@/]*@)?(?P<long>[^/]+)/|[^\s@:/]+@(?P<short>[^\s:/]+):", url or "")
    return found["long"] or found["short"] if found else None


def ssh_key_text(value: str) -> str:
    """A private key as OpenSSH takes it: it refuses one without its last line break, which YAML's `|-` takes away,
    and one with a CR."""
    return value.replace("\r\n", "\n").strip() + "\n"


def _private_key(value: str) -> None:
    """Its form only: whether it is a key that opens anything is found out where Git is asked."""
    if re.match(r"\s*(ssh|ecdsa|sk-ssh|sk-ecdsa)-", value):
        raise ValueError("is a public key; the private one is needed, the file without .pub")
    if re.search(r"BEGIN ENCRYPTED PRIVATE KEY|Proc-Type: 4,ENCRYPTED", value):
        raise ValueError("has a passphrase, and nobody is there to type it; make a key without one")
    if not re.match(
        r"\s*-----BEGIN ([A-Z0-9]+ )?PRIVATE KEY-----\r?\n.+\n-----END [^\n]+-----\s*\Z", value, re.S
    ):
        raise ValueError(
            "is not a private key: its first line is -----BEGIN ... PRIVATE KEY-----, its last one "
            "-----END ... PRIVATE KEY-----, and it keeps its line breaks"
        )


def _known_hosts(value: str) -> str:
    hosts = 0
    for number, line in enumerate(value.splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        # A line may start with a marker: @cert-authority or @revoked.
        host_type_key = words[1:] if words[0].startswith("@") else words
        # Each kind of key begins with the length of its name, in base64.
        if len(host_type_key) < 3 or not host_type_key[2].startswith("AAAA"):
            raise ValueError(f"line {number} is not HOST TYPE KEY, as ssh-keyscan prints it")
        hosts += 1
    if not hosts:
        raise ValueError("names no host")
    return value


class GitSyncSecrets(Section):
    """Where Airflow gets its DAGs from; without a URL GitSync is off."""

    url: Annotated[str, AfterValidator(check_git_url)] | None = Field(
        None, description="URL of the repository with the DAGs", examples=["git@github.com:acme/dags.git"]
    )
    ssh_key: Annotated[SecretStr, _secret(_private_key)] | None = Field(
        None,
        description="Private key that may read it, for a URL over SSH",
        examples=["|-, and the key's lines below, indented"],
    )
    known_hosts: Annotated[str, AfterValidator(_known_hosts)] | None = Field(
        None,
        description="The host's key, as ssh-keyscan prints it, for a URL over SSH",
        examples=["github.com ssh-ed25519 AAAAC3..."],
    )
    username: Annotated[str, Field(min_length=1)] = Field(
        "git", description="User name that goes with the token; most hosts take any", examples=["git"]
    )
    token: Annotated[SecretStr, _secret(_at_least(8))] | None = Field(
        None,
        description="Token that may read it, for a URL over HTTPS; empty: the repository is public",
        examples=["github_pat_..."],
    )

    @field_validator("url", "ssh_key", "known_hosts", "token", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        # As whoever empties a line between two quotation marks means it.
        return None if isinstance(value, str) and not value.strip() else value

    @field_validator("ssh_key", "known_hosts")
    @classmethod
    def _needed_over_ssh(cls, value: SecretStr | str | None, info: ValidationInfo) -> SecretStr | str | None:
        host = ssh_host(info.data.get("url"))
        if value is None and host is not None:
            name, _, port = host.partition(":")
            scan = f"ssh-keyscan {f'-p {port} ' if port else ''}{name}"
            hint = f"; `{scan}` prints it" if info.field_name == "known_hosts" else ""
            raise ValueError(f"is missing, and gitsync.url goes over SSH{hint}")
        return value


class Secrets(File):
    """The whole of `secrets.yaml`."""

    principals: list[Principal] = Field(
        [], description="Who gets into the cluster", examples=[[{"arn": principals.EXAMPLE, "name": "Jiwoo"}]]
    )
    opensearch: OpenSearchSecrets = Field(description="Passwords of the domain's users")
    grafana: GrafanaSecrets = Field(description="Grafana")
    airflow: AirflowSecrets = Field(description="Airflow")
    milvus: MilvusSecrets = Field(description="Milvus")
    gitsync: GitSyncSecrets = Field(GitSyncSecrets(), description="Where Airflow's DAGs are")
    hash_key: Annotated[SecretStr, _secret(_at_least(16))] | None = Field(
        None,
        description="Keys the hashes by which pods notice a new password; leave it as it is",
        examples=["64 random characters"],
    )

    @property
    def hashing_key(self) -> SecretStr:
        """What those hashes are keyed with: never in the cluster. A file from before it has the master's."""
        return self.hash_key or self.opensearch.master_password

    @field_validator("principals")
    @classmethod
    def _each_arn_once(cls, value: list[Principal]) -> list[Principal]:
        twice = [arn for arn, count in Counter(one.arn for one in value).items() if count > 1]
        if twice:
            raise ValueError(f"{', '.join(twice)} stands here more than once; an ARN has one entry")
        return value


def load_secrets(project_dir: Path, environ: Mapping[str, str]) -> Secrets:
    """The secrets of a project folder.

    Raises PreconditionError when there is no `secrets.yaml` and the environment does not hold all of it,
    and SettingsError with every mistake of it and of `cali.yaml`.
    """
    found, missing = _read(project_dir, environ)
    if isinstance(found, Secrets):
        return found
    if missing:
        raise PreconditionError(
            f"there is no {FILE} in {project_dir}",
            remedy="run `cali init`, or get the file from whoever set this project up",
        )
    from cali_infra.core import settings

    raise SettingsError([*settings.problems(project_dir, environ), *found])


def problems(project_dir: Path, environ: Mapping[str, str]) -> tuple[SettingsProblem, ...]:
    """The mistakes in `secrets.yaml`; none when the file is not there."""
    found, missing = _read(project_dir, environ)
    return () if missing or isinstance(found, Secrets) else found


def _read(
    project_dir: Path, environ: Mapping[str, str]
) -> tuple[Secrets | tuple[SettingsProblem, ...], bool]:
    path = project_dir / FILE
    outcome = settings_files.read(Secrets, path, environ)
    found = outcome.problems
    if path.is_file() and files.open_to_others(path):
        found = (
            SettingsProblem(FILE, "", f"others on this machine can open it; run: chmod 600 {path}"),
            *found,
        )
    return (outcome.model if outcome.model is not None and not found else found), outcome.missing
