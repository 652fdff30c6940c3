"""The stage `index` against a domain in memory that gives things back as OpenSearch does."""

from __future__ import annotations

import copy
import threading
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from cali_infra.adapters.opensearch import OpenSearch
from cali_infra.core.index import READER, WRITER, Index, IndexPlan, IndexWork
from cali_infra.core.secrets import OpenSearchSecrets, Secrets
from cali_infra.core.settings import Settings
from cali_infra.errors import OpenSearchError, RunInterruptedError
from cali_infra.plans import Action
from cali_infra.sandbox.certificates import Authority
from cali_infra.sandbox.opensearch.standin import OpenSearchStandIn

if TYPE_CHECKING:
    from conftest import Watch

Body = dict[str, Any]


@dataclass
class Domain:
    """What a domain keeps, with the keys of its own that it adds."""

    templates: dict[str, Body] = field(default_factory=dict)
    policies: dict[str, tuple[Body, int]] = field(default_factory=dict)
    roles: dict[str, Body] = field(default_factory=dict)
    mappings: dict[str, Body] = field(default_factory=dict)
    users: dict[str, tuple[Body, str]] = field(default_factory=dict)
    writes: list[str] = field(default_factory=list)
    connected: list[tuple[str, str]] = field(default_factory=list)
    stuck: dict[str, str] = field(default_factory=dict)

    def connect(self, user: str, password: SecretStr) -> Domain:
        self.connected.append((user, password.get_secret_value()))
        return self

    def accepts(self, user: str, password: SecretStr) -> bool:
        return self.users[user][1] == password.get_secret_value()

    def template(self, name: str) -> Body | None:
        found = self.templates.get(name)
        return {**copy.deepcopy(found), "composed_of": []} if found else None

    def put_template(self, name: str, body: Body) -> None:
        self.writes.append(f"template {name}")
        self.templates[name] = copy.deepcopy(body)

    def policy(self, name: str) -> tuple[Body, dict[str, int]] | None:
        if name not in self.policies:
            return None
        body, version = self.policies[name]
        found = copy.deepcopy(body) | {"policy_id": name, "schema_version": 21, "last_updated_time": 1}
        for state in found["states"]:
            for action in state["actions"]:
                action["retry"] = {"count": 3, "backoff": "exponential", "delay": "1m"}
        for template in found["ism_template"]:
            template["last_updated_time"] = 1
        return found, {"if_seq_no": version, "if_primary_term": 1}

    def put_policy(self, name: str, policy: Body, version: dict[str, int] | None = None) -> None:
        self.writes.append(f"policy {name}")
        there = self.policies[name][1] if name in self.policies else None
        assert (version or {}).get("if_seq_no") == there
        self.policies[name] = copy.deepcopy(policy), (there or 0) + 1

    def renew_policy(self, name: str, pattern: str) -> dict[str, str]:
        self.writes.append(f"policy {name} for {pattern}")
        return self.stuck

    def role(self, name: str) -> Body | None:
        found = copy.deepcopy(self.roles.get(name))
        if found is None:
            return None
        for one in found["index_permissions"]:
            one |= {"fls": [], "masked_fields": []}
        return found | {"reserved": False, "hidden": False, "static": False}

    def put_role(self, name: str, body: Body) -> None:
        self.writes.append(f"role {name}")
        self.roles[name] = copy.deepcopy(body)

    def role_mapping(self, role: str) -> Body | None:
        found = self.mappings.get(role)
        return {**found, "reserved": False, "hidden": False, "and_backend_roles": []} if found else None

    def put_role_mapping(self, role: str, body: Body) -> None:
        self.writes.append(f"mapping {role}")
        self.mappings[role] = body

    def user(self, name: str) -> Body | None:
        if name not in self.users:
            return None
        return {**self.users[name][0], "hash": "", "reserved": False, "opendistro_security_roles": []}

    def put_user(self, name: str, password: SecretStr, body: Body) -> None:
        self.writes.append(f"user {name}")
        self.users[name] = body, password.get_secret_value()


def work(domain: Any, *, writer: str = "Writer-password-1", **settings: Any) -> IndexWork:
    connect = domain.connect if isinstance(domain, Domain) else domain
    passwords = {
        "master_password": "Master-password-1",
        "writer_password": writer,
        "reader_password": "Reader-password-1",
    }
    secrets = Secrets.model_construct(opensearch=OpenSearchSecrets.model_validate(passwords))
    return IndexWork(connect, Settings.model_validate(settings), secrets)


def apply(stage: IndexWork, watch: Watch) -> IndexPlan:
    plan = stage.plan(watch)
    stage.apply(plan, watch, threading.Event())
    return plan


def wanted(**changes: Any) -> Index:
    password = SecretStr("x")
    values: dict[str, Any] = {"prefix": "cali-logs", "retention_days": 30, "data_nodes": 3}
    return Index(**{**values, "writer_password": password, "reader_password": password, **changes})


def test_a_new_domain_gets_all_of_it(watch: Watch) -> None:
    domain = Domain()
    stage = work(domain)
    assert not stage.exists()
    plan = stage.plan(watch)
    assert [f"{c.action.value} {c.address}" for c in plan.changes] == [
        "create index template cali-logs",
        "create retention policy cali-logs-retention",
        f"create role {WRITER}",
        f"create role {READER}",
        f"create user {WRITER}",
        f"create user {READER}",
        f"create role mapping {WRITER}",
        f"create role mapping {READER}",
    ]
    assert plan.only_creates
    assert domain.writes == []
    stage.apply(plan, watch, threading.Event())
    assert stage.exists()
    assert len(domain.writes) == 9, "eight, and the policy for indices that are there"
    assert domain.connected == [("cali-admin", "Master-password-1")]


def test_what_was_applied_is_unchanged_the_next_time(watch: Watch) -> None:
    stage = work(Domain())
    apply(stage, watch)
    assert stage.plan(watch).empty


def test_another_retention_is_shown_and_written(watch: Watch) -> None:
    domain = Domain()
    apply(work(domain), watch)
    domain.writes.clear()
    stage = work(domain, logging={"retention_days": 7})
    plan = apply(stage, watch)
    (change,) = plan.changes
    assert change.address == "retention policy cali-logs-retention"
    assert 'states[0].transitions[0].conditions.min_index_age: "30d" -> "7d"' in change.fields
    # Indices that are there already would keep the old policy.
    assert domain.writes == [
        "policy cali-logs-retention",
        "policy cali-logs-retention for cali-logs-*",
    ]
    assert stage.plan(watch).empty


def test_indices_that_keep_another_retention_are_named(watch: Watch) -> None:
    domain = Domain(stuck={f"cali-logs-2026.01.0{day}": "it has no policy" for day in range(1, 6)})
    apply(work(domain), watch)
    (warning,) = [line for line in watch.lines if "does not reach" in line]
    assert "cali-logs-2026.01.01 (it has no policy)" in warning
    assert "2026.01.04" not in warning and warning.endswith("and 2 more")


def test_a_changed_password_is_found_and_never_shown(watch: Watch) -> None:
    domain = Domain()
    apply(work(domain), watch)
    stage = work(domain, writer="Sentinel-password-2")
    plan = apply(stage, watch)
    (change,) = plan.changes
    assert (change.action, change.address, change.fields) == (
        Action.UPDATE,
        f"user {WRITER}",
        ("password: changed",),
    )
    assert domain.users[WRITER][1] == "Sentinel-password-2"
    assert "Sentinel" not in repr(plan) + "\n".join(watch.lines)
    assert stage.plan(watch).empty


def test_what_somebody_changed_by_hand_is_put_right(watch: Watch) -> None:
    domain = Domain()
    stage = work(domain)
    apply(stage, watch)
    domain.roles[READER]["index_permissions"][0]["index_patterns"] = ["*"]
    domain.mappings[WRITER] = {**domain.mappings[WRITER], "users": [WRITER, "somebody"]}
    domain.templates["cali-logs"]["template"]["mappings"]["properties"]["extra"] = {"type": "text"}
    plan = apply(stage, watch)
    assert {c.address: c.fields for c in plan.changes} == {
        "index template cali-logs": ('template.mappings.properties.extra: {"type": "text"} -> (none)',),
        f"role {READER}": ('index_permissions[0].index_patterns[0]: "*" -> "cali-logs-*"',),
        f"role mapping {WRITER}": (f'users: ["{WRITER}", "somebody"] -> ["{WRITER}"]',),
    }
    assert stage.plan(watch).empty


def test_an_interrupt_stops_between_two_calls(watch: Watch) -> None:
    domain, cancel = Domain(), threading.Event()
    stage = work(domain)
    plan = stage.plan(watch)
    cancel.set()
    with pytest.raises(RunInterruptedError):
        stage.apply(plan, watch, cancel)
    assert domain.writes == []


def test_it_goes_with_the_domain(watch: Watch) -> None:
    domain = Domain()
    stage = work(domain)
    apply(stage, watch)
    assert stage.contents() == ()
    assert stage.destroy(watch, threading.Event()) == ()
    assert domain.templates


def test_it_works_on_the_sandboxs_domain(watch: Watch, tmp_path: Path) -> None:
    authority = Authority.create()
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(authority.ca_pem)
    standin = OpenSearchStandIn(authority)
    try:
        endpoint = standin.create("cali-default", "cali-admin", "Master-password-1")
        connect = partial(OpenSearch, endpoint, ca_file=ca_file)
        apply(work(connect), watch)
        assert work(connect).plan(watch).empty
        changed = work(connect, writer="Writer-password-2", logging={"retention_days": 7})
        assert [c.address for c in apply(changed, watch).changes] == [
            "retention policy cali-logs-retention",
            f"user {WRITER}",
        ]
        assert changed.plan(watch).empty
        writer = connect(WRITER, SecretStr("Writer-password-2"))
        with pytest.raises(OpenSearchError, match="no permissions"):
            writer.template("cali-logs")
        with pytest.raises(OpenSearchError) as caught:
            connect("cali-admin", SecretStr("Wrong-password-1")).info()
        assert caught.value.status == 401
        assert connect(READER, SecretStr("Reader-password-1")).info()["version"]["number"].startswith("2.")
        # The old prefix's template and policy are there still, and its pattern takes in the new one's.
        longer = work(connect, writer="Writer-password-2", logging={"index_prefix": "cali-logs-prod"})
        apply(longer, watch)
        assert longer.plan(watch).empty
    finally:
        standin.close()


@pytest.mark.parametrize(
    ("nodes", "shards", "replicas"), [(1, "1", "0"), (2, "2", "1"), (3, "3", "1"), (9, "3", "1")]
)
def test_shards_and_replicas_follow_the_domains_size(nodes: int, shards: str, replicas: str) -> None:
    settings = wanted(data_nodes=nodes).template()["template"]["settings"]["index"]
    assert (settings["number_of_shards"], settings["number_of_replicas"]) == (shards, replicas)


def test_the_runtimes_time_is_a_date_and_the_applications_is_tolerated() -> None:
    template = wanted().template()
    assert template["index_patterns"] == ["cali-logs-*"]
    fields = template["template"]["mappings"]["properties"]
    assert fields["@timestamp"] == {"type": "date"}
    assert fields["source_timestamp"] == {"type": "object", "enabled": False}


def test_the_number_of_fields_is_bounded_and_types_do_not_fight() -> None:
    template = wanted().template()["template"]
    assert int(template["settings"]["index"]["mapping"]["total_fields"]["limit"]) <= 5000
    mappings = template["mappings"]
    assert mappings["date_detection"] is False
    by_type = {
        rule["match_mapping_type"]: rule["mapping"]
        for one in mappings["dynamic_templates"]
        for rule in one.values()
    }
    assert by_type["long"]["ignore_malformed"] is True
    assert by_type["boolean"]["type"] == "keyword"
    # The longest value still fits into a term, whatever its characters take.
    assert by_type["string"]["ignore_above"] * 4 <= 32766


def test_writer_and_reader_may_touch_these_indices_only() -> None:
    roles = wanted().roles()
    for role in roles.values():
        assert [p["index_patterns"] for p in role["index_permissions"]] == [["cali-logs-*"]]
        assert "*" not in role["cluster_permissions"]
    actions = roles[WRITER]["index_permissions"][0]["allowed_actions"]
    assert not any("read" in action or "delete" in action for action in actions)
    actions = roles[READER]["index_permissions"][0]["allowed_actions"]
    assert not any("write" in action or "create" in action or "delete" in action for action in actions)
