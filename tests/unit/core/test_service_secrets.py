"""The services' namespaces and Secrets: what each chart finds in them, and what happens in the cluster."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from cali_infra.adapters.kubernetes import Kubernetes, ObjectRef
from cali_infra.core.manifests import ManifestPlan, ManifestWork
from cali_infra.core.secrets import Secrets
from cali_infra.core.service_secrets import SECRETS, SERVICES, STAGE, objects, revisions
from cali_infra.core.settings import Settings

if TYPE_CHECKING:
    from conftest import Cluster, Watch

ENDPOINT = "search-demo.example.com"
FERNET = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
SSH_URL = "git@example.com:acme/dags.git"
SSH_KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nU2VudGluZWw\n-----END OPENSSH PRIVATE KEY-----"
GITSYNC = {"url": SSH_URL, "ssh_key": SSH_KEY, "known_hosts": "example.com ssh-ed25519 AAAAC3Nz"}
INVENTORY = f"ConfigMap kube-system/cali-inventory-{STAGE}"
# What the pinned charts look for, by their values: names of Secrets are ours, names of keys are theirs.
EXPECTED = {
    "airflow/airflow-keys": {"fernet-key", "api-secret-key", "jwt-secret"},
    "airflow/airflow-database": {"password", "postgres-password"},
    "airflow/airflow-database-connection": {"connection"},
    "airflow/airflow-admin": {"password"},
    "airflow/airflow-connections": {"AIRFLOW_CONN_OPENSEARCH_DEFAULT", "AIRFLOW_CONN_MILVUS_DEFAULT"},
    "airflow/airflow-git-ssh": {"gitSshKey"},
    "milvus/milvus-object-store": {"accesskey", "secretkey"},
    "milvus/milvus-root": {"password"},
    "grafana/grafana-admin": {"admin-user", "admin-password"},
    "grafana/grafana-opensearch": {"OPENSEARCH_READER_PASSWORD"},
}


def secret_values(**changes: dict[str, Any]) -> Secrets:
    """Each password tells which one it is; `changes` are merged into their sections."""
    document: dict[str, dict[str, Any]] = {
        "opensearch": {f"{user}_password": f"Sentinel-{user}-1" for user in ("master", "writer", "reader")},
        "grafana": {"admin_password": "Sentinel-grafana"},
        "airflow": {
            "fernet_key": FERNET,
            "api_secret_key": "Sentinel-api-secret-key",
            "jwt_secret": "Sentinel-jwt-secret",
            "admin_password": "Sentinel-airflow",
            "database_password": "Sentinel-database",
        },
        "milvus": {
            "root_password": "Sentinel-root",
            "minio_access_key": "Sentinel-access",
            "minio_secret_key": "Sentinel-secret",
        },
        "gitsync": {},
    }
    for section, keys in changes.items():
        document[section] = {**document[section], **keys}
    return Secrets(**document)


def settings_of(**services: bool) -> Settings:
    return Settings.model_validate({"services": services})


def made(
    secrets: Secrets | None = None, endpoint: str = ENDPOINT, **services: bool
) -> dict[str, dict[str, str]]:
    """The Secrets as NAMESPACE/NAME, with their values in clear."""
    found = objects(settings_of(**services), secrets or secret_values(), endpoint)
    assert all("stringData" not in obj for obj in found)
    return {
        f"{obj['metadata']['namespace']}/{obj['metadata']['name']}": {
            key: base64.b64decode(value).decode() for key, value in obj["data"].items()
        }
        for obj in found
        if obj["kind"] == "Secret"
    }


# -- what the charts find -----------------------------------------------------------------------------------


def test_every_secret_has_the_keys_that_its_chart_looks_for() -> None:
    found = made(secret_values(gitsync=GITSYNC))
    assert {name: set(data) for name, data in found.items()} == EXPECTED


def test_the_table_says_what_is_made() -> None:
    listed = {f"{one.service}/{one.name}": {key.name for key in one.keys} for one in SECRETS}
    token = {"airflow/airflow-git-credentials": listed["airflow/airflow-git-credentials"]}
    # Only with a database elsewhere, over TLS.
    listed["airflow/airflow-connections"] -= {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC"}
    assert listed == {**EXPECTED, **token}
    assert all(one.values and one.service in SERVICES for one in SECRETS)
    # Every password of the services has its place, and the master's and the writer's have none here.
    held = {key.setting for one in SECRETS for key in one.keys} - {""}
    fields = {f"{section}.{key}" for section in ("airflow", "milvus", "grafana") for key in keys_of(section)}
    assert held == fields | {
        *("opensearch.reader_password", "gitsync.ssh_key", "gitsync.username", "gitsync.token")
    }


def keys_of(section: str) -> set[str]:
    return set(type(getattr(secret_values(), section)).model_fields)


def test_variables_have_the_names_that_the_programs_read() -> None:
    named = {key.env: f"{one.name}/{key.name}" for one in SECRETS for key in one.keys if key.env}
    assert named == {
        "MINIO_ACCESS_KEY_ID": "milvus-object-store/accesskey",
        "MINIO_SECRET_ACCESS_KEY": "milvus-object-store/secretkey",
        "COMMON_SECURITY_DEFAULTROOTPASSWORD": "milvus-root/password",
        "AIRFLOW_ADMIN_PASSWORD": "airflow-admin/password",
    }
    # Milvus takes a variable for the setting that has the same letters.
    for variable, setting in (
        ("MINIO_ACCESS_KEY_ID", "minio.accessKeyID"),
        ("MINIO_SECRET_ACCESS_KEY", "minio.secretAccessKey"),
        ("COMMON_SECURITY_DEFAULTROOTPASSWORD", "common.security.defaultRootPassword"),
    ):
        assert variable.replace("_", "").lower() == setting.replace(".", "").lower()


def test_each_value_is_the_setting_of_its_name() -> None:
    found = made()
    assert found["airflow/airflow-keys"] == {
        "fernet-key": FERNET,
        "api-secret-key": "Sentinel-api-secret-key",
        "jwt-secret": "Sentinel-jwt-secret",
    }
    assert set(found["airflow/airflow-database"].values()) == {"Sentinel-database"}
    assert found["airflow/airflow-admin"] == {"password": "Sentinel-airflow"}
    assert found["milvus/milvus-object-store"] == {
        "accesskey": "Sentinel-access",
        "secretkey": "Sentinel-secret",
    }
    assert found["milvus/milvus-root"] == {"password": "Sentinel-root"}
    assert found["grafana/grafana-admin"] == {"admin-user": "admin", "admin-password": "Sentinel-grafana"}
    assert found["grafana/grafana-opensearch"] == {"OPENSEARCH_READER_PASSWORD": "Sentinel-reader-1"}


def test_a_fernet_key_that_is_being_changed_arrives_with_the_old_one() -> None:
    secrets = secret_values(airflow={"fernet_key": f"{FERNET},{FERNET}"})
    assert made(secrets)["airflow/airflow-keys"]["fernet-key"] == f"{FERNET},{FERNET}"


def test_nobody_but_the_reader_of_the_domain_is_known_here() -> None:
    text = json.dumps(made(secret_values(gitsync=GITSYNC)))
    assert "Sentinel-master" not in text
    assert "Sentinel-writer" not in text


AWKWARD = st.text(
    st.characters(exclude_categories=("Cc", "Cs")) | st.sampled_from("@:/?#%&+=$'\"\\ {}[]`"), min_size=8
)


@given(AWKWARD)
@settings(max_examples=200, deadline=None)
def test_an_awkward_password_stands_in_a_url_as_it_is(password: str) -> None:
    secrets = secret_values(airflow={"database_password": password})
    found = made(secrets)
    parts = urlsplit(found["airflow/airflow-database-connection"]["connection"])
    assert (parts.scheme, parts.username, parts.hostname, parts.port, parts.path, parts.query) == (
        *("postgresql", "airflow", "airflow-postgresql.airflow", 5432),
        *("/airflow", ""),
    )
    assert unquote(parts.password or "") == password
    # Airflow expands what looks like a variable, wherever it stands.
    assert "$" not in found["airflow/airflow-database-connection"]["connection"]
    assert found["airflow/airflow-database"]["password"] == password


@given(AWKWARD.filter(lambda text: len(text.encode()) <= 72))
@settings(max_examples=100, deadline=None)
def test_an_awkward_password_reaches_a_connection_as_it_is(password: str) -> None:
    found = made(secret_values(milvus={"root_password": password}))["airflow/airflow-connections"]
    assert json.loads(found["AIRFLOW_CONN_MILVUS_DEFAULT"]) == {
        "conn_type": "generic",
        "host": "milvus.milvus",
        "port": 19530,
        "login": "root",
        "password": password,
        "extra": {"uri": "http://milvus.milvus:19530"},
    }


@pytest.mark.parametrize(("endpoint", "port"), [(ENDPOINT, 443), (f"{ENDPOINT}:9200", 9200)])
def test_dags_read_the_logs_as_the_reader(endpoint: str, port: int) -> None:
    found = made(endpoint=endpoint)["airflow/airflow-connections"]["AIRFLOW_CONN_OPENSEARCH_DEFAULT"]
    assert json.loads(found) == {
        "conn_type": "opensearch",
        "host": ENDPOINT,
        "port": port,
        "login": "cali-reader",
        "password": "Sentinel-reader-1",
        "extra": {"use_ssl": True, "verify_certs": True},
    }


# -- switches -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", SERVICES)
def test_only_what_is_on_has_anything(service: str) -> None:
    switches = {name: name == service for name in SERVICES}
    found = objects(settings_of(**switches), secret_values(gitsync=GITSYNC), ENDPOINT)
    (namespace,) = [obj for obj in found if obj["kind"] == "Namespace"]
    assert namespace["metadata"]["name"] == service
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "baseline"
    assert {obj["metadata"].get("namespace", service) for obj in found} == {service}
    assert len(found) == 1 + sum(name.startswith(f"{service}/") for name in EXPECTED)


def test_dags_know_of_milvus_only_where_it_is_on() -> None:
    assert set(made(milvus=False)["airflow/airflow-connections"]) == {"AIRFLOW_CONN_OPENSEARCH_DEFAULT"}


def test_without_a_service_there_is_nothing() -> None:
    assert objects(settings_of(airflow=False, milvus=False, grafana=False), secret_values(), ENDPOINT) == []


@pytest.mark.parametrize(
    ("gitsync", "names"),
    [
        ({}, set()),
        # A key without a URL is no reason to put it into a cluster.
        ({"ssh_key": SSH_KEY, "token": "Sentinel-token"}, set()),
        (GITSYNC, {"airflow-git-ssh"}),
        ({**GITSYNC, "token": "Sentinel-token"}, {"airflow-git-ssh"}),
        ({"url": "https://example.com/acme/dags"}, set()),
        ({**GITSYNC, "url": "https://example.com/acme/dags"}, set()),
        (
            {"url": "https://example.com/acme/dags", "token": "Sentinel-token"},
            {"airflow-git-credentials"},
        ),
    ],
)
def test_git_gets_what_its_url_takes(gitsync: dict[str, Any], names: set[str]) -> None:
    found = {name.partition("/")[2] for name in made(secret_values(gitsync=gitsync))}
    assert {name for name in found if "-git-" in name} == names


def test_a_token_is_known_by_the_names_of_both_versions_of_git_sync() -> None:
    gitsync = {"url": "https://example.com/acme/dags", "token": "Sentinel-token", "username": "oauth2"}
    assert made(secret_values(gitsync=gitsync))["airflow/airflow-git-credentials"] == {
        "GIT_SYNC_USERNAME": "oauth2",
        "GITSYNC_USERNAME": "oauth2",
        "GIT_SYNC_PASSWORD": "Sentinel-token",
        "GITSYNC_PASSWORD": "Sentinel-token",
    }


@pytest.mark.parametrize("key", [SSH_KEY, f"{SSH_KEY}\n", f"\n{SSH_KEY}\n\n", SSH_KEY.replace("\n", "\r\n")])
def test_an_ssh_key_ends_in_one_line_break(key: str) -> None:
    secrets = secret_values(gitsync={**GITSYNC, "ssh_key": key})
    assert made(secrets)["airflow/airflow-git-ssh"] == {"gitSshKey": f"{SSH_KEY}\n"}


# -- in the cluster -----------------------------------------------------------------------------------------


def work(kubernetes: Kubernetes, secrets: Secrets | None = None, **services: bool) -> ManifestWork:
    """As the platform makes it."""
    chosen, values = settings_of(**services), secrets or secret_values()
    return ManifestWork(STAGE, kubernetes, lambda: objects(chosen, values, ENDPOINT), keep=("Namespace",))


def apply(stage: ManifestWork, watch: Watch) -> ManifestPlan:
    plan = stage.plan(watch)
    stage.apply(plan, watch, threading.Event())
    return plan


def said(plan: ManifestPlan) -> list[str]:
    return [f"{change.action.value} {change.address}" for change in plan.changes]


def test_a_first_apply_makes_everything_and_a_second_one_nothing(cluster: Cluster, watch: Watch) -> None:
    stage = work(cluster.connect(), secret_values(gitsync=GITSYNC))
    plan = apply(stage, watch)
    assert said(plan)[:3] == [f"create Namespace {name}" for name in SERVICES]
    assert set(said(plan)[3:]) == {
        *(f"create Secret {name}" for name in EXPECTED),
        f"create {INVENTORY}",
    }
    there = cluster.objects("secrets")
    assert {name: set(there[name]["data"]) for name in EXPECTED} == EXPECTED
    assert stage.exists()
    assert stage.plan(watch).empty


def test_a_new_password_changes_its_secret_and_no_other(cluster: Cluster, watch: Watch) -> None:
    kubernetes = cluster.connect()
    apply(work(kubernetes), watch)
    before = {name: obj["metadata"]["resourceVersion"] for name, obj in cluster.objects("secrets").items()}
    changed = work(kubernetes, secret_values(grafana={"admin_password": "Another-secret"}))
    plan = apply(changed, watch)
    assert said(plan) == ["update Secret grafana/grafana-admin"]
    assert plan.changes[0].fields == ("data.admin-password: changed",)
    after = {name: obj["metadata"]["resourceVersion"] for name, obj in cluster.objects("secrets").items()}
    assert {name for name in after if after[name] != before[name]} == {"grafana/grafana-admin"}
    assert changed.plan(watch).empty


def test_a_new_password_of_the_database_changes_it_wherever_it_stands(cluster: Cluster, watch: Watch) -> None:
    kubernetes = cluster.connect()
    apply(work(kubernetes), watch)
    plan = work(kubernetes, secret_values(airflow={"database_password": "Another-secret"})).plan(watch)
    assert {change.address: change.fields for change in plan.changes} == {
        "Secret airflow/airflow-database": ("data.password: changed", "data.postgres-password: changed"),
        "Secret airflow/airflow-database-connection": ("data.connection: changed",),
    }


def test_no_value_is_seen_in_a_plan_a_line_or_the_record(cluster: Cluster, watch: Watch) -> None:
    kubernetes = cluster.connect()
    first = secret_values(gitsync=GITSYNC)
    sections = first.model_dump()
    second = secret_values(
        **{
            section: {
                key: f"{value.get_secret_value()}-2Aa"
                for key, value in sections[section].items()
                if value and key not in ("fernet_key", "ssh_key")
            }
            for section in ("opensearch", "grafana", "airflow", "milvus")
        }
    )
    shown = ""
    plans = [apply(work(kubernetes, first), watch), apply(work(kubernetes, second), watch)]
    # Without GitSync its key goes, and every other Secret changes.
    assert "delete Secret airflow/airflow-git-ssh" in said(plans[1])
    assert sum(line.startswith("update Secret") for line in said(plans[1])) == len(EXPECTED) - 1
    plans.append(apply(work(kubernetes, second, grafana=False), watch))
    for plan in plans:
        shown += repr(plan) + str(plan.changes) + str(plan.warnings)
    shown += "\n".join(watch.lines) + json.dumps(cluster.objects("configmaps"))
    values = {
        text for secrets in (first, second) for data in made(secrets).values() for text in data.values()
    }
    for value in values - {"admin"}:
        assert value not in shown
        assert base64.b64encode(value.encode()).decode() not in shown
    assert "Sentinel" not in shown


def test_what_a_switched_off_service_leaves(cluster: Cluster, watch: Watch) -> None:
    kubernetes = cluster.connect()
    apply(work(kubernetes), watch)
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": "milvus"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    kubernetes.create(volume)
    off = work(kubernetes, milvus=False)
    plan = apply(off, watch)
    assert set(said(plan)) == {
        "update Secret airflow/airflow-connections",
        "delete Secret milvus/milvus-object-store",
        "delete Secret milvus/milvus-root",
        f"update {INVENTORY}",
    }
    (warning,) = plan.warnings
    assert warning.startswith("Namespace milvus stays, with its volumes")
    assert "milvus" in cluster.objects("namespaces")
    assert "milvus/data" in cluster.objects("persistentvolumeclaims")
    assert not [name for name in cluster.objects("secrets") if name.startswith("milvus/")]

    # It is said once, and the next run has nothing to do.
    again = off.plan(watch)
    assert again.empty
    assert again.warnings == ()


def test_a_service_that_comes_back_finds_its_namespace(cluster: Cluster, watch: Watch) -> None:
    kubernetes = cluster.connect()
    apply(work(kubernetes), watch)
    uid = cluster.objects("namespaces")["milvus"]["metadata"]["uid"]
    apply(work(kubernetes, milvus=False), watch)
    on = work(kubernetes)
    plan = apply(on, watch)
    assert "create Secret milvus/milvus-root" in said(plan)
    assert not [line for line in said(plan) if "Namespace" in line]
    assert cluster.objects("namespaces")["milvus"]["metadata"]["uid"] == uid
    assert on.plan(watch).empty
    assert "Namespace milvus" in [change.address for change in on.contents()]


def test_down_deletes_what_a_switched_off_service_left(cluster: Cluster, watch: Watch) -> None:
    kubernetes = cluster.connect()
    apply(work(kubernetes), watch)
    off = work(kubernetes, milvus=False, grafana=False)
    apply(off, watch)
    shown = [change.address for change in off.contents()]
    assert shown[-4:] == [*(f"Namespace {name}" for name in sorted(SERVICES)), INVENTORY]
    gone = [change.address for change in off.destroy(watch, threading.Event())]
    assert gone == shown
    assert not set(SERVICES) & set(cluster.objects("namespaces"))
    assert not off.exists()


def test_a_namespace_that_was_there_before_outlives_everything(cluster: Cluster, watch: Watch) -> None:
    kubernetes = cluster.connect()
    kubernetes.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "grafana"}})
    apply(work(kubernetes), watch)
    plan = apply(work(kubernetes, grafana=False), watch)
    assert plan.warnings == (
        "Namespace grafana has no place in the stage any more and stays: cali did not make it",
    )
    work(kubernetes, grafana=False).destroy(watch, threading.Event())
    assert "grafana" in cluster.objects("namespaces")
    assert "grafana/grafana-admin" not in cluster.objects("secrets")


def test_a_kept_namespace_that_somebody_deleted_is_forgotten(cluster: Cluster, watch: Watch) -> None:
    kubernetes = cluster.connect()
    apply(work(kubernetes), watch)
    off = work(kubernetes, milvus=False)
    apply(off, watch)
    kubernetes.delete(ObjectRef("v1", "Namespace", None, "milvus"), wait=30.0)
    plan = apply(off, watch)
    assert said(plan) == [f"update {INVENTORY}"]
    assert "Namespace milvus" not in [change.address for change in off.contents()]
    assert off.plan(watch).empty


def test_without_a_service_the_stage_is_an_empty_record(cluster: Cluster, watch: Watch) -> None:
    """The record is what says, to `up services` and to `status`, that the stage was applied."""
    none = work(cluster.connect(), airflow=False, milvus=False, grafana=False)
    assert not none.exists()
    plan = apply(none, watch)
    assert said(plan) == [f"create {INVENTORY}"]
    assert none.exists()
    assert none.plan(watch).empty
    assert not set(SERVICES) & set(cluster.objects("namespaces"))
    assert [change.address for change in none.destroy(watch, threading.Event())] == [INVENTORY]


def test_an_edit_by_hand_is_shown_without_its_value_and_put_right(cluster: Cluster, watch: Watch) -> None:
    kubernetes = cluster.connect()
    stage = work(kubernetes)
    apply(stage, watch)
    theirs = base64.b64encode(b"Edited-by-hand").decode()
    ref = ObjectRef("v1", "Secret", "grafana", "grafana-admin")
    kubernetes.patch(ref, {"data": {"admin-password": theirs}})
    plan = apply(stage, watch)
    assert said(plan) == ["update Secret grafana/grafana-admin"]
    assert theirs not in repr(plan) + str(plan.changes) + str(plan.warnings)
    live = cluster.objects("secrets")["grafana/grafana-admin"]["data"]["admin-password"]
    assert base64.b64decode(live) == b"Sentinel-grafana"


# -- a database elsewhere -----------------------------------------------------------------------------------

ELSEWHERE = "postgresql://air:p%24w%2Fd@db.example.com:5433/metadata"


@pytest.mark.parametrize(
    ("url", "asynchronous"),
    [
        (ELSEWHERE, None),
        (
            f"{ELSEWHERE}?sslmode=require",
            "postgresql+asyncpg://air:p%24w%2Fd@db.example.com:5433/metadata?ssl=require",
        ),
    ],
)
def test_a_database_elsewhere_is_opened_by_its_url_by_both_drivers(
    url: str, asynchronous: str | None
) -> None:
    found = made(secret_values(airflow={"database_url": url}))
    assert "airflow/airflow-database" not in found
    assert found["airflow/airflow-database-connection"] == {"connection": url}
    # Airflow makes it out of the other one where the parameter need not be translated.
    connections = found["airflow/airflow-connections"]
    assert connections.get("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC") == asynchronous


def test_a_milvus_in_s3_has_no_keys_of_a_store() -> None:
    cluster = Settings.model_validate({"milvus": {"mode": "cluster", "bucket": "acme-milvus"}})
    names = {obj["metadata"]["name"] for obj in objects(cluster, secret_values(), ENDPOINT)}
    assert "milvus-object-store" not in names
    assert "milvus-root" in names


# -- who notices a new password -----------------------------------------------------------------------------

KEY = "a key that is in no cluster"


def changed(**changes: dict[str, Any]) -> set[str]:
    """The Secrets whose revision is another one after these changes."""
    before, after = (
        revisions(Settings(), secret_values(gitsync=GITSYNC, **one).model_copy(update=KEYED), ENDPOINT)
        for one in ({}, changes)
    )
    assert set(before) == set(after) == {name.split("/")[1] for name in EXPECTED}
    return {name for name in before if before[name] != after[name]}


KEYED = {"hash_key": SecretStr(KEY)}


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"grafana": {"admin_password": "Another-one"}}, {"grafana-admin"}),
        ({"milvus": {"root_password": "Another-one"}}, {"milvus-root", "airflow-connections"}),
        ({"milvus": {"minio_secret_key": "Another-one"}}, {"milvus-object-store"}),
        ({"opensearch": {"reader_password": "Another-one-1"}}, {"grafana-opensearch", "airflow-connections"}),
        ({"airflow": {"jwt_secret": "Another-one-of-theirs"}}, {"airflow-keys"}),
        (
            {"airflow": {"database_password": "Another-one"}},
            {"airflow-database", "airflow-database-connection"},
        ),
        # Nobody here uses them.
        ({"opensearch": {"master_password": "Another-one-1", "writer_password": "Another-one-1"}}, set()),
    ],
)
def test_a_new_password_is_noticed_by_who_uses_it_and_by_nobody_else(
    changes: dict[str, dict[str, Any]], names: set[str]
) -> None:
    assert changed(**changes) == names


def test_a_revision_says_nothing_without_the_key() -> None:
    one, other = (
        revisions(
            Settings(), secret_values().model_copy(update={"hash_key": key and SecretStr(key)}), ENDPOINT
        )
        for key in (KEY, "another key of sixteen")
    )
    assert set(one) == set(other)
    assert not set(one.values()) & set(other.values())
    assert all(len(value) == 16 and set(value) <= set("0123456789abcdef") for value in one.values())
    plain = base64.b64encode(b"Sentinel-grafana").decode()
    digests = {hashlib.sha256(text.encode()).hexdigest()[:16] for text in ("Sentinel-grafana", plain)}
    assert not digests & set(one.values())


def test_a_file_from_before_the_key_has_the_master_s() -> None:
    secrets = secret_values()
    assert secrets.hash_key is None
    assert secrets.hashing_key == secrets.opensearch.master_password
