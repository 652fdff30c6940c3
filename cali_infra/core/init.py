"""`cali init`: the two files of a new project, made from the settings' own descriptions.

It owns what the files look like and how passwords are made; what a key means is `settings.py`'s and
`secrets.py`'s. Nothing that exists is ever written over.
"""

from __future__ import annotations

import base64
import json
import string
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import yaml
from pydantic import BaseModel

from cali_infra import files
from cali_infra.core import secrets, settings
from cali_infra.errors import PreconditionError

IGNORED = (secrets.FILE, ".cali/", "*.tfvars", "*.tfvars.json")
# Written out even where they are the default: another default in a later cali must not move what is built,
# and a program that edits the file finds every section.
_WRITTEN_OUT = frozenset(
    {
        *("project", "environment", "region", "allowed_cidrs"),
        *("network.cidr", "eks.version", "search.engine_version", "search.master_username"),
        *("state.backend", "autoscaler.chart_version", "logging.index_prefix", "verify.image"),
        *("services.airflow", "services.milvus", "services.grafana"),
        *("airflow.chart_version", "airflow.version", "milvus.chart_version", "milvus.version"),
        *("grafana.chart_version", "grafana.version", "grafana.plugin_version"),
    }
)
# They mean nothing in YAML, a URL, a shell or an .env file.
_SPECIAL = "-_.~"
_ALPHANUMERIC = string.ascii_letters + string.digits
_PASSWORD_LENGTH = 28


class Random(Protocol):
    """Randomness as `random.SystemRandom` gives it."""

    def choice(self, seq: Sequence[str], /) -> str: ...

    def randbytes(self, n: int, /) -> bytes: ...


@dataclass(frozen=True)
class Answers:
    """What a person has said; `settings` are dotted keys of cali.yaml with their values."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    principals: tuple[str, ...] = ()
    gitsync_url: str | None = None

    @property
    def gitsync_waits(self) -> bool:
        """Whether GitSync lacks what nobody was asked for: over SSH it takes a key and known hosts.

        A URL that is none is not waiting, it is a mistake to be told.
        """
        try:
            return secrets.ssh_host(secrets.check_git_url(self.gitsync_url or "")) is not None
        except ValueError:
            return False


@dataclass(frozen=True)
class Outcome:
    """The files that were written, those that were there, and the lines that .gitignore gained."""

    written: tuple[Path, ...]
    kept: tuple[Path, ...]
    ignored: tuple[str, ...]


def existing(folder: Path) -> tuple[Path, ...]:
    """Which of the two files are there.

    Raises PreconditionError when both are: there is nothing to make then.
    """
    there = tuple(path for name in (settings.FILE, secrets.FILE) if (path := folder / name).exists())
    if len(there) == 2:
        raise PreconditionError(
            f"{settings.FILE} and {secrets.FILE} are in {folder} already",
            remedy="edit them, or move one away to have it made anew; nothing was written",
        )
    return there


def applied_before(folder: Path) -> tuple[str, ...]:
    """The environments of the project that something was applied to from this machine; no rehearsals."""
    records = (folder / ".cali").glob("*/workspace.json")
    names = sorted(record.parent.name for record in records)
    return tuple(name for name in names if not name.startswith("sandbox-"))


def create(folder: Path, answers: Answers, random: Random) -> Outcome:
    """Write what is missing of `cali.yaml` and `secrets.yaml`, whole and valid, and complete `.gitignore`.

    Raises PreconditionError when both files are there, and SettingsError with every answer that is no valid
    value; nothing is written then.
    """
    there = existing(folder)
    made = {
        folder / settings.FILE: (settings_text(answers.settings), 0o644),
        folder / secrets.FILE: (secrets_text(answers, random), files.PRIVATE_FILE),
    }
    _check(*(text for text, _ in made.values()))
    folder.mkdir(parents=True, exist_ok=True)
    # First what keeps the secrets out of Git, then the secrets.
    ignored = _complete_gitignore(folder / ".gitignore")
    missing = {path: one for path, one in made.items() if path not in there}
    for path, (text, mode) in missing.items():
        files.write_new(path, text.encode(), mode)
    return Outcome(tuple(missing), there, ignored)


def check(answers: Answers, random: Random) -> None:
    """Raises SettingsError with every answer that is no valid value; writes nothing that stays."""
    _check(settings_text(answers.settings), secrets_text(answers, random))


def password(random: Random, length: int = _PASSWORD_LENGTH) -> str:
    """A password that meets OpenSearch's policy, starts with a letter and needs no quoting anywhere."""
    while True:
        found = "".join(random.choice(_ALPHANUMERIC + _SPECIAL) for _ in range(length))
        kinds = (string.ascii_uppercase, string.ascii_lowercase, string.digits, _SPECIAL)
        # `~` is special to a shell at the end of a word only, `.` to a sentence.
        ends = found[0].isalpha() and found[-1].isalnum()
        if ends and all(any(character in kind for character in found) for kind in kinds):
            return found


def settings_text(values: Mapping[str, Any]) -> str:
    """A `cali.yaml` with every key, its description and its default; `values` take the defaults' places."""
    head = (
        "# The settings of the platform. Commit this file; passwords and teammates are in secrets.yaml.",
        "# A key behind a # has its default: take the # away to change it.",
        "",
    )
    return "\n".join([*head, *_section(settings.Settings, values, ())]) + "\n"


def secrets_text(answers: Answers, random: Random) -> str:
    """A `secrets.yaml` with a strong password wherever one is needed."""

    def plain(size: int) -> str:
        return "".join(random.choice(_ALPHANUMERIC) for _ in range(size))

    special: dict[str, Callable[[], str]] = {
        "airflow.fernet_key": lambda: base64.urlsafe_b64encode(random.randbytes(32)).decode(),
        "airflow.api_secret_key": lambda: plain(64),
        "airflow.jwt_secret": lambda: plain(64),
        "milvus.minio_access_key": lambda: plain(20),
        "milvus.minio_secret_key": lambda: plain(40),
    }
    lines = [
        "# Passwords and teammates. Never commit this file; keep a copy in the team's password manager.",
        "# Its mode is 0600: cali refuses to read it when others on this machine can.",
        "",
        "# Who gets into the cluster. Besides its arn an entry may have:",
        *(
            f"#   {name}: {info.description}"
            for name, info in secrets.Principal.model_fields.items()
            if name != "arn"
        ),
        "principals:" if answers.principals else "principals: []",
        *(f"  - arn: {json.dumps(arn)}" for arn in answers.principals),
    ]
    for name, info in secrets.Secrets.model_fields.items():
        section = info.annotation
        if name == "gitsync" or not (isinstance(section, type) and issubclass(section, BaseModel)):
            continue
        lines += ["", f"# {info.description}", f"{name}:"]
        for key, entry in section.model_fields.items():
            if not entry.is_required():
                lines += [f"  # {entry.description}", f"  # {key}: {json.dumps((entry.examples or [''])[0])}"]
                continue
            value = special.get(f"{name}.{key}", lambda: password(random))()
            lines += [f"  # {entry.description}", f"  {key}: {json.dumps(value)}"]
    lines += ["", "# Where Airflow's DAGs are; without a URL Airflow runs with GitSync off", "gitsync:"]
    for key, entry in secrets.GitSyncSecrets.model_fields.items():
        lines.append(f"  # {entry.description}")
        if key == "url":
            url = json.dumps(answers.gitsync_url) if answers.gitsync_url else ""
            if answers.gitsync_waits:
                lines += [f"  # Once ssh_key and known_hosts are filled in below: {url}", "  url:"]
            else:
                lines.append(f"  url: {url}".rstrip())
            continue
        lines.append(f"  # {key}: " + ("|-" if key == "ssh_key" else (entry.examples or [""])[0]))
        if key == "ssh_key":
            lines += [
                "  #   -----BEGIN OPENSSH PRIVATE KEY-----",
                "  #   ...",
                "  #   -----END OPENSSH PRIVATE KEY-----",
            ]
    hash_key = secrets.Secrets.model_fields["hash_key"]
    lines += ["", f"# {hash_key.description}", f"hash_key: {plain(64)}"]
    return "\n".join([*lines, ""])


def _section(model: type[BaseModel], values: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    pad = "  " * len(path)
    for name, info in model.model_fields.items():
        here = (*path, name)
        nested = info.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            yield from ("", f"{pad}# {info.description}", f"{pad}{name}:")
            yield from _section(nested, values, here)
            continue
        key = ".".join(here)
        value = values.get(key, info.get_default(call_default_factory=True))
        hidden = "" if key in values or key in _WRITTEN_OUT else "# "
        if hidden and not value and not isinstance(value, bool) and info.examples:
            # An empty default says little: an example shows the form.
            value = info.examples[0]
        yield f"{pad}# {info.description}"
        yield f"{pad}{hidden}{name}: {_yaml(value)}"


def _yaml(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")


def _check(settings_yaml: str, secrets_yaml: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files.write_private(folder / settings.FILE, settings_yaml.encode())
        files.write_private(folder / secrets.FILE, secrets_yaml.encode())
        settings.load_settings(folder, {})
        secrets.load_secrets(folder, {})


def _complete_gitignore(path: Path) -> tuple[str, ...]:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    there = {line.strip().strip("/") for line in text.splitlines()}
    missing = tuple(line for line in IGNORED if line.strip("/") not in there)
    if missing:
        gap = "\n" if text and not text.endswith("\n") else ""
        path.write_text(f"{text}{gap}" + "".join(f"{line}\n" for line in missing), encoding="utf-8")
    return missing
