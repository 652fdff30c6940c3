"""What is asked of `grant-access`, from the command line or from a team's CSV file, checked before any call.

In such a file the first line names the columns: `arn`, and any of `name`, `level`, `namespaces` (separated by
spaces) and `until` (a date, a time with its zone, or `never`). An empty cell leaves a thing as it is, or at its
default. Lines that begin with `#` are comments.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cali_infra.core import access, durations, principals
from cali_infra.errors import SettingsError, SettingsProblem, UsageError

COLUMNS = ("arn", "name", "level", "namespaces", "until")
NEVER = "never"
_EXAMPLE = ",".join(COLUMNS)
_OPTIONS = {"name": "name", "level": "level", "namespaces": "namespace", "until": "until"}


@dataclass(frozen=True)
class Request:
    """What is asked for one principal; None leaves a thing as it is, or at its default.

    `arn` may be that of a role's session. `namespaces` empty is the whole cluster, `until` is RFC 3339 in UTC,
    and `forever` takes an end away.
    """

    arn: str
    name: str | None = None
    level: str | None = None
    namespaces: tuple[str, ...] | None = None
    until: str | None = None
    forever: bool = False


@dataclass(frozen=True)
class Options:
    """The options of the command line, as they were typed; `lasting` is a duration, `until` a date or `never`."""

    name: str | None = None
    level: str | None = None
    namespaces: Sequence[str] = ()
    whole_cluster: bool = False
    lasting: str | None = None
    until: str | None = None


def from_command_line(arns: Sequence[str], options: Options, now: datetime) -> list[Request]:
    """One request for each ARN, all with the same options.

    Raises UsageError with every mistake.
    """
    if options.name is not None and len(arns) > 1:
        raise UsageError("--name is for one ARN", remedy="name several in a file, with --from FILE")
    if options.namespaces and options.whole_cluster:
        raise UsageError("--namespace and --whole-cluster exclude each other", remedy="give one of them")
    if options.lasting is not None and options.until is not None:
        raise UsageError("--for and --until exclude each other", remedy="give one of them")
    given: dict[str, Any] = {
        "name": options.name,
        "level": options.level,
        "namespaces": list(options.namespaces) or ([] if options.whole_cluster else None),
        "until": options.until,
    }
    if options.lasting is not None:
        given["until"] = access.timestamp(now + durations.parse(options.lasting, "--for"))
    requests, problems = [], []
    for arn in arns:
        request, mistakes = _checked({**given, "arn": arn})
        problems += [
            f"{arn}: {words}" if key == "arn" else f"--{key.split('.')[0]}: {words}"
            for key, words in mistakes
        ]
        requests += [request] if request else []
    if problems:
        raise UsageError(
            "\n".join(dict.fromkeys(problems)),
            remedy="correct what is named above; nothing was asked or changed",
        )
    return requests


def from_file(path: Path) -> list[Request]:
    """The requests in a CSV file, in its order.

    Raises SettingsError with every mistake: the file, its line, and what would be right.
    """
    try:
        # Excel writes a mark at the beginning.
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise SettingsError([SettingsProblem(str(path), "", f"cannot be read: {reason}")]) from None
    numbered = [
        (number, line)
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not numbered:
        raise SettingsError([SettingsProblem(str(path), "", "is empty", _EXAMPLE)])
    head = [name.strip().lower() for name in next(csv.reader([numbered[0][1]]))]
    if "arn" not in head or not set(head) <= set(COLUMNS) or len(set(head)) != len(head):
        strange = ", ".join(repr(name) for name in head if name not in COLUMNS)
        words = f"has no columns {strange}" if strange else "does not name the columns, each once"
        raise SettingsError([SettingsProblem(str(path), f"line {numbered[0][0]}", words, _EXAMPLE)])
    requests, problems = [], []
    for number, line in numbered[1:]:
        cells = [cell.strip() for cell in next(csv.reader([line]))]
        if len(cells) > len(head):
            words = f"has {len(cells)} cells for {len(head)} columns"
            problems.append(SettingsProblem(str(path), f"line {number}", words))
            continue
        given: dict[str, Any] = {key: value or None for key, value in zip(head, cells, strict=False)}
        if given.get("namespaces"):
            given["namespaces"] = given["namespaces"].split()
        request, mistakes = _checked(given)
        problems += [SettingsProblem(str(path), f"line {number}, {key}", words) for key, words in mistakes]
        requests += [request] if request else []
    if not requests and not problems:
        problems.append(SettingsProblem(str(path), "", "names nobody"))
    if problems:
        raise SettingsError(problems)
    return requests


def _checked(given: Mapping[str, Any]) -> tuple[Request | None, list[tuple[str, str]]]:
    """The request, or its mistakes as key and words: what `secrets.yaml` takes for a principal is taken here."""
    from pydantic import ValidationError

    from cali_infra.core.inputs import moment
    from cali_infra.core.secrets import Principal

    fields = {key: value for key, value in given.items() if value is not None}
    forever = fields.get("until") == NEVER
    if forever:
        del fields["until"]
    arn = str(fields.get("arn", ""))
    # A session is resolved later: its role may have an entry.
    session = isinstance(principals.examine(arn), principals.RoleSession)
    try:
        principal = Principal.model_validate({**fields, **({"arn": principals.EXAMPLE} if session else {})})
    except ValidationError as error:
        return None, [
            (".".join(map(str, mistake["loc"])) or "arn", str(mistake["msg"]).removeprefix("Value error, "))
            for mistake in error.errors()
        ]
    return (
        Request(
            arn,
            name=fields.get("name"),
            level=fields.get("level"),
            namespaces=tuple(principal.namespaces) if "namespaces" in fields else None,
            until=moment(principal.until),
            forever=forever,
        ),
        [],
    )
