"""Terraform's `-json` lines as typed events.

It owns the shapes and how a line becomes one of them; who runs Terraform and what an event means for a stage
is left to others. Values never come through: an output is a name, a change is an address and an action.
Source: Terraform's machine-readable UI, format 1.x, as Terraform 1.11 prints it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cali_infra.errors import Diagnostic


@dataclass(frozen=True)
class VersionSeen:
    """The first line: which Terraform speaks, and the version of its JSON."""

    terraform: str
    ui: str


@dataclass(frozen=True)
class PlannedChange:
    """One resource in a plan, in Terraform's own word for the action (`create`, `move`, `remove`, ...).

    `reason` is Terraform's, such as `tainted` or `cannot_update`; `previous` the address before a move.
    """

    address: str
    type: str
    action: str
    reason: str = ""
    previous: str = ""
    importing: bool = False


@dataclass(frozen=True)
class ResourceDrift:
    """A resource that differs from what the state last held."""

    address: str
    action: str


@dataclass(frozen=True)
class ChangeSummary:
    """The counts at the end of a plan or an apply; `operation` is plan, apply or destroy."""

    operation: str
    add: int
    change: int
    remove: int
    importing: int = 0


@dataclass(frozen=True)
class HookStarted:
    """Terraform began to work on a resource; data sources come as well, with the action `read`."""

    address: str
    action: str


@dataclass(frozen=True)
class HookProgress:
    """Still at it, every 10 seconds; `elapsed` in seconds."""

    address: str
    action: str
    elapsed: float


@dataclass(frozen=True)
class HookComplete:
    """Done with a resource; `id` is the one that it got, if any, and `elapsed` in seconds."""

    address: str
    action: str
    elapsed: float
    id: str = ""


@dataclass(frozen=True)
class HookErrored:
    """A resource failed; the cause comes as a DiagnosticEvent."""

    address: str
    action: str
    elapsed: float


@dataclass(frozen=True)
class RefreshStarted:
    """Terraform began to read a resource."""

    address: str


@dataclass(frozen=True)
class RefreshComplete:
    """A resource was read."""

    address: str


@dataclass(frozen=True)
class Provisioning:
    """A provisioner's step; what it printed is dropped."""

    address: str
    provisioner: str
    step: str


@dataclass(frozen=True)
class Outputs:
    """The names of the outputs with what becomes of each (`create`, `update`, `delete`, `noop`); no value.

    After an apply Terraform gives values in place of actions, and the action is empty.
    """

    actions: Mapping[str, str]

    @property
    def changed(self) -> bool:
        """A plan would change at least one output."""
        return any(action not in ("", "noop") for action in self.actions.values())


@dataclass(frozen=True)
class DiagnosticEvent:
    """A warning or an error in Terraform's words."""

    diagnostic: Diagnostic


@dataclass(frozen=True)
class Log:
    """A message of a type that carries nothing else of use, such as `init_output`."""

    kind: str
    message: str


@dataclass(frozen=True)
class Interrupting:
    """Not Terraform's: the runner has passed on the interrupt and now waits for Terraform to put things down."""

    message: str


@dataclass(frozen=True)
class Unparsed:
    """A line that is no JSON event, kept as it came."""

    line: str


Event = (
    VersionSeen
    | PlannedChange
    | ResourceDrift
    | ChangeSummary
    | HookStarted
    | HookProgress
    | HookComplete
    | HookErrored
    | RefreshStarted
    | RefreshComplete
    | Provisioning
    | Outputs
    | DiagnosticEvent
    | Log
    | Interrupting
    | Unparsed
)

Redact = Callable[[str], str]


def decode(line: str, redact: Redact) -> tuple[Event, str]:
    """The event in a line and the line as it may be logged, both with secrets taken out by `redact`.

    The strings are redacted after JSON decoding: a secret with a quote, a newline or a `<` in it does not
    look like itself in a JSON line.
    """
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError):
        raw = None
    if not isinstance(raw, dict) or not isinstance(raw.get("type"), str):
        clean = redact(line)
        return Unparsed(clean), clean
    if raw["type"] == "outputs":
        raw["outputs"] = _without_values(raw.get("outputs"))
    raw = _redacted(raw, redact)
    text = json.dumps(raw, ensure_ascii=False, separators=(",", ":"))
    try:
        return _event(raw), text
    except (KeyError, TypeError, ValueError, AttributeError):
        return Unparsed(text), text


def _without_values(outputs: Any) -> dict[str, Any]:
    entries = outputs.items() if isinstance(outputs, dict) else ()
    return {
        name: {key: item for key, item in entry.items() if key != "value"}
        for name, entry in entries
        if isinstance(entry, dict)
    }


def _redacted(value: Any, redact: Redact) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redact(key): _redacted(item, redact) for key, item in value.items()}
    if isinstance(value, list):
        return [_redacted(item, redact) for item in value]
    return value


def _event(raw: Mapping[str, Any]) -> Event:
    parser = _PARSERS.get(raw["type"])
    return parser(raw) if parser else Log(raw["type"], raw.get("@message", ""))


def _planned_change(raw: Mapping[str, Any]) -> Event:
    change = raw["change"]
    resource = change["resource"]
    return PlannedChange(
        address=resource["addr"],
        type=resource["resource_type"],
        action=change["action"],
        reason=change.get("reason", ""),
        previous=(change.get("previous_resource") or {}).get("addr", ""),
        importing=bool(change.get("importing")),
    )


def _drift(raw: Mapping[str, Any]) -> Event:
    return ResourceDrift(raw["change"]["resource"]["addr"], raw["change"]["action"])


def _summary(raw: Mapping[str, Any]) -> Event:
    changes = raw["changes"]
    return ChangeSummary(
        operation=changes["operation"],
        add=int(changes["add"]),
        change=int(changes["change"]),
        remove=int(changes["remove"]),
        importing=int(changes.get("import", 0)),
    )


def _address(raw: Mapping[str, Any]) -> str:
    return str(raw["hook"]["resource"]["addr"])


def _elapsed(raw: Mapping[str, Any]) -> float:
    return float(raw["hook"].get("elapsed_seconds", 0))


def _complete(raw: Mapping[str, Any]) -> Event:
    hook = raw["hook"]
    return HookComplete(_address(raw), hook["action"], _elapsed(raw), str(hook.get("id_value", "")))


def _provisioning(raw: Mapping[str, Any]) -> Event:
    return Provisioning(_address(raw), raw["hook"]["provisioner"], raw["type"].removeprefix("provision_"))


def diagnostic(raw: Mapping[str, Any]) -> Diagnostic:
    """A diagnostic object, as events and `validate -json` carry it; the place in a file goes into `address`
    when no resource is named.
    """
    where = raw.get("range") or {}
    place = f"{where['filename']}:{where['start']['line']}" if where.get("filename") else ""
    return Diagnostic(
        severity=raw["severity"],
        summary=raw["summary"],
        detail=(raw.get("detail") or "").strip(),
        address=raw.get("address") or place,
    )


_PARSERS: Mapping[str, Callable[[Mapping[str, Any]], Event]] = {
    "version": lambda raw: VersionSeen(raw.get("terraform") or raw.get("tofu") or "", raw["ui"]),
    "planned_change": _planned_change,
    "resource_drift": _drift,
    "change_summary": _summary,
    "apply_start": lambda raw: HookStarted(_address(raw), raw["hook"]["action"]),
    "apply_progress": lambda raw: HookProgress(_address(raw), raw["hook"]["action"], _elapsed(raw)),
    "apply_complete": _complete,
    "apply_errored": lambda raw: HookErrored(_address(raw), raw["hook"]["action"], _elapsed(raw)),
    "refresh_start": lambda raw: RefreshStarted(_address(raw)),
    "refresh_complete": lambda raw: RefreshComplete(_address(raw)),
    "provision_start": _provisioning,
    "provision_progress": _provisioning,
    "provision_complete": _provisioning,
    "provision_errored": _provisioning,
    "outputs": lambda raw: Outputs(
        {name: str(entry.get("action", "")) for name, entry in raw["outputs"].items()}
    ),
    "diagnostic": lambda raw: DiagnosticEvent(diagnostic(raw["diagnostic"])),
}
