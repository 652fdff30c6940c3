"""Index State Management: retention policies with their versions, and which index has which.

Policies are kept, checked and attached; nothing is ever deleted by them here. Source: the chapter "Index State
Management / API" of the OpenSearch documentation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from cali_infra.sandbox.opensearch.errors import Obj, SearchError, illegal, not_modelled

_KEYS = {
    "policy_id", "description", "last_updated_time", "schema_version", "error_notification", "default_state",
    "states", "ism_template", "user",
}  # fmt: skip
_ACTIONS = {
    "delete", "rollover", "force_merge", "read_only", "read_write", "replica_count", "shrink", "close", "open",
    "snapshot", "index_priority", "allocation", "notification", "alias", "transition", "rollup",
    "warm_migration", "cold_migration", "cold_delete",
}  # fmt: skip
_SETTINGS = {"retry", "timeout", "custom"}


@dataclass(frozen=True)
class _Policy:
    version: int
    seq_no: int
    body: Obj


class Retention:
    """The policies of one domain. `millis` tells the time in milliseconds since 1970."""

    def __init__(self, millis: Callable[[], int]) -> None:
        self._millis = millis
        self._policies: dict[str, _Policy] = {}
        self._attached: dict[str, str] = {}
        self._seq_no = -1

    def attach(self, index: str) -> None:
        """Gives a new index the policy whose template matches it with the highest priority."""
        best = max(
            (
                (int(template.get("priority", 0)), name)
                for name, policy in self._policies.items()
                for template in policy.body.get("ism_template") or ()
                if any(fnmatchcase(index, pattern) for pattern in template.get("index_patterns") or ())
            ),
            default=None,
        )
        if best is not None:
            self._attached[index] = best[1]

    def forget(self, index: str) -> None:
        """An index is gone."""
        self._attached.pop(index, None)

    def handle(
        self,
        method: str,
        parts: list[str],
        query: dict[str, str],
        body: Any,
        indices: Callable[[str], list[str]],
    ) -> tuple[int, Obj]:
        """A request below `/_plugins/_ism/`; `indices` resolves an index expression."""
        if parts[0] == "policies":
            if len(parts) == 1 and method == "GET":
                found = [self._shown(name, policy) for name, policy in sorted(self._policies.items())]
                return 200, {"policies": found, "total_policies": len(found)}
            if len(parts) == 2:
                if method == "GET":
                    return 200, self._shown(parts[1], self._policy(parts[1]))
                if method == "PUT":
                    return self._put(parts[1], query, body)
                if method == "DELETE":
                    return 200, self._delete(parts[1])
        elif len(parts) == 2 and parts[0] in ("add", "remove", "change_policy") and method == "POST":
            return 200, self._assign(parts[0], indices(parts[1]), body)
        elif len(parts) == 2 and parts[0] == "explain" and method == "GET":
            return 200, self._explain(indices(parts[1]))
        raise not_modelled(f"{method} /_plugins/_ism/{'/'.join(parts)}")

    def _policy(self, name: str) -> _Policy:
        if name not in self._policies:
            raise SearchError(404, "status_exception", "Policy not found")
        return self._policies[name]

    @staticmethod
    def _shown(name: str, policy: _Policy) -> Obj:
        return {
            "_id": name,
            "_version": policy.version,
            "_seq_no": policy.seq_no,
            "_primary_term": 1,
            "policy": policy.body,
        }

    def _put(self, name: str, query: dict[str, str], body: Any) -> tuple[int, Obj]:
        wanted = body.get("policy") if isinstance(body, dict) else None
        if not isinstance(wanted, dict):
            raise illegal("Object field [policy] is missing")
        self._check(name, wanted)
        before = self._policies.get(name)
        seq_no, term = query.get("if_seq_no"), query.get("if_primary_term")
        if before is None and (seq_no is not None or term is not None):
            raise _conflict(
                f"[{name}]: version conflict, required seqNo [{seq_no}], primary term [{term}]. but no document "
                "was found"
            )
        if before is not None and (seq_no is None or term is None):
            raise _conflict(
                f"[{name}]: version conflict, document already exists (current version [{before.version}])"
            )
        if before is not None and (seq_no, term) != (str(before.seq_no), "1"):
            raise _conflict(
                f"[{name}]: version conflict, required seqNo [{seq_no}], primary term [{term}]. current document "
                f"has seqNo [{before.seq_no}] and primary term [1]"
            )
        self._seq_no += 1
        policy = _Policy(before.version + 1 if before else 1, self._seq_no, self._completed(name, wanted))
        self._policies[name] = policy
        shown = self._shown(name, policy)
        return (200 if before else 201), {**shown, "policy": {"policy": policy.body}}

    def _completed(self, name: str, body: Obj) -> Obj:
        """The policy as the plugin stores it: with its own bookkeeping, and retries written out."""
        now = self._millis()
        states = [
            {
                **state,
                "actions": [
                    {"retry": {"count": 3, "backoff": "exponential", "delay": "1m"}, **action}
                    for action in state.get("actions") or ()
                ],
                "transitions": state.get("transitions") or [],
            }
            for state in body["states"]
        ]
        templates = body.get("ism_template")
        if isinstance(templates, dict):
            templates = [templates]
        return {
            "policy_id": name,
            "description": body.get("description", ""),
            "last_updated_time": now,
            "schema_version": 21,
            "error_notification": body.get("error_notification"),
            "default_state": body["default_state"],
            "states": states,
            "ism_template": [
                {
                    "index_patterns": item["index_patterns"],
                    "priority": item.get("priority", 0),
                    "last_updated_time": now,
                }
                for item in templates
            ]
            if templates
            else None,
        }

    def _check(self, name: str, body: Obj) -> None:
        unknown = sorted(set(body) - _KEYS)
        if unknown:
            raise illegal(f"Invalid field: [{unknown[0]}] found in Policy.")
        states = body.get("states")
        if not states:
            raise illegal("Policy must have at least one state")
        if "description" not in body:
            raise illegal("description is null")
        names = [state.get("name") for state in states]
        if body.get("default_state") not in names:
            raise illegal("Policy must have a valid default state")
        if len(set(names)) != len(names):
            raise illegal("Policy cannot have duplicate state names")
        for state in states:
            for action in state.get("actions") or ():
                for kind in set(action) - _SETTINGS:
                    if kind not in _ACTIONS:
                        raise illegal(f"Invalid field: [{kind}] found in Action.")
            for transition in state.get("transitions") or ():
                if transition.get("state_name") not in names:
                    raise illegal(
                        f"Policy contains a transition in state={state['name']} pointing to a nonexistent "
                        f"state={transition.get('state_name')}"
                    )
        self._check_overlap(name, body)

    def _check_overlap(self, name: str, body: Obj) -> None:
        templates = body.get("ism_template") or []
        for template in [templates] if isinstance(templates, dict) else templates:
            patterns, priority = template.get("index_patterns"), template.get("priority", 0)
            if not patterns:
                raise illegal("index_patterns is empty or null")
            for other, policy in self._policies.items():
                for existing in policy.body.get("ism_template") or ():
                    if (
                        other != name
                        and existing["priority"] == priority
                        and _overlap(patterns, existing["index_patterns"])
                    ):
                        raise illegal(
                            f"new policy {name} has an ism template with index pattern {patterns} matching "
                            f"existing policy templates, please use a different priority than {priority}"
                        )

    def _delete(self, name: str) -> Obj:
        policy = self._policy(name)
        del self._policies[name]
        self._seq_no += 1
        return {
            "_index": ".opendistro-ism-config",
            "_id": name,
            "_version": policy.version + 1,
            "result": "deleted",
            "forced_refresh": True,
            "_shards": {"total": 2, "successful": 2, "failed": 0},
            "_seq_no": self._seq_no,
            "_primary_term": 1,
        }

    def _assign(self, action: str, indices: list[str], body: Any) -> Obj:
        failed = []
        updated = 0
        wanted = (body or {}).get("policy_id", "") if action != "remove" else ""
        if wanted:
            self._policy(wanted)
        for index in indices:
            why = ""
            if action == "add" and index in self._attached:
                why = "This index already has a policy, use the update policy API to update index policies"
            elif action in ("remove", "change_policy") and index not in self._attached:
                why = (
                    "This index does not have a policy to remove"
                    if action == "remove"
                    else "This index is not being managed"
                )
            if why:
                failed.append({"index_name": index, "index_uuid": index, "reason": why})
                continue
            updated += 1
            if action == "remove":
                del self._attached[index]
            else:
                self._attached[index] = wanted
        return {"updated_indices": updated, "failures": bool(failed), "failed_indices": failed}

    def _explain(self, indices: list[str]) -> Obj:
        result: Obj = {}
        for index in indices:
            policy = self._attached.get(index)
            result[index] = {
                "index.plugins.index_state_management.policy_id": policy,
                "index.opendistro.index_state_management.policy_id": policy,
                "enabled": None if policy is None else True,
            }
            if policy is not None:
                result[index] |= {"index": index, "policy_id": policy}
        result["total_managed_indices"] = sum(1 for index in indices if index in self._attached)
        return result


def _overlap(left: list[str], right: list[str]) -> bool:
    return any(fnmatchcase(one, two) or fnmatchcase(two, one) for one in left for two in right)


def _conflict(reason: str) -> SearchError:
    return SearchError(409, "version_conflict_engine_exception", reason)
