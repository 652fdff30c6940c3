"""The value of every variable of every stack, from the settings, the secrets and the outputs of other stacks.

It knows names, not files: `tfvars` picks from here what a stack declares and writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from cali_infra.core import exec_credential, service_pods, service_secrets
from cali_infra.core.access import STACK, Entry, Merge, Record, from_output, merge, timestamp
from cali_infra.core.index import READER
from cali_infra.core.secrets import ssh_host

if TYPE_CHECKING:
    from cali_infra.core.secrets import Principal, Secrets
    from cali_infra.core.settings import Settings

Outputs = Callable[[str], Mapping[str, Any]]


@dataclass(frozen=True)
class Inputs:
    """What the variables are made from. `outputs(stack)` is empty for a stack that was never applied."""

    settings: Settings
    secrets: Secrets
    account: str
    caller: str
    now: datetime
    outputs: Outputs

    def variables(self, stack: str) -> dict[str, object]:
        """Every variable that `stack` may declare; a superset of what it does."""
        specific: dict[str, Callable[[], dict[str, object]]] = {
            "network": self._network,
            "eks": self._eks,
            "search": self._search,
            "access": self._access,
            "autoscaler": self._autoscaler,
            "services": self._services,
        }
        return {**self._common(), **specific[stack]()}

    def access(self) -> Merge:
        """The record that the `access` stack is to have after `up`."""
        return merge(
            self.record(),
            self.principals(),
            creator=self.creator(),
            caller=self.caller,
            now=self.now,
        )

    def record(self) -> Record:
        """The record as the state has it."""
        return from_output(self.outputs(STACK).get("record"))

    def principals(self) -> list[Entry]:
        """The principals that `secrets.yaml` lists."""
        return [_entry(principal) for principal in self.secrets.principals]

    def creator(self) -> str:
        """The ARN of whoever created the cluster; empty before there is one."""
        return str(self.outputs("eks").get("creator_arn", ""))

    def access_with(self, record: Record) -> dict[str, object]:
        """The variables of the `access` stack with this record and nothing from local files."""
        return {**self._common(), **self._record(record)}

    def _common(self) -> dict[str, object]:
        s = self.settings
        return {
            "project": s.project,
            "environment": s.environment,
            "region": s.region,
            "account_id": self.account,
            "profile": s.profile,
            "extra_tags": dict(s.tags),
            "cluster_name": s.cluster_name,
            "domain_name": s.domain_name,
            "allowed_cidrs": [str(cidr) for cidr in s.allowed_cidrs],
        }

    def _network(self) -> dict[str, object]:
        network = self.settings.network
        return {"vpc_cidr": str(network.cidr), "nat_per_zone": network.nat_per_zone}

    def _eks(self) -> dict[str, object]:
        eks, network = self.settings.eks, self.outputs("network")
        return {
            **_pick(network, "vpc_id", "private_subnet_ids"),
            "cluster_version": eks.version,
            "instance_types": list(eks.instance_types),
            "capacity_type": eks.capacity_type,
            "min_nodes": eks.min_nodes,
            "desired_nodes": eks.desired_nodes,
            "max_nodes": eks.max_nodes,
            "disk_gib": eks.disk_gib,
            "log_types": list(eks.log_types),
            "log_retention_days": eks.log_retention_days,
            "support_type": eks.support_type,
        }

    def _search(self) -> dict[str, object]:
        search = self.settings.search
        return {
            **_pick(self.outputs("network"), "nat_public_ips"),
            "engine_version": search.engine_version,
            "instance_type": search.instance_type,
            "instance_count": search.instance_count,
            "volume_gib": search.volume_gib,
            "master_username": search.master_username,
            "master_password": self.secrets.opensearch.master_password,
            "create_timeout": search.create_timeout,
            "update_timeout": search.update_timeout,
            "delete_timeout": search.delete_timeout,
        }

    def _access(self) -> dict[str, object]:
        return self._record(self.access().record)

    def _record(self, record: Record) -> dict[str, object]:
        return {
            **_pick(self.outputs("eks"), "creator_arn"),
            "keep_expiry": bool(self.outputs(STACK).get("dead_letters")),
            "principals": {arn: entry.variable() for arn, entry in record.entries.items()},
            "revoked": {arn: gone.variable() for arn, gone in record.revoked.items()},
        }

    def _autoscaler(self) -> dict[str, object]:
        s = self.settings
        return {
            **_pick(self.outputs("eks"), "cluster_endpoint", "cluster_ca", "cluster_version"),
            "chart_version": s.autoscaler.chart_version,
            "image_tag": s.autoscaler_image_tag,
            "kube_exec": self._kube_exec(),
        }

    def _services(self) -> dict[str, object]:
        s, on = self.settings, self.settings.services
        search = self.outputs("search")
        given = {
            **_pick(self.outputs("eks"), "cluster_endpoint", "cluster_ca"),
            **_pick(search, "opensearch_endpoint"),
            "kube_exec": self._kube_exec(),
            "pods": service_pods.variable(self.pods()),
            "airflow": self._airflow() if on.airflow else None,
            "milvus": self._milvus() if on.milvus else None,
            "grafana": self._grafana() if on.grafana else None,
        }
        if "opensearch_endpoint" in search:
            endpoint = str(search["opensearch_endpoint"])
            given["revisions"] = service_secrets.revisions(s, self.secrets, endpoint)
        return given

    def pods(self) -> tuple[service_pods.Pod, ...]:
        """The pods of the services that are on."""
        return service_pods.wanted(
            self.settings,
            bundled_database=self.secrets.airflow.database_url is None,
            git_sync=self.secrets.gitsync.url is not None,
        )

    def _airflow(self) -> dict[str, object]:
        airflow, gitsync = self.settings.airflow, self.secrets.gitsync
        git: dict[str, object] | None = None
        if gitsync.url:
            over_ssh = ssh_host(gitsync.url) is not None
            git = {
                "url": gitsync.url,
                "branch": airflow.dags_branch,
                "path": airflow.dags_path,
                "seconds": airflow.sync_seconds,
                "auth": "ssh" if over_ssh else "token" if gitsync.token else "none",
                "known_hosts": (gitsync.known_hosts or "") if over_ssh else "",
            }
        return {
            "chart_version": airflow.chart_version,
            "version": airflow.version,
            "bundled_database": self.secrets.airflow.database_url is None,
            "database_gib": airflow.database_gib,
            "git": git,
        }

    def _milvus(self) -> dict[str, object]:
        milvus = self.settings.milvus
        return {
            "chart_version": milvus.chart_version,
            "version": milvus.version,
            "mode": milvus.mode,
            "bucket": milvus.bucket if milvus.mode == "cluster" else None,
            "volume_gib": milvus.volume_gib,
            "object_store_gib": milvus.object_store_gib,
        }

    def _grafana(self) -> dict[str, object]:
        s, grafana = self.settings, self.settings.grafana
        return {
            "chart_version": grafana.chart_version,
            "version": grafana.version,
            "plugin_version": grafana.plugin_version,
            "volume_gib": grafana.volume_gib,
            "index": f"{s.logging.index_prefix}-*",
            "user": READER,
            # The data source takes a version of three numbers only.
            "engine_version": f"{s.search.engine_version.removeprefix('OpenSearch_')}.0",
        }

    def _kube_exec(self) -> dict[str, object]:
        s = self.settings
        command, arguments = exec_credential.words(s.cluster_name, s.region, s.profile)
        return {"command": command, "args": arguments, "env": {}}


def _pick(outputs: Mapping[str, Any], *names: str) -> dict[str, object]:
    return {name: outputs[name] for name in names if name in outputs}


def moment(until: datetime | date | None) -> str | None:
    """The moment at which access ends: a day counts to its end, in UTC."""
    if until is None:
        return None
    if not isinstance(until, datetime):
        until = datetime.combine(until + timedelta(days=1), time(), UTC)
    return timestamp(until.astimezone(UTC))


def _entry(principal: Principal) -> Entry:
    return Entry(
        arn=principal.arn,
        name=principal.name,
        level=principal.level,
        namespaces=tuple(principal.namespaces),
        until=moment(principal.until),
    )
