"""Asking one check of `cali verify`, of a cluster and nothing else."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import cast

from cali_infra.adapters.kubernetes import Kubernetes
from cali_infra.verify.checks import Check, Result
from cali_infra.verify.context import Context, Facts
from cali_infra.verify.subject import Subject


def ask(check: Check, door: Kubernetes) -> Result:
    """What a check says of a cluster, asked anew."""
    stack = SimpleNamespace(outputs=dict)
    subject = cast(Subject, SimpleNamespace(kubernetes=lambda: door, stack=lambda name, cancel: stack))
    event = threading.Event()
    return check.ask(Context(subject, Facts(event), event, time.monotonic() + 60))
