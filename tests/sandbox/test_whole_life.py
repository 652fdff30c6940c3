"""The life of one environment, from its first `up` to its `down`, as one story in the order of this file.

A whole `up` takes a minute, so the story is told once: the first run is interrupted, the second fails, the third
goes on from there, and what stands then is looked at from every side.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cali_infra.core import service_pods
from cali_infra.core.service_secrets import SECRETS, SERVICES
from cali_infra.core.settings import load_settings
from cali_infra.core.stages import STAGES
from cali_infra.verify.families import CHECKS
from cali_infra.verify.jobs import PREFIX

from . import charts
from .conftest import JIN, MINA, SENTINEL, Project, Ran

pytestmark = pytest.mark.sandbox

NAMES = [stage.name for stage in STAGES]
ADDONS = {"vpc-cni", "kube-proxy", "coredns", "aws-ebs-csi-driver", "eks-pod-identity-agent"}


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content, but for logs and what Terraform caches."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not path.is_symlink()
        and not {".terraform", "plugins", "logs"} & set(path.relative_to(folder).parts)
        and path.name != "cali.lock"
    }


def test_wrong_settings_touch_nothing(project: Project) -> None:
    before = (project.folder / "cali.yaml").read_text()
    project.settings(regoin="ap-northeast-2", eks={"min_nodes": 9})

    ran = project.cali("up", "--yes")

    assert ran.code == 2
    assert not ran.document["ok"]
    assert ran.document["error"]["code"] == "invalid-settings"
    assert "regoin" in ran.document["error"]["message"]
    assert "region" in ran.document["error"]["message"]
    assert "min_nodes" in ran.err or "max_nodes" in ran.err
    assert not (project.folder / ".cali").exists()
    (project.folder / "cali.yaml").write_text(before)


def test_ctrl_c_while_the_cluster_is_made_ends_cleanly(project: Project) -> None:
    assert project.cali("sandbox", "start").code == 0
    project.hire()
    project.control("delays", {"cluster_create": 12})
    eks = project.aws("eks")

    run = project.start("up", "--yes")
    project.interrupt(run, lambda: bool(eks.list_clusters()["clusters"]))
    ran = project.finish(run)

    assert ran.code == 130, ran.err
    assert ran.stages["network"] == "applied"
    assert ran.stages["eks"] == "failed"
    for name in ("logging", "service-secrets", "services"):
        assert ran.stages[name] == "skipped"
    state = json.loads((project.workspace / "terraform/eks/terraform.tfstate").read_text())
    (cluster,) = [r for r in state["resources"] if r["type"] == "aws_eks_cluster"]
    assert cluster["instances"][0]["status"] == "tainted"
    assert not list(project.workspace.glob("terraform/*/.terraform.tfstate.lock.info"))
    assert not list((project.workspace / "plans").iterdir())


def test_the_next_up_waits_for_that_cluster_and_a_failing_stage_stops_only_what_needs_it(
    project: Project,
) -> None:
    project.control(
        "faults",
        {
            "service": "eks",
            "operation": "CreateNodegroup",
            "code": "InvalidRequestException",
            "message": "no capacity today",
        },
    )
    made = project.aws("eks").describe_cluster(name="cali-default")["cluster"]["createdAt"]

    ran = project.cali("up", "--yes")

    assert ran.code == 1, ran.err
    assert "untainted" in ran.err
    assert project.aws("eks").describe_cluster(name="cali-default")["cluster"]["createdAt"] == made
    stages = ran.stages
    assert stages["network"] == "unchanged"
    assert stages["eks"] == "failed"
    # How far these came before the Ctrl-C is a matter of seconds.
    assert {stages["search"], stages["index"]} <= {"applied", "unchanged"}
    for name in ("access", "autoscaler", "storage", "logging", "service-secrets", "services"):
        assert stages[name] == "skipped"
    (eks,) = [stage for stage in ran.document["stages"] if stage["name"] == "eks"]
    assert "no capacity today" in eks["error"]
    assert "run `cali up` again" in ran.err


def test_a_run_with_json_output_prints_the_whole_document(project: Project) -> None:
    """And the third `up` goes on from there."""
    ran = project.cali("up", "--yes")

    assert ran.code == 0, ran.err
    assert ran.document["ok"]
    assert ran.document["env"] == "default"
    assert [stage["name"] for stage in ran.document["stages"]] == NAMES
    stages = ran.stages
    assert stages["network"] == stages["search"] == stages["index"] == "unchanged"
    for name in ("eks", "access", "autoscaler", "storage", "logging", "service-secrets", "services"):
        assert stages[name] == "applied"
    for stage in ran.document["stages"]:
        assert set(stage) == {"name", "status", "seconds", "add", "change", "destroy", "error"}
    proof = ran.document["verify"]
    assert proof["ok"]
    assert {"eks.cluster-active", "kubernetes.nodes", "search.records"} <= {c["id"] for c in proof["checks"]}
    assert not [check["id"] for check in proof["checks"] if check["id"].startswith("drift.")]


def test_what_stands_in_aws(project: Project) -> None:
    eks = project.aws("eks")
    cluster = eks.describe_cluster(name="cali-default")["cluster"]
    assert cluster["status"] == "ACTIVE"
    assert cluster["accessConfig"]["authenticationMode"] == "API"
    assert cluster["encryptionConfig"][0]["resources"] == ["secrets"]
    assert cluster["resourcesVpcConfig"]["endpointPublicAccess"] is False
    (group,) = eks.list_nodegroups(clusterName="cali-default")["nodegroups"]
    described = eks.describe_nodegroup(clusterName="cali-default", nodegroupName=group)["nodegroup"]
    assert described["status"] == "ACTIVE"
    assert described["launchTemplate"]["id"]
    assert set(eks.list_addons(clusterName="cali-default")["addons"]) == ADDONS
    entries = set(eks.list_access_entries(clusterName="cali-default")["accessEntries"])
    assert {JIN, MINA} <= entries
    policies = {
        arn: eks.list_associated_access_policies(clusterName="cali-default", principalArn=arn)[
            "associatedAccessPolicies"
        ]
        for arn in (JIN, MINA)
    }
    assert policies[JIN][0]["policyArn"].endswith("/AmazonEKSClusterAdminPolicy")
    assert policies[MINA][0]["policyArn"].endswith("/AmazonEKSViewPolicy")
    assert policies[MINA][0]["accessScope"] == {"type": "namespace", "namespaces": ["logging"]}
    identities = eks.list_pod_identity_associations(clusterName="cali-default")["associations"]
    accounts = {(one["namespace"], one["serviceAccount"]) for one in identities}
    assert {("kube-system", "cluster-autoscaler"), ("kube-system", "ebs-csi-controller-sa")} <= accounts
    domain = project.aws("opensearch").describe_domain(DomainName="cali-default")["DomainStatus"]
    assert domain["AdvancedSecurityOptions"]["InternalUserDatabaseEnabled"] is True
    assert domain["DomainEndpointOptions"]["EnforceHTTPS"] is True
    assert domain["NodeToNodeEncryptionOptions"]["Enabled"] is True


def test_what_stands_in_the_cluster(project: Project) -> None:
    classes = project.kubectl("get", "storageclass")["items"]
    key = "storageclass.kubernetes.io/is-default-class"
    defaults = [c for c in classes if c["metadata"].get("annotations", {}).get(key) == "true"]
    assert [c["metadata"]["name"] for c in defaults] == ["gp2"]
    assert defaults[0]["provisioner"] == "ebs.csi.aws.com"
    assert defaults[0]["parameters"]["encrypted"] == "true"
    fluent_bit = project.kubectl("-n", "logging", "get", "daemonset", "fluent-bit")
    assert fluent_bit["status"]["numberReady"] == len(project.kubectl("get", "nodes")["items"]) > 0
    secret = project.kubectl("-n", "logging", "get", "secret", "fluent-bit-opensearch")
    assert secret["data"]["OPENSEARCH_PASSWORD"]


def test_the_services_find_their_namespaces_and_secrets(project: Project) -> None:
    found = {}
    for service in SERVICES:
        space = project.kubectl("get", "namespace", service)
        assert space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "baseline"
        for secret in project.kubectl("-n", service, "get", "secrets")["items"]:
            # Helm's own record of the release is one, too.
            if secret["type"] == "Opaque":
                found[f"{service}/{secret['metadata']['name']}"] = secret["data"]
    expected = {f"{one.service}/{one.name}": {key.name for key in one.keys} for one in SECRETS}
    # The URL goes over SSH, the database is the bundled one.
    del expected["airflow/airflow-git-credentials"]
    expected["airflow/airflow-connections"] -= {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC"}
    assert {name: set(data) for name, data in found.items()} == expected
    key = base64.b64decode(found["airflow/airflow-git-ssh"]["gitSshKey"]).decode()
    assert key.endswith("-----END OPENSSH PRIVATE KEY-----\n")
    url = base64.b64decode(found["airflow/airflow-database-connection"]["connection"]).decode()
    assert url.startswith(f"postgresql://airflow:{SENTINEL}-airflow-database_password-Aa1%24@")
    opensearch = json.loads(
        base64.b64decode(found["airflow/airflow-connections"]["AIRFLOW_CONN_OPENSEARCH_DEFAULT"])
    )
    endpoint = project.record["opensearch_url"].removeprefix("https://")
    assert f"{opensearch['host']}:{opensearch['port']}" == endpoint


def test_the_autoscaler_s_release_has_the_right_values(project: Project) -> None:
    ran = project.cali("sandbox", "status")

    (release,) = [one for one in ran.document["helm_releases"] if one["name"] == "cluster-autoscaler"]
    assert release["namespace"] == "kube-system"
    assert release["version"] == "9.59.0"
    values = release["values"]
    assert values["cloudProvider"] == "aws"
    assert values["awsRegion"] == "ap-northeast-2"
    assert values["autoDiscovery"]["clusterName"] == "cali-default"
    assert values["rbac"]["serviceAccount"] == {"create": True, "name": "cluster-autoscaler"}
    assert values["image"]["tag"].startswith("v1.35.")


def releases(project: Project) -> dict[str, dict[str, Any]]:
    """The services' releases by name, with exactly the values that Terraform planned and applied."""
    ran = project.cali("sandbox", "status")
    return {one["name"]: one for one in ran.document["helm_releases"] if one["name"] in SERVICES}


def test_the_services_are_released_with_no_password_in_any_value(project: Project) -> None:
    found = releases(project)
    assert {name: (one["namespace"], one["chart"], one["version"]) for name, one in found.items()} == {
        "airflow": ("airflow", "airflow", "1.22.0"),
        "milvus": ("milvus", "milvus", "5.0.19"),
        "grafana": ("grafana", "grafana", "12.11.1"),
    }
    endpoint = project.record["opensearch_url"].removeprefix("https://")
    (source,) = found["grafana"]["values"]["datasources"]["datasources.yaml"]["datasources"]
    assert source["url"] == f"https://{endpoint}"
    assert found["airflow"]["values"]["dags"]["gitSync"]["repo"] == "git@git.invalid:acme/dags.git"
    assert SENTINEL not in json.dumps(found)
    planned = planned_json(project, "services")
    assert '"helm_release"' in planned
    assert SENTINEL not in planned


# Source: Grafana's provisioning of data sources, and the plugin's `src/types.ts`.
PROVISIONED = {
    *("name", "uid", "type", "access", "orgId", "url", "isDefault", "editable", "version"),
    *("user", "database", "basicAuth", "basicAuthUser", "withCredentials", "jsonData", "secureJsonData"),
}
OPTIONS = {
    *("database", "timeField", "version", "flavor", "versionLabel", "interval", "timeInterval", "dataLinks"),
    *("maxConcurrentShardRequests", "logMessageField", "logLevelField", "pplEnabled", "serverless"),
}


def test_the_data_source_is_one_that_grafana_provisions(project: Project) -> None:
    values = releases(project)["grafana"]["values"]
    file = values["datasources"]["datasources.yaml"]
    (source,) = file["datasources"]

    assert file["apiVersion"] == 1
    assert source.keys() <= PROVISIONED
    assert source["jsonData"].keys() <= OPTIONS
    assert (source["type"], source["access"]) == (values["plugins"][0].partition("@")[0], "proxy")
    assert re.fullmatch(r"\d+\.\d+\.\d+", source["jsonData"]["version"])
    assert (source["basicAuth"], source["basicAuthUser"]) == (True, "cali-reader")
    # An index of ours, and the field that its template knows as a date.
    assert source["jsonData"]["database"] == "cali-logs-*"
    assert source["jsonData"]["timeField"] == "@timestamp"
    (provider,) = values["dashboardProviders"]["dashboardproviders.yaml"]["providers"]
    assert provider["options"]["path"].rpartition("/")[2] in values["dashboards"]
    for dashboard in values["dashboards"]["default"].values():
        asked = [panel["datasource"] for panel in json.loads(dashboard["json"])["panels"]]
        assert {(one["type"], one["uid"]) for one in asked} == {(source["type"], source["uid"])}


def planned_json(project: Project, stack: str) -> str:
    """The plan of a stack as JSON, as whoever runs plain Terraform in the workspace sees it."""
    import subprocess

    folder = project.workspace / "terraform" / stack
    record = project.record
    environ = {
        **project.environ,
        "AWS_ENDPOINT_URL": record["aws_endpoint"],
        "AWS_ACCESS_KEY_ID": record["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": record["secret_access_key"],
        "AWS_EC2_METADATA_DISABLED": "true",
        "TF_REATTACH_PROVIDERS": record["reattach"],
    }
    out = folder / "looked-at.tfplan"
    printed = ""
    for arguments in (["plan", "-input=false", "-lock=false", f"-out={out}"], ["show", "-json", str(out)]):
        done = subprocess.run(
            ["terraform", *arguments],
            cwd=folder,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        printed = done.stdout
    out.unlink()
    return printed


@pytest.mark.parametrize("service", SERVICES)
def test_every_value_that_is_set_is_one_of_the_chart_s(
    project: Project, service: str, tmp_path: Path
) -> None:
    chart = charts.chart(service, tmp_path)
    found = releases(project)[service]
    if chart.folder is not None:
        assert chart.version == found["version"], "the chart at hand is not the one that is pinned"

    assert charts.unknown(found["values"], chart) == []


@pytest.mark.parametrize("service", SERVICES)
def test_a_real_helm_makes_of_the_values_what_they_mean(
    project: Project, service: str, tmp_path: Path
) -> None:
    found = releases(project)[service]
    objects = charts.rendered(charts.chart(service, tmp_path), service, found["values"], tmp_path)

    look_at(project, service, objects)
    named = {name for one in charts.workloads(objects) for name, _ in charts.secrets_named(one)}
    if service == "airflow":
        # By this name and port Airflow's own Secret looks for it.
        assert charts.ports(objects)["airflow-postgresql"] == [5432]
    # Every Secret that was made for it, but for the one that GitSync would take over HTTPS.
    assert named == {one.name for one in SECRETS if one.service == service} - {"airflow-git-credentials"}
    assert (
        charts.storage_classes(objects)
        == {
            "airflow": {"data-airflow-postgresql": "gp2"},
            "milvus": {"milvus": "gp2", "milvus-minio": "gp2", "data-milvus-etcd": "gp2"},
            "grafana": {"grafana": "gp2"},
        }[service]
    )


EXPECTED_PORTS = {
    "airflow": {"airflow-api-server": [8080]},
    "milvus": {"milvus": [19530, 9091]},
    "grafana": {"grafana": [80]},
}
REGISTRIES = {
    "airflow": {"apache/airflow", "docker.io/bitnamilegacy/postgresql", "registry.k8s.io/git-sync/git-sync"},
    "milvus": {"milvusdb/milvus", "docker.io/milvusdb/etcd", "minio/minio"},
    "grafana": {"docker.io/grafana/grafana", "docker.io/library/busybox", "docker.io/curlimages/curl"},
}


def look_at(project: Project, service: str, objects: list[dict[str, Any]]) -> None:
    """What holds for each release, in whatever way it is set up."""
    import kubernetes_validate

    for obj in objects:
        kubernetes_validate.validate(obj, "1.35", strict=True)
        assert obj["kind"] != "Secret", "the chart makes a password of its own"
        annotations = obj["metadata"].get("annotations") or {}
        assert not [name for name in annotations if name.startswith("helm.sh/hook")], obj["metadata"]["name"]
    text = json.dumps(objects)
    assert SENTINEL not in text
    assert "minioadmin" not in text
    accounts = {obj["metadata"]["name"] for obj in objects if obj["kind"] == "ServiceAccount"}
    there = {
        secret["metadata"]["name"]: set(secret["data"])
        for secret in project.kubectl("-n", service, "get", "secrets")["items"]
    }
    images = set()
    for workload in charts.workloads(objects):
        assert workload.pod["spec"].get("serviceAccountName", "default") in accounts | {"default"}
        for name, key in charts.secrets_named(workload):
            assert key in there[name] or not key, f"{workload.name} looks for {key} in {name}"
        for container in workload.containers:
            repository, _, tag = container["image"].rpartition(":")
            assert tag not in ("", "latest"), container["image"]
            images.add(repository)
        if workload.kind == "Job":
            job = next(obj for obj in objects if obj["metadata"]["name"] == workload.name)
            assert job["spec"]["ttlSecondsAfterFinished"] == 60
    assert images <= REGISTRIES[service]
    found = charts.ports(objects)
    assert {name: found.get(name) for name in EXPECTED_PORTS[service]} == EXPECTED_PORTS[service]
    sizes_are_those_that_were_checked(project, service, objects)


def sizes_are_those_that_were_checked(project: Project, service: str, objects: list[dict[str, Any]]) -> None:
    """What `up` held against the node group is what these pods ask for, pod by pod."""
    secrets = yaml.safe_load((project.folder / "secrets.yaml").read_text())
    pods = service_pods.wanted(
        load_settings(project.folder, {}),
        bundled_database=not secrets["airflow"].get("database_url"),
        git_sync=bool(secrets["gitsync"].get("url")),
    )
    expected = {
        pod.name: (service_pods.requests(pod), pod.replicas) for pod in pods if pod.service == service
    }
    found = {}
    for workload in charts.workloads(objects):
        if workload.kind == "Job":
            continue
        name = workload.name.removeprefix(f"{service}-")
        room = service_pods.Room(0, 0, 1)
        for container in workload.pod["spec"]["containers"]:
            asked = container["resources"]["requests"]
            assert container["resources"]["limits"]["memory"] == asked["memory"]
            cpu, memory = service_pods.quantities(asked["cpu"], asked["memory"])
            room += service_pods.Room(cpu, memory)
        found[name] = (room, workload.replicas)
    assert found == expected


def test_the_writer_and_the_reader_of_the_domain_are_there(project: Project) -> None:
    from pydantic import SecretStr

    from cali_infra.adapters.opensearch import OpenSearch

    endpoint = project.record["opensearch_url"].removeprefix("https://")
    master = SecretStr(f"{SENTINEL}-opensearch-master_password-Aa1$")
    domain = OpenSearch(endpoint, "cali-admin", master, ca_file=Path(project.record["ca_file"]))
    for role in ("writer", "reader"):
        password = SecretStr(f"{SENTINEL}-opensearch-{role}_password-Aa1$")
        assert domain.accepts(f"cali-{role}", password)
        assert not domain.accepts(f"cali-{role}", SecretStr("Wrong-password-1"))
    assert domain.template("cali-logs") is not None


def test_status_shows_it_on_one_screen(project: Project) -> None:
    ran = project.cali("status")

    assert ran.code == 0, ran.err
    document = ran.document
    assert {stage["status"] for stage in document["stages"]} == {"applied"}
    assert {entry["arn"] for entry in document["access"]} == {JIN, MINA}
    assert all(node["ready"] for node in document["nodes"])
    assert {release["name"]: release["status"] for release in document["releases"]} == dict.fromkeys(
        ("cluster-autoscaler", *SERVICES), "deployed"
    )
    assert all(release["chart_version"] and release["app_version"] for release in document["releases"])
    assert document["endpoints"]["opensearch"]


def test_a_context_for_plain_kubectl(project: Project, tmp_path: Path) -> None:
    """Written into a kubeconfig that people keep by hand, with another AWS' keys around kubectl."""
    import subprocess

    path = tmp_path / "kube" / "config"
    path.parent.mkdir()
    path.write_text("# mine\ncurrent-context: home\ncontexts:\n- name: home\n  context: {cluster: home}\n")
    path.chmod(0o600)
    before = tree(project.workspace)

    ran = project.cali(
        "--kubeconfig", str(path), "kubeconfig", "--name", "rehearsal", "--namespace", "logging"
    )

    assert ran.code == 0, ran.err
    document = ran.document
    assert (document["file"], document["context"], document["changed"]) == (str(path), "rehearsal", True)
    assert document["problem"] is None
    assert ":user/" in document["caller"]
    assert path.read_text().startswith("# mine\ncurrent-context: rehearsal\ncontexts:\n- name: home\n")
    assert tree(project.workspace) == before

    def kubectl(*arguments: str) -> str:
        done = subprocess.run(
            ["kubectl", "--kubeconfig", str(path), *arguments],
            cwd=tmp_path,
            env={
                **project.environ,
                "AWS_PROFILE": "no-such-profile",
                "AWS_ACCESS_KEY_ID": "AKIAOTHER",
                "AWS_SECRET_ACCESS_KEY": "other",
                "AWS_SESSION_TOKEN": "other",
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "namespace/logging\n" in kubectl("get", "namespaces", "-o", "name")
    # In the namespace that was asked for.
    assert "daemonset.apps/fluent-bit\n" in kubectl("get", "daemonsets", "-o", "name")
    assert kubectl("config", "get-contexts", "-o", "name").split() == ["home", "rehearsal"]
    # kubectl writes the file anew, in its own way; it is still found to be right.
    kubectl("config", "set-cluster", "other", "--server", "https://other")
    again = project.cali("--kubeconfig", str(path), "kubeconfig", "--name", "rehearsal")
    assert (again.code, again.document["changed"], again.document["backup"]) == (0, False, None)


def checks(ran: Ran) -> dict[str, str]:
    """Status by check."""
    return {check["id"]: check["status"] for check in ran.document["checks"]}


def test_verify_proves_that_it_works(project: Project, tmp_path: Path) -> None:
    """Drift included, and in every form."""
    xml, html = tmp_path / "report.xml", tmp_path / "report.html"

    ran = project.cali("verify", "--junit", str(xml), "--html", str(html))

    assert ran.code == 0, ran.err
    found = checks(ran)
    assert set(found) == {check.id for check in CHECKS if not check.option}
    assert {name: status for name, status in found.items() if status != "pass"} == {}, ran.document
    for path in (xml, html):
        assert "drift.eks" in path.read_text()
        assert SENTINEL not in path.read_text()


def test_a_log_line_is_followed_to_grafana_and_milvus_and_a_volume_comes_and_goes(project: Project) -> None:
    """By the names and the passwords that the stages have made; which commit a repository on another machine is at,
    a rehearsal leaves open."""
    ran = project.cali("verify", "e2e", "deep.volume")

    assert ran.code == 0, ran.err
    found = {name: status for name, status in checks(ran).items() if name.startswith(("e2e.", "deep."))}
    assert set(found) == {c.id for c in CHECKS if c.option} - {"deep.scale-up"}
    assert {name: status for name, status in found.items() if status != "pass"} == {"e2e.git-sync": "warn"}
    assert "a rehearsal asks no other machine" in ran.out
    assert SENTINEL not in ran.out + ran.err
    marked = ("--all-namespaces", "-l", "app.kubernetes.io/name=cali-verify")
    assert project.kubectl("get", "jobs,pods", *marked)["items"] == []
    spaces = [one["metadata"]["name"] for one in project.kubectl("get", "namespaces")["items"]]
    assert not [name for name in spaces if name.startswith(PREFIX)]
    workloads = {one["name"]: one for one in project.cali("status").document["releases"]}
    for service in SERVICES:
        assert workloads[service]["ready"] == workloads[service]["workloads"] > 0


def test_verify_sees_what_was_changed_outside_and_what_up_would_do(project: Project) -> None:
    eks = project.aws("eks")
    (group,) = eks.list_nodegroups(clusterName="cali-default")["nodegroups"]
    names = {"clusterName": "cali-default", "nodegroupName": group}
    sizes = eks.describe_nodegroup(**names)["nodegroup"]["scalingConfig"]
    eks.update_nodegroup_config(**names, scalingConfig={**sizes, "maxSize": 20})
    project.settings(autoscaler={"image_tag": "v1.35.1"})

    ran = project.cali("verify", "drift.eks", "drift.autoscaler")

    eks.update_nodegroup_config(**names, scalingConfig=sizes)
    project.settings(autoscaler={"image_tag": "v1.35.0"})
    assert ran.code == 1, ran.err
    found = {check["id"]: check for check in ran.document["checks"]}
    assert found["drift.eks"]["status"] == "fail"
    assert found["drift.eks"]["detail"] == "changed outside: aws_eks_node_group.this (scaling_config)"
    assert found["drift.eks"]["remedy"].splitlines()[-1] == "cali up eks"
    # What nobody has changed outside is no such thing.
    assert found["drift.autoscaler"]["status"] == "warn"
    assert found["drift.autoscaler"]["detail"] == "`up` would update helm_release.this"
    assert not list((project.workspace / "plans").iterdir())


def test_ctrl_c_in_verify_reports_what_is_known_and_leaves_nothing_behind(project: Project) -> None:
    log = project.workspace / "logs/cali.log"
    before = len(log.read_text())

    run = project.start("verify", "aws")
    project.interrupt(run, lambda: "$ terraform plan" in log.read_text()[before:])
    ran = project.finish(run)

    assert ran.code == 130, ran.err
    assert ran.document["interrupted"] is True
    assert checks(ran)["aws.identity"] == "pass"
    drift = [check for check in ran.document["checks"] if check["id"].startswith("drift.")]
    # One plan may have been done by then; none is a failure.
    assert {check["status"] for check in drift} in ({"skip"}, {"skip", "pass"})
    assert not list((project.workspace / "plans").iterdir())
    if Path("/proc/self").is_dir():
        assert not [folder for folder in working_folders() if folder.is_relative_to(project.workspace)]


def working_folders() -> Iterator[Path]:
    """The folder that each process of this machine works in, as far as it may be known."""
    for entry in Path("/proc").glob("[0-9]*/cwd"):
        try:
            yield entry.readlink()
        except OSError:
            continue


def test_verify_sees_a_crash_in_the_cluster(project: Project) -> None:
    pods = project.kubectl("-n", "kube-system", "get", "pods")["items"]
    pod = next(p["metadata"]["name"] for p in pods if p["metadata"]["name"].startswith("coredns"))
    fail = "sandbox.cali.dev/fail"
    project.kubectl("-n", "kube-system", "annotate", "pod", pod, f"{fail}=CrashLoopBackOff")

    ran = project.cali("verify", "kubernetes.system-pods")

    project.kubectl("-n", "kube-system", "annotate", "pod", pod, f"{fail}-")
    assert ran.code == 1, ran.err
    (bad,) = [check for check in ran.document["checks"] if check["status"] == "fail"]
    assert bad["id"] == "kubernetes.system-pods"
    assert "CrashLoopBackOff" in bad["detail"]
    assert bad["remedy"] == f"kubectl -n kube-system describe pod {pod}"
    waited = project.cali("verify", "kubernetes.system-pods", "--wait", "1m")
    assert waited.code == 0, waited.err


def test_another_up_changes_nothing(project: Project) -> None:
    before = tree(project.workspace)

    ran = project.cali("up", "--yes")

    assert ran.code == 0, ran.err
    assert set(ran.stages.values()) == {"unchanged"}
    assert tree(project.workspace) == before
    planned = project.cali("plan", "--exit-code")
    assert planned.code == 0, planned.err
    assert set(planned.stages.values()) == {"unchanged"}


def test_an_upgrade_that_was_killed_is_shown_and_taken_off_the_record(project: Project) -> None:
    from dataclasses import replace
    from datetime import timedelta

    from cali_infra.adapters.kubernetes import Kubernetes, ObjectRef
    from cali_infra.sandbox.helm.releases import decode, encode

    kubernetes = Kubernetes.from_kubeconfig(Path(project.record["kubeconfig"]))
    name = "sh.helm.release.v1.grafana.v1"
    last = decode(kubernetes.get(ObjectRef("v1", "Secret", "grafana", name)) or {})
    began = last.last_deployed - timedelta(days=1)
    killed = replace(last, revision=2, status="pending-upgrade", last_deployed=began, description="Killed")
    kubernetes.create(encode(killed, "createdAt"))

    planned = project.cali("plan", "services")
    assert "grafana/grafana is pending-upgrade" in planned.err
    ran = project.cali("up", "services", "--yes")

    assert ran.code == 0, ran.err
    assert "goes: Secret grafana/sh.helm.release.v1.grafana.v2" in ran.err
    assert ran.stages == {"services": "unchanged"}
    assert kubernetes.get(ObjectRef("v1", "Secret", "grafana", killed.secret_name)) is None
    (kept,) = (project.workspace / "diagnostics").iterdir()
    assert "pending-upgrade" in kept.read_text()


def test_replacing_the_network_is_refused_and_touches_nothing(project: Project) -> None:
    project.settings(network={"cidr": "10.77.0.0/16"})
    states = {path: path.read_bytes() for path in project.workspace.glob("terraform/*/terraform.tfstate")}

    planned = project.cali("plan", "network", "--exit-code")
    assert planned.code == 4, planned.err
    (network,) = planned.document["stages"]
    assert {"address": "aws_vpc.this", "action": "replace"} in network["resources"]
    ran = project.cali("up", "network", "--yes")

    assert ran.code == 3
    assert ran.document["error"]["code"] == "guarded-change"
    assert "--allow-replace 'aws_vpc.this'" in ran.document["error"]["remedy"]
    assert {path: path.read_bytes() for path in states} == states
    assert not list((project.workspace / "plans").iterdir())
    project.settings(network={"cidr": "10.40.0.0/16"})


def test_a_service_is_switched_off(project: Project) -> None:
    project.settings(services={"milvus": False})
    ran = project.cali("up", "service-secrets", "services", "--yes")
    assert ran.code == 0, ran.err
    secrets, services = ran.document["stages"]
    assert (secrets["status"], secrets["destroy"]) == ("applied", 2)
    assert (services["status"], services["add"], services["destroy"]) == ("applied", 0, 1)
    assert "Namespace milvus stays" in ran.err
    assert set(releases(project)) == {"airflow", "grafana"}
    assert project.kubectl("get", "namespace", "milvus")["status"]["phase"] == "Active"
    assert project.kubectl("-n", "milvus", "get", "secrets")["items"] == []
    planned = project.cali("plan", "service-secrets")
    assert planned.stages == {"service-secrets": "unchanged"}
    assert "Namespace milvus stays" not in planned.err


def test_it_is_switched_on_again_and_all_else_is_set_up_in_its_other_way(project: Project) -> None:
    """Milvus as a cluster in S3, Airflow with a database elsewhere and DAGs over HTTPS."""

    def elsewhere(secrets: dict[str, Any]) -> None:
        secrets["airflow"]["database_url"] = f"postgresql://air:{SENTINEL}-outside@db.invalid:5432/metadata"
        secrets["gitsync"] = {"url": "https://git.invalid/acme/dags", "token": f"{SENTINEL}-token"}

    project.secrets(elsewhere)
    project.settings(services={"milvus": True}, milvus={"mode": "cluster", "bucket": "acme-milvus"})
    missing = project.cali("plan", "services")
    assert missing.code == 1
    assert "acme-milvus" in missing.err
    project.aws("s3").create_bucket(
        Bucket="acme-milvus", CreateBucketConfiguration={"LocationConstraint": "ap-northeast-2"}
    )

    ran = project.cali("up", "service-secrets", "services", "--yes")

    assert ran.code == 0, ran.err
    services = ran.document["stages"][1]
    # The release, a role with its policy, and the issuer that it trusts; Airflow is set up anew.
    assert (services["add"], services["change"], services["destroy"]) == (4, 1, 0)
    values = releases(project)["milvus"]["values"]
    role = project.aws("iam").get_role(RoleName="cali-default-ap-northeast-2-milvus")["Role"]
    assert values["serviceAccount"]["annotations"] == {"eks.amazonaws.com/role-arn": role["Arn"]}
    assert values["externalS3"]["bucketName"] == "acme-milvus"
    again = project.cali("plan", "service-secrets", "services")
    assert again.stages == {"service-secrets": "unchanged", "services": "unchanged"}


@pytest.mark.parametrize("service", ["airflow", "milvus"])
def test_a_real_helm_makes_sense_of_the_other_way_too(project: Project, service: str, tmp_path: Path) -> None:
    chart = charts.chart(service, tmp_path)
    values = releases(project)[service]["values"]
    assert charts.unknown(values, chart) == []
    objects = charts.rendered(chart, service, values, tmp_path)

    look_at(project, service, objects)
    named = {name for one in charts.workloads(objects) for name, _ in charts.secrets_named(one)}
    if service == "airflow":
        assert "airflow-git-credentials" in named
        assert not {"airflow-git-ssh", "airflow-database"} & named
        assert charts.storage_classes(objects) == {}
    else:
        assert named == {"milvus-root"}
        assert charts.storage_classes(objects) == {"data-milvus-etcd": "gp2"}
        assert {one.name for one in charts.workloads(objects)} == {
            f"milvus-{part}"
            for part in ("proxy", "mixcoord", "querynode", "datanode", "streamingnode", "etcd")
        }
        (config,) = [
            obj["data"]["default.yaml"]
            for obj in objects
            if obj["kind"] == "ConfigMap" and "default.yaml" in obj["data"]
        ]
        settings = yaml.safe_load(config)
        assert settings["mq"]["type"] == "woodpecker"
        assert settings["minio"]["useIAM"] is True
        assert settings["minio"]["address"] == "s3.ap-northeast-2.amazonaws.com"
        budgets = [obj for obj in objects if obj["kind"] == "PodDisruptionBudget"]
        assert [one["metadata"]["name"] for one in budgets] == ["milvus-etcd"]


def test_a_new_password_is_shown_without_it(project: Project) -> None:
    """And so is what changes with it, the Secret and who reads it; nothing is applied here."""

    def grafana(password: str) -> None:
        project.secrets(lambda secrets: secrets["grafana"].update(admin_password=password))

    grafana(f"{SENTINEL}-another-one")
    ran = project.cali("plan", "service-secrets", "services", "--exit-code")
    grafana(f"{SENTINEL}-grafana-admin_password-Aa1$")
    assert ran.code == 4, ran.err
    secrets, services = ran.document["stages"]
    assert secrets["resources"] == [{"address": "Secret grafana/grafana-admin", "action": "update"}]
    assert services["resources"] == [{"address": "helm_release.grafana[0]", "action": "update"}]
    assert "data.admin-password: changed" in ran.err
    assert "Grafana's admin: the password is changed in the running application first" in ran.err


def test_without_a_terminal_nothing_is_applied_unasked(project: Project) -> None:
    project.settings(eks={"max_nodes": 9})

    ran = project.cali("up", "eks")

    assert ran.code == 3
    assert "--yes" in ran.document["error"]["remedy"]
    project.settings(eks={"max_nodes": 8})


def test_a_plan_says_what_would_stop_up(project: Project) -> None:
    settings = yaml.safe_load((project.folder / "cali.yaml").read_text())
    sizes = settings.get("grafana", {}).get("sizes", {})
    project.settings(grafana={"sizes": {**sizes, "grafana": {"cpu": 2, "memory": "900Gi"}}})

    ran = project.cali("plan", "services")

    project.settings(grafana={"sizes": sizes})
    assert ran.code == 0, ran.err
    assert "`cali up` would stop here:" in ran.err
    assert "grafana/grafana asks for" in ran.err


def test_one_stage_alone(project: Project) -> None:
    ran = project.cali("up", "storage", "--yes")

    assert ran.code == 0, ran.err
    assert ran.stages == {"storage": "unchanged"}


def test_plain_terraform_works_in_the_workspace(project: Project) -> None:
    import subprocess

    record = project.record
    environ = {
        **project.environ,
        "AWS_ENDPOINT_URL": record["aws_endpoint"],
        "AWS_ACCESS_KEY_ID": record["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": record["secret_access_key"],
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    done = subprocess.run(
        ["terraform", "plan", "-input=false", "-no-color", "-detailed-exitcode"],
        cwd=project.workspace / "terraform/access",
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_private_files_are_private(project: Project) -> None:
    for path in [project.workspace, *project.workspace.rglob("*")]:
        inside = path.relative_to(project.workspace).parts
        if path.is_symlink() or ".terraform" in inside or "plugins" in inside or not path.is_file():
            continue
        if path.name == ".terraform.lock.hcl":
            continue  # Terraform makes it 0644 whatever the umask; checksums of providers are all it holds
        assert path.stat().st_mode & 0o077 == 0, path
    assert project.workspace.stat().st_mode & 0o777 == 0o700


def test_no_secret_is_seen_where_it_does_not_belong(project: Project) -> None:
    """Not in what was printed, not on a command line, and in no file but the variables and states."""
    for ran in project.ran:
        assert SENTINEL not in ran.out + ran.err + " ".join(ran.arguments)
    allowed = re.compile(r"terraform/search/(terraform\.tfvars\.json|terraform\.tfstate(\.backup)?)$")
    for path in (project.folder / ".cali").rglob("*"):
        if path.is_file() and not path.is_symlink() and "plugins" not in path.parts:
            found = SENTINEL.encode() in path.read_bytes()
            assert not found or allowed.search(str(path)), path
    logged = (project.workspace / "logs/cali.log").read_text()
    assert "$ terraform" in logged, "command lines are logged, so they were looked at above"


@pytest.fixture
def argv_seen(project: Project) -> Iterator[set[str]]:
    """The command line of every process that lives at some moment of the test."""
    import threading

    seen: set[str] = set()
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.05):
            for entry in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
                except OSError:
                    continue

    thread = threading.Thread(target=look)
    thread.start()
    yield seen
    stop.set()
    thread.join()


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")  # noqa: PTH112
def test_down_leaves_nothing_and_no_secret(project: Project, argv_seen: set[str]) -> None:
    made = [
        secret
        for service in SERVICES
        for secret in project.kubectl("-n", service, "get", "secrets")["items"]
        if secret["type"] == "Opaque"
    ]

    ran = project.cali("down", "--yes")

    assert ran.code == 0, ran.err
    assert ran.document["ok"]
    assert set(ran.stages.values()) == {"destroyed"}
    assert [stage["name"] for stage in ran.document["stages"]] == list(reversed(NAMES))
    (secrets,) = [stage for stage in ran.document["stages"] if stage["name"] == "service-secrets"]
    # Each namespace, each Secret in it, and the record.
    assert secrets["destroy"] == len(SERVICES) + len(made) + 1
    (services,) = [stage for stage in ran.document["stages"] if stage["name"] == "services"]
    # The three releases, and what Milvus has in AWS; its data stays, in a bucket that cali did not make.
    assert services["destroy"] == 3 + 3
    assert [bucket["Name"] for bucket in project.aws("s3").list_buckets()["Buckets"]] == ["acme-milvus"]
    assert any("terraform apply" in line for line in argv_seen)
    assert not [line for line in argv_seen if SENTINEL in line]
    assert project.aws("eks").list_clusters()["clusters"] == []
    assert project.aws("opensearch").list_domain_names()["DomainNames"] == []
    vpcs = project.aws("ec2").describe_vpcs()["Vpcs"]
    assert all(vpc["IsDefault"] for vpc in vpcs)
    status = project.cali("sandbox", "status").document
    assert status["helm_releases"] == []
    assert status["kubeconfig"] is None
    for path in (project.folder / ".cali").rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert SENTINEL.encode() not in path.read_bytes(), path
    assert not project.workspace.exists()


def test_a_second_down_has_nothing_to_do(project: Project) -> None:
    ran = project.cali("down", "--yes")

    assert ran.code == 0, ran.err
    assert ran.document["ok"]
