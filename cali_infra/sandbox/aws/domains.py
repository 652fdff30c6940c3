"""OpenSearch domains, as far as cali and Terraform's AWS provider call them.

It owns a domain's document and the rules of fine-grained access control that a real domain takes half an
hour to fail on. The HTTP side of a domain is the domain host's; the master user's password goes there and
is neither kept nor shown here.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cali_infra.sandbox.aws.calls import Call, Operation, Result, Table, operation, page
from cali_infra.sandbox.aws.controls import Controls
from cali_infra.sandbox.aws.errors import ServiceError
from cali_infra.sandbox.ports import DomainHost

ENGINES = ("OpenSearch_3.1", "OpenSearch_2.19", "OpenSearch_2.17", "OpenSearch_2.15", "OpenSearch_2.13")
_NAME = re.compile(r"^[a-z][a-z0-9-]{2,27}$")
_OPTIONS = (
    "ClusterConfig EBSOptions AccessPolicies SnapshotOptions EncryptionAtRestOptions"
    " NodeToNodeEncryptionOptions AdvancedOptions LogPublishingOptions DomainEndpointOptions"
    " AdvancedSecurityOptions AutoTuneOptions OffPeakWindowOptions SoftwareUpdateOptions IPAddressType"
)


@dataclass
class Domain:
    """A domain: its options by their names in the API, without the master user's password."""

    name: str
    account: str
    region: str
    arn: str
    engine: str
    endpoint: str
    created_at: datetime
    ready_at: float
    username: str
    options: dict[str, Any]
    tags: dict[str, str] = field(default_factory=dict)
    upgrade: str = ""


class Domains:
    """The OpenSearch service of one stand-in."""

    def __init__(
        self,
        host: DomainHost,
        controls: Controls,
        *,
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._host = host
        self._controls = controls
        self._clock = clock
        self._now = now
        self._domains: dict[str, Domain] = {}
        self._lock = threading.RLock()
        self._table = Table("opensearch", self._operations())

    def answer(self, call: Call) -> Result:
        """Answer a call; raises ServiceError."""
        with self._lock:
            return self._table.answer(call)

    def close(self) -> None:
        """Delete every domain at the host."""
        with self._lock:
            for name in list(self._domains):
                self._host.delete(name)
                del self._domains[name]

    def _operations(self) -> dict[str, Operation]:
        return {
            "CreateDomain": operation(self._create, f"DomainName EngineVersion TagList {_OPTIONS}"),
            "DescribeDomain": operation(self._describe, "DomainName"),
            "DescribeDomains": operation(self._describe_all, "DomainNames"),
            "DescribeDomainConfig": operation(self._describe_config, "DomainName"),
            "DescribeDomainChangeProgress": operation(self._progress, "DomainName ChangeId"),
            "UpdateDomainConfig": operation(self._update, f"DomainName {_OPTIONS}"),
            "DeleteDomain": operation(self._delete, "DomainName"),
            "ListDomainNames": operation(self._list, "EngineType"),
            "UpgradeDomain": operation(self._upgrade, "DomainName TargetVersion PerformCheckOnly"),
            "GetUpgradeStatus": operation(self._upgrade_status, "DomainName"),
            "ListVersions": operation(lambda call: page(call, ENGINES, "Versions"), "MaxResults NextToken"),
            "ListTags": operation(self._list_tags, "ARN"),
            "AddTags": operation(self._add_tags, "ARN TagList"),
            "RemoveTags": operation(self._remove_tags, "ARN TagKeys"),
        }

    def _create(self, call: Call) -> Result:
        name = str(call["DomainName"])
        if not _NAME.match(name):
            raise _invalid(
                f"Domain name {name!r} must start with a lowercase letter and must be between 3 and 28"
                " characters: a-z, 0-9 and hyphen"
            )
        if name in self._domains:
            raise ServiceError("ResourceAlreadyExistsException", f"Domain {name} already exists")
        engine = str(call.get("EngineVersion", ENGINES[1]))
        if engine not in ENGINES:
            raise _invalid(f"Unsupported engine version {engine}; there are {', '.join(ENGINES)}")
        options = _defaults(call.region, call.account)
        for key, value in _given(call).items():
            options[key] = _merge(options.get(key), value)
        master = _take_master(options)
        _check(options, master, new=True)
        _check_logs(options, call)
        username = str((master or {}).get("MasterUserName", ""))
        password = str((master or {}).get("MasterUserPassword", ""))
        domain = Domain(
            name,
            call.account,
            call.region,
            f"arn:aws:es:{call.region}:{call.account}:domain/{name}",
            engine,
            self._host.create(name, username, password),
            self._now(),
            self._clock() + self._controls.pace("domain_create").seconds,
            username,
            options,
            {tag["Key"]: tag["Value"] for tag in call.get("TagList", [])},
        )
        self._domains[name] = domain
        return {"DomainStatus": self._status(domain)}

    def _describe(self, call: Call) -> Result:
        domain = self._find(call)
        return {"DomainStatus": self._controls.shown("domain", domain.name, self._status(domain))}

    def _describe_all(self, call: Call) -> Result:
        found = [self._domains[name] for name in call["DomainNames"] if name in self._domains]
        return {"DomainStatusList": [self._status(domain) for domain in found if self._is_here(call, domain)]}

    def _describe_config(self, call: Call) -> Result:
        return {"DomainConfig": self._config(self._find(call))}

    def _progress(self, call: Call) -> Result:
        domain = self._find(call)
        status = "PROCESSING" if self._processing(domain) else "COMPLETED"
        return {"ChangeProgressStatus": {"ChangeId": "sandbox", "Status": status}}

    def _update(self, call: Call) -> Result:
        domain = self._find(call)
        options = dict(domain.options)
        for key, value in _given(call).items():
            options[key] = _merge(options.get(key), value)
        master = _take_master(options)
        _check(options, master, new=False)
        _check_logs(options, call)
        domain.options = options
        if master is not None:
            domain.username = str(master.get("MasterUserName") or domain.username)
            self._host.update(domain.name, domain.username, str(master["MasterUserPassword"]))
        return {"DomainConfig": self._config(domain)}

    def _delete(self, call: Call) -> Result:
        domain = self._find(call)
        self._host.delete(domain.name)
        del self._domains[domain.name]
        return {"DomainStatus": {**self._status(domain), "Deleted": True, "Processing": True}}

    def _list(self, call: Call) -> Result:
        if call.get("EngineType") == "Elasticsearch":
            return {"DomainNames": []}
        names = sorted(domain.name for domain in self._domains.values() if self._is_here(call, domain))
        return {"DomainNames": [{"DomainName": name, "EngineType": "OpenSearch"} for name in names]}

    def _upgrade(self, call: Call) -> Result:
        domain, target = self._find(call), str(call["TargetVersion"])
        if target not in ENGINES or ENGINES.index(target) >= ENGINES.index(domain.engine):
            raise _invalid(f"Cannot upgrade from {domain.engine} to {target}")
        if not call.get("PerformCheckOnly"):
            domain.upgrade = f"Upgrade from {domain.engine} to {target}"
            domain.engine = target
        return {"DomainName": domain.name, "TargetVersion": target, "UpgradeId": "sandbox"}

    def _upgrade_status(self, call: Call) -> Result:
        domain = self._find(call)
        return {"UpgradeStep": "UPGRADE", "StepStatus": "SUCCEEDED", "UpgradeName": domain.upgrade}

    def _list_tags(self, call: Call) -> Result:
        tags = self._by_arn(call).tags
        return {"TagList": [{"Key": key, "Value": value} for key, value in tags.items()]}

    def _add_tags(self, call: Call) -> Result:
        self._by_arn(call).tags.update({tag["Key"]: tag["Value"] for tag in call["TagList"]})
        return {}

    def _remove_tags(self, call: Call) -> Result:
        tags = self._by_arn(call).tags
        for key in call["TagKeys"]:
            tags.pop(key, None)
        return {}

    def _find(self, call: Call) -> Domain:
        domain = self._domains.get(str(call["DomainName"]))
        if domain is None or not self._is_here(call, domain):
            raise ServiceError("ResourceNotFoundException", f"Domain not found: {call['DomainName']}")
        return domain

    def _by_arn(self, call: Call) -> Domain:
        for domain in self._domains.values():
            if domain.arn == call["ARN"]:
                return domain
        raise _invalid(f"Domain not found: {call['ARN']}")

    @staticmethod
    def _is_here(call: Call, domain: Domain) -> bool:
        return (domain.account, domain.region) == (call.account, call.region)

    def _processing(self, domain: Domain) -> bool:
        return self._clock() < domain.ready_at

    def _status(self, domain: Domain) -> dict[str, Any]:
        """The domain as DescribeDomain shows it."""
        processing = self._processing(domain)
        shown = {key: value for key, value in domain.options.items() if value is not None}
        auto_tune = shown.pop("AutoTuneOptions")
        status: dict[str, Any] = {
            **shown,
            "DomainId": f"{domain.account}/{domain.name}",
            "DomainName": domain.name,
            "ARN": domain.arn,
            "Created": True,
            "Deleted": False,
            "EngineVersion": domain.engine,
            "Processing": processing,
            "UpgradeProcessing": False,
            "DomainProcessingStatus": "Creating" if processing else "Active",
            "AutoTuneOptions": {
                "State": auto_tune["DesiredState"],
                "UseOffPeakWindow": auto_tune["UseOffPeakWindow"],
            },
            "ServiceSoftwareOptions": {
                "CurrentVersion": "OpenSearch_2_19_R20250604",
                "NewVersion": "",
                "UpdateAvailable": False,
                "Cancellable": False,
                "UpdateStatus": "COMPLETED",
                "Description": "There is no software update available for this domain.",
                "OptionalDeployment": True,
            },
        }
        if not processing:
            status["Endpoint"] = domain.endpoint
        return status

    def _config(self, domain: Domain) -> dict[str, Any]:
        """The domain as DescribeDomainConfig shows it."""
        state = {
            "CreationDate": domain.created_at,
            "UpdateDate": domain.created_at,
            "UpdateVersion": 1,
            "State": "Processing" if self._processing(domain) else "Active",
            "PendingDeletion": False,
        }
        shown: dict[str, Any] = {
            key: {"Options": value, "Status": state}
            for key, value in {**domain.options, "EngineVersion": domain.engine}.items()
            if value is not None
        }
        enabled = domain.options["AutoTuneOptions"]["DesiredState"]
        shown["AutoTuneOptions"]["Status"] = {**state, "State": enabled}
        return shown


def _given(call: Call) -> dict[str, Any]:
    """The options that a call gives."""
    names = _OPTIONS.split()
    return {name: call.parameters[name] for name in names if call.parameters.get(name) is not None}


def _defaults(region: str, account: str) -> dict[str, Any]:
    """The options of a domain that gives none."""
    return {
        "ClusterConfig": {
            "InstanceType": "m5.large.search",
            "InstanceCount": 1,
            "DedicatedMasterEnabled": False,
            "ZoneAwarenessEnabled": False,
            "WarmEnabled": False,
            "ColdStorageOptions": {"Enabled": False},
            "MultiAZWithStandbyEnabled": False,
        },
        "EBSOptions": {"EBSEnabled": False},
        "AccessPolicies": "",
        "IPAddressType": "ipv4",
        "SnapshotOptions": {"AutomatedSnapshotStartHour": 0},
        "CognitoOptions": {"Enabled": False},
        "EncryptionAtRestOptions": {
            "Enabled": False,
            # The account's key for the service; shown once encryption is on.
            "KmsKeyId": f"arn:aws:kms:{region}:{account}:key/00000000-0000-4000-8000-000000000e50",
        },
        "NodeToNodeEncryptionOptions": {"Enabled": False},
        "AdvancedOptions": {
            "override_main_response_version": "false",
            "rest.action.multi.allow_explicit_index": "true",
        },
        "LogPublishingOptions": None,
        "DomainEndpointOptions": {
            "EnforceHTTPS": False,
            "TLSSecurityPolicy": "Policy-Min-TLS-1-2-2019-07",
            "CustomEndpointEnabled": False,
        },
        "AdvancedSecurityOptions": {
            "Enabled": False,
            "InternalUserDatabaseEnabled": False,
            "AnonymousAuthEnabled": False,
        },
        "AutoTuneOptions": {
            "DesiredState": "ENABLED",
            "RollbackOnDisable": "NO_ROLLBACK",
            "UseOffPeakWindow": False,
            "MaintenanceSchedules": [],
        },
        "OffPeakWindowOptions": {
            "Enabled": True,
            "OffPeakWindow": {"WindowStartTime": {"Hours": 13, "Minutes": 0}},
        },
        "SoftwareUpdateOptions": {"AutoSoftwareUpdateEnabled": False},
    }


def _merge(old: Any, new: Any) -> Any:
    """An option after a change: structures keep the members that the change does not name."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return {
            **old,
            **{key: _merge(old.get(key), value) for key, value in new.items() if value is not None},
        }
    return new


def _take_master(options: dict[str, Any]) -> Mapping[str, Any] | None:
    """Take the master user out of the options, so that the password is never kept or shown."""
    security = dict(options["AdvancedSecurityOptions"])
    master = security.pop("MasterUserOptions", None)
    options["AdvancedSecurityOptions"] = security
    if master is None or not (master.get("MasterUserName") or master.get("MasterUserPassword")):
        return None
    return dict(master)


def _check(options: Mapping[str, Any], master: Mapping[str, Any] | None, *, new: bool) -> None:
    """Raise ServiceError for what a real domain refuses."""
    cluster, volumes = options["ClusterConfig"], options["EBSOptions"]
    if cluster["ZoneAwarenessEnabled"]:
        zones = int((cluster.get("ZoneAwarenessConfig") or {}).get("AvailabilityZoneCount") or 2)
        if int(cluster["InstanceCount"]) < zones:
            raise _invalid(
                f"You must choose a minimum of {zones} data nodes for a {zones} Availability Zone deployment"
            )
    if volumes.get("EBSEnabled") and volumes.get("VolumeType") == "gp3":
        volumes.setdefault("Iops", 3000)
        volumes.setdefault("Throughput", 125)
    security = options["AdvancedSecurityOptions"]
    if not security["Enabled"]:
        if master is not None:
            raise _invalid("A master user needs fine-grained access control")
        _check_policy(options["AccessPolicies"])
        return
    for wanted, what in (
        (options["EncryptionAtRestOptions"]["Enabled"], "encryption at rest"),
        (options["NodeToNodeEncryptionOptions"]["Enabled"], "node-to-node encryption"),
        (options["DomainEndpointOptions"]["EnforceHTTPS"], "Enforce HTTPS in the domain endpoint options"),
    ):
        if not wanted:
            raise _invalid(f"You must enable {what} to use advanced security options")
    if not security["InternalUserDatabaseEnabled"]:
        raise _invalid("the sandbox models the internal user database only, not an IAM master user")
    if new and master is None:
        raise _invalid("A master user is needed with the internal user database")
    if master is not None:
        _check_password(str(master.get("MasterUserPassword") or ""))


def _check_policy(policy: str) -> None:
    """Raise ServiceError for a policy that opens a domain without access control to everybody."""
    for statement in json.loads(policy or "{}").get("Statement", []):
        if statement.get("Principal") in ("*", {"AWS": "*"}) and not statement.get("Condition"):
            raise _invalid(
                "Apply a restrictive access policy to your domain, or enable fine-grained access control"
            )


def _check_password(password: str) -> None:
    wanted = (r"[A-Z]", r"[a-z]", r"[0-9]", r"[^A-Za-z0-9]")
    if not 8 <= len(password) <= 128 or not all(re.search(pattern, password) for pattern in wanted):
        raise _invalid(
            "The master user password must be 8 to 128 characters long and contain at least one uppercase"
            " letter, one lowercase letter, one number, and one special character"
        )


def _check_logs(options: Mapping[str, Any], call: Call) -> None:
    """Raise ServiceError unless CloudWatch lets the service write to the log groups that are named."""
    published = [
        each for each in (options["LogPublishingOptions"] or {}).values() if each.get("Enabled", True)
    ]
    if not published:
        return
    from moto.logs.models import logs_backends

    policies = logs_backends[call.account][call.region].resource_policies.values()
    if not any("es.amazonaws.com" in str(policy.policy_document) for policy in policies):
        raise _invalid(
            "The Resource Access Policy specified for the CloudWatch Logs log group"
            f" {published[0].get('CloudWatchLogsLogGroupArn')} does not grant sufficient permissions for"
            " Amazon OpenSearch Service to create a log stream."
        )


def _invalid(message: str) -> ServiceError:
    return ServiceError("ValidationException", message)
