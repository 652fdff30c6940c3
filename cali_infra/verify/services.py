"""The applications themselves, asked through their own doors: Grafana and its data source, Airflow's parts, and
what GitSync has brought. They are of the family end to end; that their pods are ready is `releases.py`'s.
"""

from __future__ import annotations

import re
from datetime import UTC, timedelta

from cali_infra.adapters import pod_exec
from cali_infra.adapters.pod_exec import Container
from cali_infra.core.pod_doors import reach
from cali_infra.core.pod_targets import is_ready
from cali_infra.core.service_doors import DOORS
from cali_infra.errors import GitError, GrafanaError, PodCommandError
from cali_infra.verify.checks import Check, Family, Result, check, failed, passed, skipped, warned
from cali_infra.verify.context import Context

# As terraform/services/grafana.tf names it.
DATA_SOURCE = "opensearch"
_GRAFANA_LOGS = "kubectl -n grafana logs deployment/grafana -c grafana --tail=50"
_RECENT = timedelta(minutes=15)
# Where GitSync's link is in the containers that read it. Source: Airflow's chart, `airflow_dags_mount`.
_LINK = "/opt/airflow/dags/repo"
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# Seconds between two looks; for so many beyond its period GitSync may take to fetch what is new.
_LOOK, _FETCH = 5.0, 20.0
_AIRFLOW_LOGS = "kubectl -n airflow logs deployment/airflow-{part} -c {container} --tail=50"


@check(
    "e2e.grafana",
    "Grafana and its data source answer",
    family=Family.E2E,
    needs=("grafana.workloads", "search.auth"),
    stage="services",
    option="e2e",
    remedy=_GRAFANA_LOGS,
)
def grafana(context: Context) -> Result:
    """Grafana lets the admin in with the password of secrets.yaml, and its OpenSearch data source is answered by
    the domain: with the reader's password, which Grafana was started with, and over TLS."""
    from cali_infra.adapters.grafana import Grafana

    door, secrets = DOORS["grafana"], context.subject.secrets
    with reach(context.kubernetes(), door) as url:
        app = Grafana(url, door.user, secrets.grafana.admin_password)
        version = app.health().version
        source = app.data_source(DATA_SOURCE)
        if source is None:
            return failed(
                f"Grafana has no data source {DATA_SOURCE}: it provisions it at its start",
                f"cali up services\n{_GRAFANA_LOGS}",
            )
        health = app.data_source_health(DATA_SOURCE)
        if not health.ok:
            # The plugin looks for one index of just this name, and a pattern is the name of none: a query tells.
            now = context.now().astimezone(UTC)
            try:
                app.count(DATA_SOURCE, "*", now - _RECENT, now)
            except GrafanaError as error:
                return _unanswered(source.user, health.message, error)
    return passed(f"Grafana {version}, and {source.index} by its data source {DATA_SOURCE}")


def _unanswered(user: str, message: str, error: GrafanaError) -> Result:
    if "401" in error.message:
        return failed(
            f"OpenSearch does not accept the password of {user} that Grafana was started with",
            "cali up index service-secrets services\nkubectl -n grafana rollout restart deployment/grafana",
        )
    return failed(f"{error.message}; its health check says: {message}", error.remedy)


@check(
    "e2e.airflow",
    "Airflow's parts are at work",
    family=Family.E2E,
    needs=("airflow.workloads",),
    stage="services",
    option="e2e",
    remedy=_AIRFLOW_LOGS.format(part="api-server", container="api-server"),
)
def airflow(context: Context) -> Result:
    """Airflow's API server finds its database, and a scheduler, a DAG processor and a triggerer that gave a sign of
    life in the last half a minute. A pod that is Ready proves less: a scheduler that hangs stays so for minutes."""
    from cali_infra.adapters.airflow import Airflow

    with reach(context.kubernetes(), DOORS["airflow"]) as url:
        health = Airflow(url).health()
    if not health.metadatabase.healthy:
        return failed(
            "Airflow's API server does not reach its database",
            "kubectl -n airflow get pods\n" + _AIRFLOW_LOGS.format(part="api-server", container="api-server"),
        )
    parts = {
        "scheduler": health.scheduler,
        "dag-processor": health.dag_processor,
        "triggerer": health.triggerer,
    }
    for name, part in parts.items():
        if not part.healthy:
            said = f"is {part.status}" if part.status else "never ran"
            last = f": its last heartbeat was at {part.heartbeat:%H:%M:%S} UTC" if part.heartbeat else ""
            return failed(
                f"the {name} {said} to Airflow itself{last}",
                _AIRFLOW_LOGS.format(part=name, container=name),
            )
    # Airflow judges the heartbeats by its own clock, which is not this machine's.
    beat = health.scheduler.heartbeat
    at = f", its scheduler's last heartbeat at {beat:%H:%M:%S} UTC" if beat else ""
    return passed(f"database, scheduler, DAG processor and triggerer are healthy{at}")


@check(
    "e2e.git-sync",
    "GitSync has brought the repository's head",
    family=Family.E2E,
    needs=("airflow.workloads",),
    stage="services",
    timeout=180.0,
    option="e2e",
    remedy="kubectl -n airflow logs deployment/airflow-dag-processor -c git-sync --tail=50",
)
def git_sync(context: Context) -> Result:
    """The commit that the DAG processor reads is the head of the branch, as this machine sees it with the same key.
    One that is older is looked at again until GitSync's next look must be over."""
    subject = context.subject
    if not subject.secrets.gitsync.url:
        return skipped("GitSync is off: secrets.yaml has no gitsync.url")
    branch, period = subject.settings.airflow.dags_branch, float(subject.settings.airflow.sync_seconds)
    until = context.clock() + period + min(_FETCH, period)
    while True:
        try:
            head = subject.head()
        except GitError as error:
            return warned(
                f"the head of {branch} could not be asked from this machine: {error.message}",
                "# GitSync may be well: compare what it brought with the repository\n"
                f"kubectl -n airflow exec deployment/airflow-dag-processor -c dag-processor -- readlink {_LINK}",
            )
        have = _brought(context)
        if isinstance(have, Result):
            return have
        if have == head:
            return passed(f"{branch} at {head[:12]}")
        if context.clock() >= until:
            return failed(
                f"the DAG processor reads {have[:12]}, and {branch} is at {head[:12]}: GitSync has not brought it "
                f"in {period:.0f} s"
            )
        if context.left() <= _LOOK or context.cancel.wait(min(_LOOK, period)):
            return warned(
                f"the DAG processor reads {have[:12]}, and {branch} is at {head[:12]}; GitSync looks every "
                f"{period:.0f} s, which was not waited for"
            )


def _brought(context: Context) -> str | Result:
    """The commit that GitSync's link leads to in the DAG processor's pod, or what came of looking."""
    kubernetes = context.kubernetes()
    labels = {"release": "airflow", "component": "dag-processor"}
    pods = [pod for pod in kubernetes.list("v1", "Pod", "airflow", labels) if is_ready(pod)]
    if not pods:
        return failed("there is no ready pod of the DAG processor", "kubectl -n airflow get pods")
    names = {one["name"] for one in pods[0]["spec"]["containers"]}
    if "git-sync" not in names:
        return failed("the DAG processor runs without GitSync, and secrets.yaml has a gitsync.url", "cali up")
    container = Container("airflow", pods[0]["metadata"]["name"], "dag-processor")
    try:
        target = pod_exec.run(kubernetes, container, ["readlink", _LINK], patience=context.left()).strip()
    except PodCommandError:
        return failed(f"GitSync has brought nothing yet: there is no {_LINK}")
    found = _COMMIT.search(target)
    return found[0] if found else failed(f"GitSync's link leads to {target}, which names no commit")


CHECKS: tuple[Check, ...] = (grafana, airflow, git_sync)
