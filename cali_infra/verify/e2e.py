"""One log line, followed: from a pod through Fluent Bit to OpenSearch, to Grafana, and into an analysis.

A Job writes a line that nobody else has, with an `@timestamp` of its own that lies. Each leg has its check, which
measures how long it took. What the platform is made of has checks of its own; where a line does not come through,
those say here why not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, Any, TypeVar

from cali_infra.adapters.kubernetes import ObjectRef
from cali_infra.core import fluent_bit
from cali_infra.core.index import differences
from cali_infra.core.rollout import pod_reasons
from cali_infra.core.service_doors import DOORS
from cali_infra.core.service_secrets import ADMIN
from cali_infra.errors import CaliError, RunInterruptedError
from cali_infra.verify import jobs, kubernetes, opensearch
from cali_infra.verify.checks import Family, Result, Status, check, failed, few, passed, warned
from cali_infra.verify.context import Context
from cali_infra.verify.services import DATA_SOURCE

if TYPE_CHECKING:
    from cali_infra.adapters.kubernetes import Object

T = TypeVar("T")

# The fields that hang on the template; a time that became text is found by no span of time.
_TIMES = ("@timestamp", "source_timestamp")
# What the line says of its time. It is older than every log that is kept.
LIE = "2001-02-03T04:05:06.000Z"
# By this field the line is found again.
TOKEN = "cali_verify"
# Fluent Bit sends every five seconds, and tries again after as many; a first record makes the day's index.
_ARRIVAL = 90.0
# A chunk whose answer was lost is sent again 6 to 11 seconds later: what is twice is seen by then, in seconds.
# Source: `scheduler.base` in k8s/fluent-bit, and Fluent Bit's `flb_scheduler.c`.
_TWICE = 13.0
# The node's times are whole seconds.
_NEAR = timedelta(seconds=1.5)
_JOB_SECONDS = 120
_ANALYSIS_SECONDS = 300
# The user of Airflow's image. Source: its Dockerfile.
_AIRFLOW_USER = 50000
_AIRFLOW_ACCOUNT = "airflow-worker"
_LAST_WORDS = 3
# A ConfigMap that was put right in place does not roll the pods that were started with it as it was.
_STARTED_OTHERWISE = (
    "# the configuration is right; its pods may have been started with another one\n"
    f"kubectl -n {fluent_bit.NAMESPACE} rollout restart daemonset/{fluent_bit.NAME}"
)


@dataclass(frozen=True)
class Written:
    """The line as it left its pod; `at` is the check's clock when it was known to be written."""

    token: str
    ended: jobs.Ended
    at: float

    @property
    def pod(self) -> str:
        meta = self.ended.pod["metadata"]
        return f"{meta['namespace']}/{meta['name']}"

    @property
    def node(self) -> str:
        return str(self.ended.pod["spec"].get("nodeName", ""))


@dataclass(frozen=True)
class Arrived:
    """The line as OpenSearch has it: the index, and the record."""

    written: Written
    index: str
    source: Mapping[str, Any]


# -- the line -------------------------------------------------------------------------------------------------


@check(
    "e2e.log-line",
    "A log line reaches OpenSearch with its true time",
    family=Family.E2E,
    needs=("kubernetes.api", "search.auth"),
    stage="logging",
    timeout=_JOB_SECONDS + _ARRIVAL + 60,
    grace=jobs.GOING,
    option="e2e",
    remedy="cali up logging",
)
def log_line(context: Context) -> Result:
    """A Job writes a unique line whose own `@timestamp` lies. It is found in OpenSearch at the container runtime's
    time, with its pod's name, namespace and labels, its own time kept as `source_timestamp`, in an index that was
    made by the platform's template. How long it took to be written and then to be stored is shown; a search that
    does not ask for the newest sees it up to ten seconds later."""
    began = context.clock()
    written = _write(context)
    if isinstance(written, Result):
        return written
    hits = _wait_for(context, written)
    if not hits:
        return _not_arrived(context, written)
    measured = {"written": written.at - began, "stored": context.clock() - written.at}
    arrived = Arrived(written, hits[0]["_index"], hits[0]["_source"])
    wrong = _judged(arrived)
    if wrong is not None:
        return _explained(context, wrong, _STARTED_OTHERWISE)
    context.fact("the line in OpenSearch", lambda: arrived)
    index = _index_made_otherwise(context, arrived.index)
    if index is not None:
        return replace(index, measurements=measured)
    legs = f"written after {measured['written']:.1f} s, stored {measured['stored']:.1f} s later"
    return passed(f"{legs}, at {arrived.source['@timestamp']} in {arrived.index}", measured)


def _write(context: Context) -> Written | Result:
    """Have the line written; what came of it where it was not."""
    namespace, token = jobs.scratch(context, "log-line"), f"{context.suffix()}{context.suffix()}"
    line = json.dumps({"@timestamp": LIE, TOKEN: token, "message": "cali verify: a line to be followed"})
    ended = jobs.run(
        context,
        jobs.job(
            "log-line",
            namespace,
            image=context.subject.settings.verify.image,
            command=["sh", "-c", 'echo "$LINE"'],
            env={"LINE": line},
            seconds=_JOB_SECONDS,
        ),
    )
    if ended.exit_code or (ended.log is not None and token not in ended.log):
        said = ended.last_words or "it says nothing"
        return failed(
            f"the Job's pod wrote no line, and ended with {ended.exit_code}: {said}",
            "# is verify.image of cali.yaml an image with a shell?\nkubectl get nodes -o wide",
        )
    return Written(token, ended, context.clock())


def _wait_for(context: Context, written: Written) -> Sequence[Mapping[str, Any]]:
    """The records with the line's token, as soon as there is one; none when it does not come."""
    until, pace = context.clock() + _ARRIVAL, jobs.Pace(context, longest=2.0)
    while True:
        hits = _find(context, written)
        if hits or context.clock() > until:
            return hits
        pace.rest()


def _find(context: Context, written: Written) -> list[Mapping[str, Any]]:
    """The records with the line's token as of now."""
    domain, pattern = opensearch.master(context), opensearch.wanted(context).pattern
    # Where a line is not taken apart its token stands in the text.
    places = [{"term": {f"app.{TOKEN}": written.token}}, {"term": {TOKEN: written.token}}]
    query = {"bool": {"should": [*places, {"match_phrase": {"log": written.token}}]}}
    domain.refresh(pattern)
    return list(domain.search(pattern, {"size": 10, "query": query})["hits"]["hits"])


def _judged(arrived: Arrived) -> Result | None:
    """What is wrong with the record, if anything."""
    source, ended = arrived.source, arrived.written.ended
    if TOKEN not in (source.get("app") or {}):
        where = "as text in `log`" if "log" in source else "outside of `app`"
        return failed(f"the line is a JSON object and arrived {where}: it was not taken apart")
    at = opensearch.moment(source.get("@timestamp"))
    if at is None or not ended.started - _NEAR <= at <= ended.finished + _NEAR:
        own = " of the line's own" if source.get("@timestamp") == LIE else ""
        return failed(
            f"@timestamp is {source.get('@timestamp')}{own}; the line was written at {_said(ended.finished)}"
        )
    if source.get("source_timestamp") != LIE:
        kept = (source.get("app") or {}).get("@timestamp")
        where = "it is left in app.@timestamp" if kept == LIE else "it is lost"
        return failed(f"the line's own time is not kept as source_timestamp: {where}")
    return _of_its_pod(arrived)


def _of_its_pod(arrived: Arrived) -> Result | None:
    meta = arrived.written.ended.pod["metadata"]
    found = arrived.source.get("kubernetes") or {}
    labels = {key.replace(".", "_"): value for key, value in (meta.get("labels") or {}).items()}
    wanted = {"pod_name": meta["name"], "namespace_name": meta["namespace"], "labels": labels}
    wrong = [line for line in differences(found, wanted) if not line.startswith("labels.batch_")]
    if wrong:
        return failed(f"the record does not name its pod {arrived.written.pod}: {few(wrong)}")
    return None


def _index_made_otherwise(context: Context, index: str) -> Result | None:
    """What an index misses that the platform's template did not make."""
    wanted, domain = opensearch.wanted(context), opensearch.master(context)
    if domain.template(wanted.prefix) is None:
        return failed(
            f"there is no index template {wanted.prefix}: the next index takes its types from its first record",
            "cali up index",
        )
    mappings = wanted.template()["template"]["mappings"]["properties"]
    other = list(differences(domain.mapping(index).get("properties") or {}, mappings))
    if any(line.startswith(_TIMES) for line in other):
        return failed(
            f"{index} was made without the template {wanted.prefix}: {few(other)}",
            "# the index of tomorrow is right. This one keeps its types; what deletes it deletes its records:\n"
            f"curl -X DELETE -u {context.subject.settings.search.master_username} "
            f"https://{domain.endpoint}/{index}",
        )
    if other:
        return warned(
            f"{index} was made by another template than {wanted.prefix} is now: {few(other)}",
            "# nothing is to be done: the index of tomorrow is right\ncali verify search.template",
        )
    return None


# -- why it did not come through ------------------------------------------------------------------------------


def _not_arrived(context: Context, written: Written) -> Result:
    head = (
        f"{written.pod} wrote the line on {written.node}, and it is not in OpenSearch after {_ARRIVAL:.0f} s"
    )
    why = _quietly(lambda: _shipper_of(context, written.node)) or _cause(context)
    if why is not None:
        return failed(f"{head}: {why.detail}", why.remedy)
    said = _quietly(lambda: _last_words(context, written.node)) or ""
    return failed(f"{head}; Fluent Bit runs there as it should{said}", opensearch.LOGS)


def _quietly(ask: Callable[[], T]) -> T | None:
    """What a look for a cause comes to; one that fails must not lose what is known."""
    try:
        return ask()
    except RunInterruptedError:
        raise
    except CaliError:
        return None


def _shipper_of(context: Context, node: str) -> Result | None:
    """What is wrong with Fluent Bit on this node."""
    kube, namespace = context.kubernetes(), fluent_bit.NAMESPACE
    if kube.get(ObjectRef("apps/v1", "DaemonSet", namespace, fluent_bit.NAME)) is None:
        return failed(f"there is no DaemonSet {namespace}/{fluent_bit.NAME}", "cali up --through logging")
    pods = _shippers(context, node)
    if not pods:
        return failed(
            f"no pod of Fluent Bit is on {node}",
            f"kubectl -n {namespace} describe daemonset {fluent_bit.NAME}",
        )
    for pod in pods:
        for reason in pod_reasons(kube, pod):
            return failed(reason, f"kubectl -n {namespace} describe pod {pod['metadata']['name']}")
    return None


def _shippers(context: Context, node: str) -> list[Object]:
    found = context.kubernetes().list("v1", "Pod", fluent_bit.NAMESPACE, fluent_bit.SELECTOR)
    return [pod for pod in found if pod["spec"].get("nodeName") == node]


def _cause(context: Context) -> Result | None:
    """What the checks of the way find wrong with it, the nearest to the pod first."""
    way = (
        kubernetes.fluent_bit_ready,
        kubernetes.fluent_bit_configured,
        opensearch.writer,
        opensearch.template,
    )
    for one in way:
        result = _quietly(partial(one.ask, context))
        if result is not None and result.status is Status.FAIL:
            return failed(result.detail, result.remedy or one.remedy)
    return None


def _explained(context: Context, wrong: Result, otherwise: str = "") -> Result:
    """What is wrong with a record that came, and why, where a check knows that; else what to do `otherwise`."""
    why = None if wrong.remedy else _cause(context)
    if why is not None:
        return failed(f"{wrong.detail}; {why.detail}", why.remedy)
    return failed(wrong.detail, wrong.remedy or otherwise)


def _last_words(context: Context, node: str) -> str:
    kube, lines = context.kubernetes(), list[str]()
    for pod in _shippers(context, node):
        meta = pod["metadata"]
        text = kube.log(meta["namespace"], meta["name"], container=fluent_bit.NAME, lines=200)
        lines += [line for line in text.splitlines() if "[error]" in line or "[ warn]" in line]
    return f"; it says: {' / '.join(lines[-_LAST_WORDS:])}" if lines else " and says of nothing wrong"


# -- once, and no more ----------------------------------------------------------------------------------------


@check(
    "e2e.once",
    "The line is in OpenSearch once",
    family=Family.E2E,
    needs=("e2e.log-line",),
    stage="logging",
    timeout=60.0,
    option="e2e",
    remedy="cali up logging",
)
def once(context: Context) -> Result:
    """The line is there once, also after the time in which what was sent twice would have come: a chunk whose
    answer is lost is sent again, and its records' ids keep them from being stored again."""
    arrived, until, pace = _followed(context), context.clock() + _TWICE, jobs.Pace(context)
    while context.clock() < until:
        pace.rest()
    found = _find(context, arrived.written)
    if not found:
        return failed(f"the line was in {arrived.index}, and is not there any more")
    if len(found) > 1:
        where = few(sorted({str(hit["_index"]) for hit in found}))
        return _explained(context, failed(f"the line is there {len(found)} times, in {where}"))
    return passed(f"still once after {_TWICE:.0f} s")


# -- on the dashboard -----------------------------------------------------------------------------------------


@check(
    "e2e.grafana.line",
    "The line shows in Grafana",
    family=Family.E2E,
    needs=("e2e.log-line", "e2e.grafana"),
    stage="services",
    timeout=60.0,
    option="e2e",
    remedy="cali up services",
)
def grafana_line(context: Context) -> Result:
    """Grafana finds the line by a query through its OpenSearch data source, as a panel of the dashboard does, at
    its true time. How long the query took is shown."""
    from cali_infra.adapters.grafana import Grafana
    from cali_infra.core import pod_doors

    arrived = _followed(context)
    at = opensearch.moment(arrived.source["@timestamp"])
    assert at is not None
    password = context.subject.secrets.grafana.admin_password
    with pod_doors.reach(context.kubernetes(), DOORS["grafana"]) as url:
        began = context.clock()
        found = Grafana(url, ADMIN, password).logs(
            DATA_SOURCE,
            f"app.{TOKEN}:{arrived.written.token}",
            at - timedelta(minutes=5),
            at + timedelta(minutes=5),
        )
        measured = {"in Grafana": context.clock() - began}
    if not found:
        return failed(f"Grafana does not find the line, which OpenSearch has in {arrived.index}")
    shown = found[0].get("@timestamp")
    if not isinstance(shown, datetime) or abs(shown - at) > timedelta(milliseconds=1):
        return failed(f"Grafana shows the line at {shown}, OpenSearch has it at {_said(at)}")
    return passed(f"found at its true time, in {measured['in Grafana']:.1f} s", measured)


def _followed(context: Context) -> Arrived:
    """The line that `e2e.log-line` followed, which has passed before."""

    def missing() -> Arrived:
        raise LookupError("no line was followed")

    return context.fact("the line in OpenSearch", missing)


# -- as the platform's users run it ---------------------------------------------------------------------------


@check(
    "e2e.analysis",
    "A pod of Airflow's reads the line and keeps its vector in Milvus",
    family=Family.E2E,
    needs=("e2e.log-line", "e2e.airflow", "milvus.workloads"),
    stage="services",
    timeout=_ANALYSIS_SECONDS + 30,
    grace=30.0,
    option="e2e",
    remedy="cali up service-secrets services",
)
def analysis(context: Context) -> Result:
    """A pod with Airflow's image, service account and connections reads the line from OpenSearch, stores its vector
    in Milvus, finds it as the nearest to itself, and drops it. How long each leg took is shown."""
    settings, arrived = context.subject.settings, _followed(context)
    ended = jobs.run(
        context,
        jobs.job(
            f"cali-verify-{context.suffix()}",
            "airflow",
            image=f"apache/airflow:{settings.airflow.version}",
            command=["python", "-c", _script()],
            env={"CALI_INDEX": opensearch.wanted(context).pattern, "CALI_TOKEN": arrived.written.token},
            env_from=[{"secretRef": {"name": "airflow-connections"}}],
            service_account=_AIRFLOW_ACCOUNT,
            user=_AIRFLOW_USER,
            seconds=_ANALYSIS_SECONDS,
        ),
    )
    said = _answer(ended)
    if ended.exit_code or "seconds" not in said:
        leg = said.get("leg", "")
        why = said.get("failed") or ended.last_words or "it says nothing"
        return failed(f"{leg}: {why}" if leg else f"the pod ended with {ended.exit_code}: {why}")
    measured = {name: float(value) for name, value in said["seconds"].items()}
    legs = ", ".join(f"{name} {value:.1f} s" for name, value in measured.items())
    return passed(f"its vector was stored, found and dropped: {legs}", measured)


def _script() -> str:
    return resources.files("cali_infra.verify").joinpath("analysis_pod.py").read_text(encoding="utf-8")


def _answer(ended: jobs.Ended) -> dict[str, Any]:
    """The last line that is a JSON object of the script's; empty where there is none."""
    for line in reversed((ended.log or "").splitlines()):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and ("seconds" in found or "failed" in found):
            return found
    return {}


def _said(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}Z"
