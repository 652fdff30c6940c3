"""`cali init`: the two files of a new project, made from the settings' own descriptions.

It owns what the files look like and how passwords are made; what a key means is `settings.py`'s and
`secrets.py`'s. Nothing that exists is ever written over.
"""

from __future__ import annotations

import base64
import json
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cali_infra.core import files, principals, secrets, settings
from cali_infra.errors import PreconditionError, SettingsError, SettingsProblem

IGNORED = ("secrets.yaml", "*.tfvars", "*.tfvars.json", ".cali/")
# Special characters that mean nothing in YAML, a URL, a shell or an .env file.
_SPECIAL = "-_.~"
_ALPHABET = string.ascii_letters + string.digits + _SPECIAL
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


@dataclass(frozen=True)
class Outcome:
    """The files that were written, those that were there, and the lines that .gitignore gained."""

    written: tuple[Path, ...]
    kept: tuple[Path, ...]
    ignored: tuple[str, ...]


def create(folder: Path, answers: Answers, random: Random) -> Outcome:
    """Write what is missing of `cali.yaml` and `secrets.yaml`, whole and valid, and complete `.gitignore`.

    Raises PreconditionError when both files are there, and SettingsError when an answer is no valid value;
    nothing is written then.
    """
    wanted = {
        folder / settings.FILE: (settings_text(answers.settings), 0o644),
        folder / secrets.FILE: (secrets_text(answers, random), files.PRIVATE_FILE),
    }
    there = tuple(path for path in wanted if path.exists())
    if len(there) == len(wanted):
        raise PreconditionError(
            f"{folder} holds cali.yaml and secrets.yaml already",
            remedy="edit them, or remove one to have it made anew; nothing was written",
        )
    check(answers)
    folder.mkdir(parents=True, exist_ok=True)
    ignored = _complete_gitignore(folder / ".gitignore")
    missing = {path: made for path, made in wanted.items() if path not in there}
    for path, (text, mode) in missing.items():
        files.write_new(path, text.encode(), mode)
    return Outcome(tuple(missing), there, ignored)


def check(answers: Answers) -> None:
    """Raises SettingsError with every answer that is no valid value."""
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files.write_private(folder / settings.FILE, settings_text(answers.settings).encode())
        settings.load_settings(folder, {})
    problems = [
        SettingsProblem(secrets.FILE, "principals", f"{arn!r}: {found}")
        for arn in answers.principals
        if isinstance(found := principals.examine(arn), principals.Rejection)
    ]
    if problems:
        raise SettingsError(problems)


def password(random: Random, length: int = _PASSWORD_LENGTH) -> str:
    """A password with upper case, lower case, digit and special character, that starts with a letter."""
    while True:
        found = "".join(random.choice(_ALPHABET) for _ in range(length))
        kinds = (string.ascii_uppercase, string.ascii_lowercase, string.digits, _SPECIAL)
        if found[0].isalpha() and all(any(c in kind for c in found) for kind in kinds):
            return found


def settings_text(values: Mapping[str, Any]) -> str:
    """A `cali.yaml` with every key, its description and its value: the given one or the default."""
    head = (
        "# Settings of the platform: commit this file. Passwords and ARNs are in secrets.yaml, which stays here.",
        "# A key that is taken out gets its default back.",
    )
    return "\n".join([*head, "", *_section(settings.Settings, values, "", "")]) + "\n"


def _section(model: type[BaseModel], values: Mapping[str, Any], path: str, pad: str) -> Iterator[str]:
    for name, info in model.model_fields.items():
        key = f"{path}{name}"
        nested = info.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            yield from ("", f"# {info.description}", f"{name}:")
            yield from _section(nested, values, f"{key}.", pad + "  ")
        else:
            yield f"{pad}# {info.description}"
            yield f"{pad}{name}: {_yaml(values.get(key, _default(info)))}".rstrip()


def _default(info: FieldInfo) -> Any:
    return info.get_default(call_default_factory=True)


def _yaml(value: Any) -> str:
    # JSON is YAML, and quotes whatever YAML might take for something else.
    if value is None:
        return ""
    if isinstance(value, str) and value.replace("-", "").replace("_", "").isalpha():
        return value
    return json.dumps(value, ensure_ascii=False)


def secrets_text(answers: Answers, random: Random) -> str:
    """A `secrets.yaml` with a strong password wherever one is needed."""

    def key(size: int) -> str:
        return base64.urlsafe_b64encode(random.randbytes(size)).decode()

    def plain(size: int) -> str:
        return "".join(random.choice(string.ascii_letters + string.digits) for _ in range(size))

    made: dict[tuple[str, str], Callable[[], str]] = {
        ("airflow", "fernet_key"): lambda: key(32),
        ("airflow", "api_secret_key"): lambda: plain(64),
        ("airflow", "jwt_secret"): lambda: plain(64),
        ("milvus", "minio_access_key"): lambda: plain(20),
        ("milvus", "minio_secret_key"): lambda: plain(40),
    }
    lines = [
        "# Passwords and principals: never commit this file; keep a copy in the team's password manager.",
        "",
        "# Who gets into the cluster: arn, name, level (admin, edit or view), namespaces, until.",
        "principals:" if answers.principals else "principals: []",
        *(f"  - arn: {json.dumps(arn)}" for arn in answers.principals),
        "",
    ]
    for name, info in secrets.Secrets.model_fields.items():
        section = info.annotation
        if not (isinstance(section, type) and issubclass(section, BaseModel)) or name == "gitsync":
            continue
        lines += [f"# {info.description}", f"{name}:"]
        for key_name, entry in section.model_fields.items():
            value = made.get((name, key_name), lambda: password(random))()
            lines += [f"  # {entry.description}", f"  {key_name}: {json.dumps(value)}"]
        lines.append("")
    lines += ["# Where Airflow's DAGs are; without a URL Airflow runs with GitSync off.", "gitsync:"]
    lines.append(f"  url: {json.dumps(answers.gitsync_url)}" if answers.gitsync_url else "  url:")
    return "\n".join([*lines, "  # ssh_key: |-", "  # known_hosts: |-", ""])


def _complete_gitignore(path: Path) -> tuple[str, ...]:
    text = path.read_text() if path.exists() else ""
    there = {line.strip().rstrip("/") for line in text.splitlines()}
    missing = tuple(line for line in IGNORED if line.rstrip("/") not in there)
    if missing:
        gap = "\n" if text and not text.endswith("\n") else ""
        path.write_text(f"{text}{gap}" + "".join(f"{line}\n" for line in missing))
    return missing
