"""Asking one check of `cali verify`, of a cluster and of what a case puts beside it."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any, cast

from cali_infra.adapters.kubernetes import Kubernetes
from cali_infra.verify.checks import Check, Result
from cali_infra.verify.context import Context, Facts
from cali_infra.verify.subject import Subject


def context(door: Kubernetes, **rest: Any) -> Context:
    """What a check is handed; `rest` is what of the platform it asks beside the cluster, by the Subject's names."""
    stack = SimpleNamespace(outputs=dict)
    known = {"kubernetes": lambda: door, "stack": lambda name, cancel: stack, **rest}
    event = threading.Event()
    subject = cast(Subject, SimpleNamespace(**known))
    return Context(subject, Facts(event), event, time.monotonic() + 60)


def ask(check: Check, door: Kubernetes, **rest: Any) -> Result:
    """What a check says of a cluster, asked anew."""
    return check.ask(context(door, **rest))
