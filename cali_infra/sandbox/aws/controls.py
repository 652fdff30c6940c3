"""What a test may turn on the stand-in: delays and bad ends of slow creations, errors and ailments on purpose.

It owns the switches and their HTTP form below `/_sandbox/`, a path that no AWS service can have (no bucket
name starts with an underscore):

    POST /_sandbox/delays {"cluster_create": 8, "nodegroup_create": {"seconds": 2, "ends": "CREATE_FAILED"}}
    POST /_sandbox/faults {"service": "eks", "operation": "CreateNodegroup", "code": "...", "message": "...",
                           "times": 1}
    POST /_sandbox/principals {"strict": true}
    POST /_sandbox/clock {"advance": 3600} or {"now": "2027-01-31T00:00:00Z"}
    POST /_sandbox/ailments {"kind": "addon", "name": "coredns",
                             "shows": {"status": "DEGRADED", "health": {"issues": [...]}}}
    DELETE takes all of a kind back, GET shows them; GET /_sandbox/calls counts the calls.

The clock is EventBridge Scheduler's only; moving it runs what is then due before the answer comes back. An ailment
is what a Describe call shows of something in the place of how it is.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from cali_infra.sandbox.aws.clock import Clock
from cali_infra.sandbox.aws.errors import ServiceError

PREFIX = "/_sandbox/"
# The creations that may be slow, and how each may end; the first is how it ends by itself.
SLOW = {
    "cluster_create": ("ACTIVE", "FAILED"),
    "nodegroup_create": ("ACTIVE", "CREATE_FAILED"),
    "addon_create": ("ACTIVE", "CREATE_FAILED"),
    "domain_create": ("Active",),
}


# What may be ailing.
KINDS = ("cluster", "nodegroup", "addon", "domain")


@dataclass(frozen=True)
class Pace:
    """How long a creation takes, in seconds, and the status that it ends in."""

    seconds: float
    ends: str


@dataclass(frozen=True)
class Fault:
    """An error to answer with, `times` times; `operation` `*` is every operation of the service."""

    service: str
    operation: str
    code: str
    message: str
    times: int = 1
    status: int | None = None


class Controls:
    """The switches of one stand-in."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.strict_principals = False
        self._lock = threading.Lock()
        self._paces = {name: Pace(0.0, ends[0]) for name, ends in SLOW.items()}
        self._faults: list[Fault] = []
        self._ailments: dict[tuple[str, str], dict[str, Any]] = {}
        self._calls: Counter[str] = Counter()

    def delay(self, what: str, seconds: float, ends: str | None = None) -> None:
        """Make creations of a kind slow; raises ValueError for a kind or an end that there is not."""
        if what not in SLOW:
            raise ValueError(f"there is no {what!r}; there are {', '.join(SLOW)}")
        if ends is not None and ends not in SLOW[what]:
            raise ValueError(f"{what} cannot end in {ends!r}, only in {' or '.join(SLOW[what])}")
        with self._lock:
            self._paces[what] = Pace(float(seconds), ends or SLOW[what][0])

    def pace(self, what: str) -> Pace:
        """How a creation of that kind goes now."""
        with self._lock:
            return self._paces[what]

    def fail(self, fault: Fault) -> None:
        """Answer the next fitting calls with an error."""
        with self._lock:
            self._faults.append(fault)

    def ail(self, kind: str, name: str, shows: Mapping[str, Any]) -> None:
        """Have a Describe call show something ailing; raises ValueError for a kind that there is not."""
        if kind not in KINDS:
            raise ValueError(f"there is no {kind!r}; there are {', '.join(KINDS)}")
        with self._lock:
            self._ailments[kind, name] = dict(shows)

    def shown(self, kind: str, name: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """A document as a Describe call shows it now; structures keep the members that an ailment does not name."""
        with self._lock:
            ailment = self._ailments.get((kind, name), {})
        return _overlaid(document, ailment)

    def clear(self) -> None:
        """Take every delay, every fault and every ailment back."""
        with self._lock:
            self._paces = {name: Pace(0.0, ends[0]) for name, ends in SLOW.items()}
            self._faults.clear()
            self._ailments.clear()

    def called(self, service: str, operation: str) -> None:
        """Count a call; raises the fault that waits for it."""
        with self._lock:
            self._calls[f"{service}:{operation}"] += 1
            for index, fault in enumerate(self._faults):
                if fault.service == service and fault.operation in ("*", operation):
                    if fault.times > 1:
                        self._faults[index] = replace(fault, times=fault.times - 1)
                    else:
                        del self._faults[index]
                    raise ServiceError(fault.code, fault.message, status=fault.status)

    def calls(self) -> dict[str, int]:
        """How often each `service:operation` was called."""
        with self._lock:
            return dict(self._calls)

    def serve(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Answer a request below `/_sandbox/`: its status and JSON."""
        what = path.removeprefix(PREFIX)
        try:
            given = json.loads(body or b"{}")
            if method == "POST":
                self._set(what, given)
            elif method == "DELETE":
                self._unset(what)
            return 200, json.dumps(self._show(what)).encode()
        except KeyError as missing:
            return 404, json.dumps({"error": f"there is no {PREFIX}{what} ({missing})"}).encode()
        except (TypeError, ValueError) as problem:
            return 400, json.dumps({"error": str(problem)}).encode()

    def _set(self, what: str, given: Mapping[str, Any]) -> None:
        if what == "delays":
            for kind, pace in given.items():
                if isinstance(pace, Mapping):
                    self.delay(kind, float(pace.get("seconds", 0)), pace.get("ends"))
                else:
                    self.delay(kind, float(pace))
        elif what == "faults":
            self.fail(Fault(**given))
        elif what == "principals":
            self.strict_principals = bool(given["strict"])
        elif what == "clock":
            _move(self.clock, given)
        elif what == "ailments":
            self.ail(given["kind"], given["name"], given["shows"])
        else:
            raise KeyError(what)

    def _unset(self, what: str) -> None:
        if what == "clock":
            self.clock.reset()
            return
        with self._lock:
            if what == "delays":
                self._paces = {name: Pace(0.0, ends[0]) for name, ends in SLOW.items()}
            elif what == "faults":
                self._faults.clear()
            elif what == "principals":
                self.strict_principals = False
            elif what == "ailments":
                self._ailments.clear()
            elif what == "calls":
                self._calls.clear()
            else:
                raise KeyError(what)

    def _show(self, what: str) -> Any:
        if what == "clock":
            return {"now": self.clock().isoformat(), "ahead": self.clock.ahead.total_seconds()}
        with self._lock:
            shown = {
                "delays": {name: asdict(pace) for name, pace in self._paces.items()},
                "faults": [asdict(fault) for fault in self._faults],
                "principals": {"strict": self.strict_principals},
                "ailments": [
                    {"kind": kind, "name": name, "shows": shows}
                    for (kind, name), shows in self._ailments.items()
                ],
                "calls": dict(self._calls),
            }
        return shown[what]


def _move(clock: Clock, given: Mapping[str, Any]) -> None:
    """Move a clock as a body says; raises ValueError or TypeError."""
    match dict(given):
        case {"advance": int() | float() as seconds, **rest} if not rest:
            clock.advance(seconds)
        case {"now": str() as moment, **rest} if not rest:
            clock.set(datetime.fromisoformat(moment))
        case _:
            raise ValueError('the clock takes {"advance": SECONDS} or {"now": "2027-01-31T00:00:00Z"}')


def _overlaid(document: Mapping[str, Any], ailment: Mapping[str, Any]) -> dict[str, Any]:
    laid = dict(document)
    for key, value in ailment.items():
        inner = laid.get(key)
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        laid[key] = _overlaid(inner, value) if both else value  # type: ignore[arg-type]
    return laid
