"""The stage `index`: what an OpenSearch domain has to know before the first record arrives.

An index template, a retention policy, and a writer and a reader who may touch the platform's own indices only.
All of it goes with the domain, so there is nothing to destroy. The calls themselves are
`adapters/opensearch.py`'s.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any, Protocol

from cali_infra.core.progress import Progress
from cali_infra.errors import RunInterruptedError
from cali_infra.plans import Action, ResourceChange, StagePlan

if TYPE_CHECKING:
    from pydantic import SecretStr

    from cali_infra.core.secrets import Secrets
    from cali_infra.core.settings import Settings

Body = dict[str, Any]

WRITER = "cali-writer"
READER = "cali-reader"
# Source: Lucene's longest term, 32,766 bytes, at four bytes a character.
_LONGEST_KEYWORD = 8191


class Domain(Protocol):
    """What this stage asks of a domain; `adapters.opensearch.OpenSearch` is one."""

    def accepts(self, user: str, password: SecretStr) -> bool: ...

    def template(self, name: str) -> Body | None: ...

    def put_template(self, name: str, body: Body) -> None: ...

    def policy(self, name: str) -> tuple[Body, dict[str, int]] | None: ...

    def put_policy(self, name: str, policy: Body, version: dict[str, int] | None = None) -> None: ...

    def renew_policy(self, name: str, pattern: str) -> Mapping[str, str]: ...

    def role(self, name: str) -> Body | None: ...

    def put_role(self, name: str, body: Body) -> None: ...

    def role_mapping(self, role: str) -> Body | None: ...

    def put_role_mapping(self, role: str, body: Body) -> None: ...

    def user(self, name: str) -> Body | None: ...

    def put_user(self, name: str, password: SecretStr, body: Body) -> None: ...


@dataclass(frozen=True)
class Index:
    """What is wanted: indices `PREFIX-*`, kept for `retention_days`, on a domain of `data_nodes` nodes."""

    prefix: str
    retention_days: int
    data_nodes: int
    writer_password: SecretStr
    reader_password: SecretStr

    @classmethod
    def of(cls, settings: Settings, secrets: Secrets) -> Index:
        """What these settings and passwords want."""
        return cls(
            prefix=settings.logging.index_prefix,
            retention_days=settings.logging.retention_days,
            data_nodes=settings.search.instance_count,
            writer_password=secrets.opensearch.writer_password,
            reader_password=secrets.opensearch.reader_password,
        )

    @property
    def pattern(self) -> str:
        return f"{self.prefix}-*"

    @property
    def policy_name(self) -> str:
        """The name of the retention policy; the template has the prefix's."""
        return f"{self.prefix}-retention"

    @property
    def priority(self) -> int:
        """Of template and policy: of two prefixes that overlap, `logs` and `logs-prod`, the longer one wins.

        The domain refuses overlapping patterns of the same priority, and what an earlier prefix left stays
        there for as long as its indices do.
        """
        return 100 + len(self.prefix)

    def template(self) -> Body:
        """The index template, in the form in which the domain gives it back."""
        return {
            "index_patterns": [self.pattern],
            "priority": self.priority,
            "template": {"settings": {"index": self._settings()}, "mappings": _mappings()},
            "_meta": {"managed-by": "cali"},
        }

    def policy(self) -> Body:
        """The index state policy: an index is written for a day and deleted when it is old enough."""
        return {
            "description": f"cali: delete {self.pattern} after {self.retention_days} days",
            "default_state": "kept",
            "states": [
                {
                    "name": "kept",
                    "actions": [],
                    "transitions": [
                        {
                            "state_name": "deleted",
                            "conditions": {"min_index_age": f"{self.retention_days}d"},
                        }
                    ],
                },
                {"name": "deleted", "actions": [{"delete": {}}], "transitions": []},
            ],
            "ism_template": [{"index_patterns": [self.pattern], "priority": self.priority}],
        }

    def roles(self) -> Mapping[str, Body]:
        """The roles by name; each is mapped to the user of the same name."""
        return {
            WRITER: _role(
                self.pattern,
                # `_bulk` is a call on the cluster, its items are calls on their index.
                cluster=["indices:data/write/bulk"],
                index=["create_index", "indices:data/write/bulk*", "indices:data/write/index"],
            ),
            READER: _role(
                self.pattern,
                # What Grafana's data source calls: the version, `_msearch`, mappings, and the number of shards,
                # by which it chooses the interval of its histograms.
                cluster=["cluster:monitor/main", "cluster_composite_ops_ro"],
                index=[
                    "read",
                    "indices:admin/mappings/get",
                    "indices:admin/get",
                    "indices:monitor/settings/get",
                ],
            ),
        }

    def passwords(self) -> Mapping[str, SecretStr]:
        """The users' passwords by their names."""
        return {WRITER: self.writer_password, READER: self.reader_password}

    def _settings(self) -> Body:
        # The domain gives settings back as text.
        return {
            "number_of_shards": str(min(self.data_nodes, 3)),
            "number_of_replicas": "1" if self.data_nodes > 1 else "0",
            "refresh_interval": "10s",
            "mapping": {"total_fields": {"limit": "2000"}},
        }


# Writes one change; what it returns, if anything, is a warning.
Call = Callable[[], str | None]


@dataclass(frozen=True)
class IndexPlan(StagePlan):
    """A plan with the calls that apply it, one for each change and in the same order."""

    calls: tuple[Call, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class _Step:
    change: ResourceChange
    call: Call


class IndexWork:
    """The work of the stage `index`; satisfies `cluster_stages.Work`.

    `connect` opens the domain as a user with a password.
    """

    def __init__(
        self, connect: Callable[[str, SecretStr], Domain], settings: Settings, secrets: Secrets
    ) -> None:
        self._stage = "index"
        self._domain = connect(settings.search.master_username, secrets.opensearch.master_password)
        self._wanted = Index.of(settings, secrets)

    def exists(self) -> bool:
        return self._domain.template(self._wanted.prefix) is not None

    def plan(self, watch: Progress) -> IndexPlan:
        """Compare what is wanted with what the domain has; nothing is written.

        Raises OpenSearchError.
        """
        steps = [step for step in self._steps() if step is not None]
        return IndexPlan(
            self._stage, tuple(step.change for step in steps), calls=tuple(step.call for step in steps)
        )

    def apply(self, plan: StagePlan, watch: Progress, cancel: Event) -> None:
        """Write what differs, one call after the other: a role stands before the user who has it.

        Raises OpenSearchError, and RunInterruptedError between two calls after `cancel`.
        """
        assert isinstance(plan, IndexPlan)
        for change, call in zip(plan.changes, plan.calls, strict=True):
            if cancel.is_set():
                raise RunInterruptedError("interrupted; run `cali up index` to go on")
            watch.resource(self._stage, change.address, change.action.value, "started", 0.0)
            warning = call()
            if warning:
                watch.warn(warning, stage=self._stage)
            watch.resource(self._stage, change.address, change.action.value, "complete", 0.0)

    def contents(self) -> tuple[ResourceChange, ...]:
        """Nothing: it goes with the domain."""
        return ()

    def destroy(self, watch: Progress, cancel: Event) -> tuple[ResourceChange, ...]:
        return ()

    # -- what differs -----------------------------------------------------------------------------------

    def _steps(self) -> Iterator[_Step | None]:
        domain, name = self._domain, self._wanted.prefix
        template = self._wanted.template()
        yield _step(
            f"index template {name}",
            domain.template(name),
            template,
            lambda: domain.put_template(name, template),
        )
        yield self._policy_step()
        for role, body in self._wanted.roles().items():
            yield _step(f"role {role}", domain.role(role), body, _bind(domain.put_role, role, body))
        for user, password in self._wanted.passwords().items():
            yield self._user_step(user, password)
        for role in self._wanted.roles():
            mapping: Body = {"users": [role], "backend_roles": [], "hosts": []}
            yield _step(
                f"role mapping {role}",
                domain.role_mapping(role),
                mapping,
                _bind(domain.put_role_mapping, role, mapping),
            )

    def _policy_step(self) -> _Step | None:
        domain, name, wanted = self._domain, self._wanted.policy_name, self._wanted.policy()
        found = domain.policy(name)
        policy, version = found if found else (None, None)

        def put() -> str | None:
            domain.put_policy(name, wanted, version)
            kept = domain.renew_policy(name, self._wanted.pattern)
            return _not_renewed(name, kept) if kept else None

        return _step(f"retention policy {name}", policy, wanted, put)

    def _user_step(self, user: str, password: SecretStr) -> _Step | None:
        domain = self._domain
        body: Body = {"backend_roles": [], "attributes": {"managed-by": "cali"}}
        found = domain.user(user)
        step = _step(f"user {user}", found, body, lambda: domain.put_user(user, password, body))
        # A password cannot be read back: whether it is still this one shows when it is used.
        if found is None or domain.accepts(user, password):
            return step
        fields = (*(step.change.fields if step else ()), "password: changed")
        return _Step(
            ResourceChange(f"user {user}", Action.UPDATE, fields),
            lambda: domain.put_user(user, password, body),
        )


def _bind(put: Callable[[str, Body], None], name: str, body: Body) -> Call:
    return lambda: put(name, body)


def _step(address: str, found: Body | None, wanted: Body, call: Call) -> _Step | None:
    if found is None:
        return _Step(ResourceChange(address, Action.CREATE), call)
    fields = tuple(differences(found, wanted))
    return _Step(ResourceChange(address, Action.UPDATE, fields), call) if fields else None


def differences(found: Any, wanted: Any, path: str = "") -> Iterator[str]:
    """What `wanted` says otherwise than `found`; what only the domain says is its own business.

    A whole `template` is ours, so that there a key too many counts as well.
    """
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        whole = path.startswith(("template.", "template"))
        for key in sorted({*wanted, *(found if whole else ())}):
            yield from differences(found.get(key), wanted.get(key), f"{path}.{key}" if path else key)
    elif isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        for position, (old, new) in enumerate(zip(found, wanted, strict=True)):
            yield from differences(old, new, f"{path}[{position}]")
    elif found != wanted:
        yield f"{path}: {_brief(found)} -> {_brief(wanted)}"


def _not_renewed(policy: str, kept: Mapping[str, str]) -> str:
    """The next plan sees the policy itself, which is right by then: this is the one time to say it."""
    shown = ", ".join(f"{index} ({reason})" for index, reason in sorted(kept.items())[:3])
    more = f" and {len(kept) - 3} more" if len(kept) > 3 else ""
    return f"{policy} does not reach these indices, which are not deleted when it says: {shown}{more}"


def _brief(value: Any) -> str:
    text = "(none)" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _role(pattern: str, *, cluster: list[str], index: list[str]) -> Body:
    return {
        "cluster_permissions": cluster,
        "index_permissions": [{"index_patterns": [pattern], "allowed_actions": index}],
        "tenant_permissions": [],
    }


def _mappings() -> Body:
    """The mapping of a record: types that take whatever comes, and a bounded number of fields.

    One application's number is another one's text, and a record that does not fit is refused: an application's
    numbers are therefore skipped by the index, not refused, where they are none, and what else it writes is a
    keyword or text. The record itself is always kept whole.
    """
    keyword = {"type": "keyword", "ignore_above": _LONGEST_KEYWORD}
    number = {"type": "double", "ignore_malformed": True}
    return {
        "date_detection": False,
        "numeric_detection": False,
        "dynamic_templates": [
            {
                "messages": {
                    "path_match": "app.*message",
                    "match_mapping_type": "string",
                    "mapping": {"type": "text"},
                }
            },
            {"strings": {"match_mapping_type": "string", "mapping": keyword}},
            {"integers": {"match_mapping_type": "long", "mapping": number}},
            {"decimals": {"match_mapping_type": "double", "mapping": number}},
            {"truths": {"match_mapping_type": "boolean", "mapping": keyword}},
        ],
        "properties": {
            "@timestamp": {"type": "date"},
            # The application's own, in whatever form it likes: kept and not looked into. A date refuses an
            # object, also with ignore_malformed.
            "source_timestamp": {"type": "object", "enabled": False},
            # The container runtime's, to the nanosecond.
            "time": {"type": "date_nanos", "ignore_malformed": True},
            "cluster": {"type": "keyword"},
            "stream": {"type": "keyword"},
            "log": {"type": "text"},
        },
    }
