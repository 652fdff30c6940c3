"""A saved plan as `terraform show -json` prints it: which changes from outside it would undo.

A plan holds every secret in clear. Values are compared here and go no further: what comes out are addresses and the
names of attributes. Source: Terraform's JSON output format, format 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cali_infra.errors import TerraformError


def undone(text: str) -> dict[str, tuple[str, ...]]:
    """The resources that were changed outside and would be put back, by address, with the attributes; none of them
    for a resource that is gone.

    What only differs in how AWS spells it, and what the configuration itself changes, is left out: the plan leads
    somewhere else than to what was there before. Raises TerraformError when the text is no plan.
    """
    try:
        raw = json.loads(text)
        planned = {change["address"]: change["change"] for change in raw.get("resource_changes") or ()}
        drifted = {change["address"]: change["change"] for change in raw.get("resource_drift") or ()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TerraformError("`terraform show -json` printed something that is no plan") from None
    found: dict[str, tuple[str, ...]] = {}
    for address, drift in drifted.items():
        change = planned.get(address)
        if change is None or change.get("actions") in (["no-op"], ["read"]):
            continue
        if drift.get("actions") == ["delete"]:
            found[address] = ()
        elif names := _put_back(drift, change):
            found[address] = names
    return found


def _put_back(drift: Mapping[str, Any], change: Mapping[str, Any]) -> tuple[str, ...]:
    """The attributes that differ from the state outside, and that the plan makes what the state says."""
    was, now, then = (drift.get("before") or {}), (drift.get("after") or {}), (change.get("after") or {})
    return tuple(
        sorted(
            name
            for name in was.keys() | now.keys()
            if was.get(name) != now.get(name) and name in then and then[name] == was.get(name)
        )
    )
