"""OpenSearch domains: what Terraform reads back, the master user, and what a real domain refuses."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

Refuses = Callable[..., str]
PASSWORD = "Sentinel-Passw0rd"


def wanted(name: str) -> dict[str, Any]:
    """A domain as the search stack makes it."""
    return {
        "DomainName": name,
        "EngineVersion": "OpenSearch_2.19",
        "ClusterConfig": {
            "InstanceType": "r6g.large.search",
            "InstanceCount": 3,
            "ZoneAwarenessEnabled": True,
            "ZoneAwarenessConfig": {"AvailabilityZoneCount": 3},
        },
        "EBSOptions": {"EBSEnabled": True, "VolumeType": "gp3", "VolumeSize": 100},
        "EncryptionAtRestOptions": {"Enabled": True},
        "NodeToNodeEncryptionOptions": {"Enabled": True},
        "DomainEndpointOptions": {
            "EnforceHTTPS": True,
            "TLSSecurityPolicy": "Policy-Min-TLS-1-2-PFS-2023-10",
        },
        "AdvancedSecurityOptions": {
            "Enabled": True,
            "InternalUserDatabaseEnabled": True,
            "MasterUserOptions": {"MasterUserName": "cali-admin", "MasterUserPassword": PASSWORD},
        },
        "AutoTuneOptions": {"DesiredState": "ENABLED", "UseOffPeakWindow": True},
        "TagList": [{"Key": "stack", "Value": "search"}],
    }


def test_a_domain_shows_what_it_was_given(world: Any) -> None:
    client = world.client("opensearch")
    given = wanted("shown")
    made = client.create_domain(**given)["DomainStatus"]
    status = client.describe_domain(DomainName="shown")["DomainStatus"]
    assert made["ARN"] == status["ARN"] == f"arn:aws:es:ap-northeast-2:{world.aws.account}:domain/shown"
    assert status["Endpoint"] == "127.0.0.1:9200"
    assert (status["Created"], status["Processing"], status["Deleted"]) == (True, False, False)
    assert status["ClusterConfig"] == {
        **given["ClusterConfig"],
        "DedicatedMasterEnabled": False,
        "WarmEnabled": False,
        "ColdStorageOptions": {"Enabled": False},
        "MultiAZWithStandbyEnabled": False,
    }
    assert status["EBSOptions"] == {**given["EBSOptions"], "Iops": 3000, "Throughput": 125}
    assert status["AutoTuneOptions"] == {"State": "ENABLED", "UseOffPeakWindow": True}
    config = client.describe_domain_config(DomainName="shown")["DomainConfig"]
    assert config["AutoTuneOptions"]["Options"]["DesiredState"] == "ENABLED"
    assert config["EngineVersion"]["Options"] == "OpenSearch_2.19"
    assert client.list_tags(ARN=status["ARN"])["TagList"] == given["TagList"]
    assert {"DomainName": "shown", "EngineType": "OpenSearch"} in client.list_domain_names()["DomainNames"]


def test_the_password_goes_to_the_domain_and_is_never_shown(world: Any) -> None:
    client = world.client("opensearch")
    answers = [client.create_domain(**wanted("secret"))]
    assert world.domains.masters["secret"] == ("cali-admin", PASSWORD)
    changed = {
        "Enabled": True,
        "InternalUserDatabaseEnabled": True,
        "MasterUserOptions": {"MasterUserPassword": PASSWORD + "2"},
    }
    answers.append(client.update_domain_config(DomainName="secret", AdvancedSecurityOptions=changed))
    assert world.domains.masters["secret"] == ("cali-admin", PASSWORD + "2")
    answers += [
        client.describe_domain(DomainName="secret"),
        client.describe_domain_config(DomainName="secret"),
        client.delete_domain(DomainName="secret"),
    ]
    assert PASSWORD not in json.dumps(answers, default=str)


def test_a_deleted_domain_is_gone_at_once(world: Any, refuses: Refuses) -> None:
    client = world.client("opensearch")
    client.create_domain(**wanted("brief"))
    assert client.delete_domain(DomainName="brief")["DomainStatus"]["Deleted"] is True
    refuses("ResourceNotFoundException", client.describe_domain, DomainName="brief")
    refuses("ResourceNotFoundException", client.describe_domain_config, DomainName="brief")
    assert "brief" not in world.domains.masters


def test_a_change_keeps_what_it_does_not_name(world: Any) -> None:
    client = world.client("opensearch")
    client.create_domain(**wanted("changed"))
    client.update_domain_config(DomainName="changed", EBSOptions={"VolumeSize": 200})
    status = client.describe_domain(DomainName="changed")["DomainStatus"]
    assert status["EBSOptions"]["VolumeSize"] == 200
    assert status["EBSOptions"]["VolumeType"] == "gp3"
    assert world.domains.masters["changed"] == ("cali-admin", PASSWORD)
    arn = status["ARN"]
    client.add_tags(ARN=arn, TagList=[{"Key": "team", "Value": "logs"}])
    client.remove_tags(ARN=arn, TagKeys=["stack"])
    assert client.list_tags(ARN=arn)["TagList"] == [{"Key": "team", "Value": "logs"}]


def test_a_domain_is_upgraded_forward_only(world: Any, refuses: Refuses) -> None:
    client = world.client("opensearch")
    client.create_domain(**wanted("upgraded"))
    of_it = {"DomainName": "upgraded"}
    refuses("ValidationException", client.upgrade_domain, **of_it, TargetVersion="OpenSearch_2.13")
    client.upgrade_domain(**of_it, TargetVersion="OpenSearch_3.1")
    assert client.get_upgrade_status(**of_it)["StepStatus"] == "SUCCEEDED"
    assert client.describe_domain(**of_it)["DomainStatus"]["EngineVersion"] == "OpenSearch_3.1"


def test_a_slow_domain_has_no_endpoint_yet(world: Any) -> None:
    client = world.client("opensearch")
    world.aws.controls.delay("domain_create", 60)
    status = client.create_domain(**wanted("slow"))["DomainStatus"]
    world.aws.controls.clear()
    assert (status["Processing"], "Endpoint" in status) == (True, False)
    world.time.seconds += 60
    status = client.describe_domain(DomainName="slow")["DomainStatus"]
    assert (status["Processing"], status["Endpoint"]) == (False, "127.0.0.1:9200")


def without(option: str, **members: Any) -> Callable[[dict[str, Any]], None]:
    def change(domain: dict[str, Any]) -> None:
        domain[option].update(members)

    return change


def password(text: str) -> Callable[[dict[str, Any]], None]:
    def change(domain: dict[str, Any]) -> None:
        domain["AdvancedSecurityOptions"]["MasterUserOptions"]["MasterUserPassword"] = text

    return change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (without("EncryptionAtRestOptions", Enabled=False), "encryption at rest"),
        (without("NodeToNodeEncryptionOptions", Enabled=False), "node-to-node"),
        (without("DomainEndpointOptions", EnforceHTTPS=False), "HTTPS"),
        (without("ClusterConfig", InstanceCount=2), "3 Availability Zone"),
        (without("AdvancedSecurityOptions", MasterUserOptions=None), "master user"),
        (password("NoDigits-Here"), "number"),
        (password("alllowercase-1"), "uppercase"),
        (password("NoSpecial1234"), "special"),
        (lambda domain: domain.update(EngineVersion="OpenSearch_0.1"), "engine version"),
        (lambda domain: domain.update(DomainName="Upper"), "Upper|DomainName"),
        (lambda domain: domain.update(DomainName="a" * 29), "28|DomainName"),
    ],
)
def test_what_a_domain_takes_half_an_hour_to_fail_on_is_refused_at_once(
    world: Any, refuses: Refuses, change: Callable[[dict[str, Any]], Any], named: str
) -> None:
    domain = copy.deepcopy(wanted("wrong"))
    change(domain)
    if domain["AdvancedSecurityOptions"].get("MasterUserOptions", 0) is None:
        del domain["AdvancedSecurityOptions"]["MasterUserOptions"]
    message = refuses("ValidationException", world.client("opensearch").create_domain, **domain)
    assert any(part in message for part in named.split("|"))
    assert "wrong" not in world.domains.masters


def test_logs_need_a_policy_of_cloudwatch(world: Any, refuses: Refuses) -> None:
    client = world.client("opensearch")
    group = f"arn:aws:logs:ap-northeast-2:{world.aws.account}:log-group:/aws/opensearch/logged"
    logs = {"ES_APPLICATION_LOGS": {"CloudWatchLogsLogGroupArn": group, "Enabled": True}}
    domain = {**wanted("logged"), "LogPublishingOptions": logs}
    refuses("ValidationException", client.create_domain, **domain)
    allow = {"Effect": "Allow", "Principal": {"Service": "es.amazonaws.com"}, "Action": "logs:*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [{**allow, "Resource": "*"}]})
    world.client("logs").put_resource_policy(policyName="opensearch", policyDocument=policy)
    client.create_domain(**domain)
    status = client.describe_domain(DomainName="logged")["DomainStatus"]
    assert status["LogPublishingOptions"] == logs


def test_a_domain_without_access_control_is_not_open_to_everybody(world: Any, refuses: Refuses) -> None:
    everybody = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "es:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [everybody]})
    create = world.client("opensearch").create_domain
    message = refuses("ValidationException", create, DomainName="open", AccessPolicies=policy)
    assert "restrictive access policy" in message
