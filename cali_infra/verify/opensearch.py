"""What the domain says: who gets in, how it feels, what it was told, and whether log records arrive in time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cali_infra.core.index import READER, WRITER, Index, differences
from cali_infra.verify import aws
from cali_infra.verify.checks import Check, Family, Result, Status, check, failed, few, passed, warned
from cali_infra.verify.context import Context

if TYPE_CHECKING:
    from pydantic import SecretStr

    from cali_infra.adapters.opensearch import OpenSearch

Body = Mapping[str, Any]

# Seconds for which a busy domain is asked again: the check is what says that it does not answer.
_PATIENCE = 5.0
_RECENT = timedelta(minutes=15)
# Clocks differ by seconds.
_AHEAD = timedelta(minutes=10)
# An index is deleted some days after its first record, not to the hour.
_SLACK = timedelta(days=2)
_SAMPLE = 50
# Between the runtime's own time of a line and the record's, in seconds.
_NEAR = 1.0
# What Fluent Bit says.
LOGS = "kubectl -n logging logs daemonset/fluent-bit --tail=50"


def _domain(context: Context, user: str, password: SecretStr) -> OpenSearch:
    from cali_infra.adapters.opensearch import OpenSearch

    found = aws.domain(context)
    assert found is not None
    return OpenSearch(found.endpoint, user, password, context.subject.search_ca, patience=_PATIENCE)


def master(context: Context) -> OpenSearch:
    """The domain as its master user."""
    subject = context.subject

    def connect() -> OpenSearch:
        context.clients()
        user = subject.settings.search.master_username
        return _domain(context, user, subject.secrets.opensearch.master_password)

    return context.fact("the domain as its master user", connect)


def wanted(context: Context) -> Index:
    """What the repository wants of the domain."""
    return Index.of(context.subject.settings, context.subject.secrets)


# -- who gets in ----------------------------------------------------------------------------------------------


@check(
    "search.auth",
    "The domain accepts the master password of secrets.yaml",
    family=Family.OPENSEARCH,
    needs=("search.domain-active",),
    stage="search",
    remedy="cali up search",
)
def right_password(context: Context) -> Result:
    """The master user gets in over HTTPS with a trusted certificate. The time of a round trip is measured."""
    domain = master(context)
    # The first one opens the connection, which is not measured.
    domain.info()
    started = context.clock()
    found = domain.info()
    measured = {"round trip": context.clock() - started}
    version = (found.get("version") or {}).get("number", "?")
    return passed(f"200, version {version}, {measured['round trip'] * 1000:.0f} ms", measured)


@check(
    "search.auth.wrong-password",
    "The domain refuses a wrong password",
    family=Family.OPENSEARCH,
    needs=("search.auth",),
    stage="search",
    remedy="cali plan search",
)
def wrong_password(context: Context) -> Result:
    """The master user does not get in with another password."""
    from pydantic import SecretStr

    user = context.subject.settings.search.master_username
    if master(context).accepts(user, SecretStr("not-the-password-1-A")):
        return failed(f"{user} gets in with any password")
    return passed("401")


@check(
    "search.auth.no-password",
    "The domain refuses who gives no password",
    family=Family.OPENSEARCH,
    needs=("search.auth",),
    stage="search",
    remedy="cali plan search",
)
def no_password(context: Context) -> Result:
    """Nobody gets in without a name and a password."""
    if master(context).accepts_anybody():
        return failed("it lets anybody in who reaches it")
    return passed("401")


@check(
    "search.auth.plain-http",
    "The domain refuses plain HTTP",
    family=Family.OPENSEARCH,
    needs=("search.auth",),
    stage="search",
    remedy="cali plan search",
)
def plain_http(context: Context) -> Result:
    """A request without TLS gets no answer, or is sent away: no password travels in clear."""
    if master(context).answers_plain_http():
        return failed("it answers over plain HTTP, and a password could travel in clear")
    return passed("refused")


@check(
    "search.writer",
    "The writer may write and not read",
    family=Family.OPENSEARCH,
    needs=("search.auth",),
    stage="index",
    remedy="cali up index",
)
def writer(context: Context) -> Result:
    """Fluent Bit's user gets in with its password, may write to the log indices, and may not search them."""
    index = wanted(context)
    return _rights(context, WRITER, index.writer_password, search=False, write=True)


@check(
    "search.reader",
    "The reader may read and not write",
    family=Family.OPENSEARCH,
    needs=("search.auth",),
    stage="index",
    remedy="cali up index",
)
def reader(context: Context) -> Result:
    """Grafana's user gets in with its password, may search the log indices, and may not write to them."""
    index = wanted(context)
    return _rights(context, READER, index.reader_password, search=True, write=False)


def _rights(context: Context, user: str, password: SecretStr, *, search: bool, write: bool) -> Result:
    if not master(context).accepts(user, password):
        return failed(f"{user} does not get in with its password of secrets.yaml")
    domain = _domain(context, user, password)
    # An index of the pattern that does not exist: nothing is read, and nothing could be written.
    index = f"{wanted(context).prefix}-cali-verify"
    may = {"read": (domain.may_search(index), search), "write": (domain.may_write(index), write)}
    wrong = [f"may{'' if has else ' not'} {what}" for what, (has, should) in may.items() if has != should]
    if wrong:
        return failed(f"{user} {' and '.join(wrong)}")
    return passed(f"{user} may {'read' if search else 'write'} and not {'write' if search else 'read'}")


# -- how it feels, and what it was told -----------------------------------------------------------------------


@check(
    "search.health",
    "The domain's cluster is green",
    family=Family.OPENSEARCH,
    needs=("search.auth",),
    stage="search",
    remedy="curl -u USER https://ENDPOINT/_cluster/allocation/explain",
)
def health(context: Context) -> Result:
    """Every shard has its copies. Yellow is a copy too few, and warns; red is a shard without any."""
    found = master(context).cluster_health()
    status = found.get("status")
    nodes = f"{found.get('number_of_data_nodes', '?')} data nodes"
    shards = f"{found.get('unassigned_shards', '?')} shards unassigned, {nodes}"
    domain = aws.domain(context)
    user = context.subject.settings.search.master_username
    remedy = f"curl -u {user} https://{domain.endpoint if domain else ''}/_cluster/allocation/explain"
    if status == "red":
        return failed(f"red: {shards}", remedy)
    if status != "green":
        return warned(f"{status}: {shards}", remedy)
    return passed(f"green, {nodes}")


@check(
    "search.template",
    "The index template is the repository's",
    family=Family.OPENSEARCH,
    needs=("search.auth",),
    stage="index",
    remedy="cali up index",
)
def template(context: Context) -> Result:
    """New indices get the mappings and settings that cali writes: without the template, `@timestamp` becomes text
    with the first record that has it otherwise."""
    index = wanted(context)
    return _same(f"index template {index.prefix}", master(context).template(index.prefix), index.template())


@check(
    "search.retention",
    "The retention policy is the repository's, and reaches every index",
    family=Family.OPENSEARCH,
    needs=("search.auth",),
    stage="index",
    remedy="cali up index",
)
def retention(context: Context) -> Result:
    """Indices are deleted when they are as old as cali.yaml says: the policy is as cali writes it, and every log
    index has one."""
    index, domain = wanted(context), master(context)
    found = domain.policy(index.policy_name)
    compared = _same(f"policy {index.policy_name}", found[0] if found else None, index.policy())
    free = [name for name, policy in domain.policies_of(index.pattern).items() if policy is None]
    if compared.status is Status.PASS and free:
        return warned(f"no policy deletes {few(sorted(free))}", "cali plan index")
    return compared


def _same(what: str, found: Body | None, wanted: Body) -> Result:
    if found is None:
        return failed(f"there is no {what}")
    different = list(differences(found, wanted))
    if different:
        return failed(f"{what}: {few(different)}")
    return passed(f"{what} as in the repository")


# -- the records ----------------------------------------------------------------------------------------------


@check(
    "search.records",
    "Log records of the last minutes are there, with their real time",
    family=Family.OPENSEARCH,
    needs=("search.auth",),
    stage="logging",
    remedy=LOGS,
)
def records(context: Context) -> Result:
    """Records of the last quarter of an hour can be found, and `@timestamp` is the time at which the container
    runtime took the line, whatever the line itself says. The age of the newest one is measured."""
    index, domain = wanted(context), master(context)
    # What was written a moment ago shows only then.
    domain.refresh(index.pattern)
    found = domain.search(
        index.pattern,
        {
            "size": _SAMPLE,
            "track_total_hits": True,
            "sort": [{"@timestamp": "desc"}],
            "_source": ["@timestamp", "time", "kubernetes.namespace_name", "kubernetes.pod_name"],
            "query": {
                "range": {
                    "@timestamp": {
                        "gte": _iso(context.now() - _RECENT),
                        "lte": _iso(context.now() + _AHEAD),
                    }
                }
            },
        },
    )
    hits = found["hits"]["hits"]
    if not hits:
        minutes = _RECENT.total_seconds() / 60
        return failed(f"no record of the last {minutes:.0f} minutes in {index.pattern}")
    for hit in hits:
        source = hit["_source"]
        at, taken = moment(source.get("@timestamp")), moment(source.get("time"))
        if at is None:
            return failed(f"{_pod(source)}: @timestamp is {source.get('@timestamp')!r}, and no time")
        if taken is not None and abs((at - taken).total_seconds()) > _NEAR:
            return failed(
                f"{_pod(source)}: @timestamp is {source['@timestamp']}, the container runtime took the line at "
                f"{source['time']}",
                "cali up logging",
            )
    newest = moment(hits[0]["_source"].get("@timestamp"))
    assert newest is not None
    age = max(0.0, (context.now() - newest).total_seconds())
    total = found["hits"]["total"]["value"]
    return passed(
        f"{total} of the last quarter of an hour, the newest {age:.0f} s old", {"age of the newest": age}
    )


@check(
    "search.timestamps",
    "No record lies in the future or in the far past",
    family=Family.OPENSEARCH,
    needs=("search.auth",),
    stage="logging",
    remedy="cali up logging",
)
def timestamps(context: Context) -> Result:
    """No log record has an `@timestamp` that is yet to come, lies before what the retention keeps, or is missing:
    such a record is in the wrong index, and no query over a span of time finds it."""
    index, domain = wanted(context), master(context)
    earliest = context.now() - timedelta(days=index.retention_days) - _SLACK
    strange = {
        "in the future": {"range": {"@timestamp": {"gt": _iso(context.now() + _AHEAD)}}},
        "older than what is kept": {"range": {"@timestamp": {"lt": _iso(earliest)}}},
        "without @timestamp": {"bool": {"must_not": [{"exists": {"field": "@timestamp"}}]}},
    }
    for words, query in strange.items():
        found = domain.search(
            index.pattern,
            {"size": 1, "track_total_hits": True, "query": query, "_source": ["@timestamp", "kubernetes"]},
        )
        hits = found["hits"]["hits"]
        if hits:
            source = hits[0]["_source"]
            example = f"{source.get('@timestamp', 'none')} of {_pod(source)} in {hits[0]['_index']}"
            total = found["hits"]["total"]["value"]
            return failed(f"{total} {'record' if total == 1 else 'records'} {words}, such as {example}")
    return passed("none is in the future, older than what is kept, or without @timestamp")


def _pod(source: Body) -> str:
    kubernetes = source.get("kubernetes") or {}
    return f"{kubernetes.get('namespace_name', '?')}/{kubernetes.get('pod_name', '?')}"


def moment(text: Any) -> datetime | None:
    """A time of RFC 3339, to the microsecond; None for what is none."""
    if not isinstance(text, str):
        return None
    head, dot, rest = text.partition(".")
    digits = rest.rstrip("Z").split("+")[0]
    try:
        moment = datetime.fromisoformat(head + (f".{digits[:6].ljust(6, '0')}+00:00" if dot else ""))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _iso(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}Z"


CHECKS: tuple[Check, ...] = (
    right_password,
    wrong_password,
    no_password,
    plain_http,
    health,
    template,
    retention,
    writer,
    reader,
    records,
    timestamps,
)
