"""A whole platform in memory: the sandbox's stand-ins, filled without Terraform, and ways to break it."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

import boto3
import urllib3
from botocore.config import Config
from pydantic import SecretStr

from cali_infra.adapters import git
from cali_infra.adapters.aws import Aws
from cali_infra.adapters.kubernetes import ClusterAccess, Kubernetes, ObjectRef
from cali_infra.adapters.kustomize import Kustomize
from cali_infra.adapters.opensearch import OpenSearch
from cali_infra.core import assets, fluent_bit, service_secrets
from cali_infra.core.index import READER, IndexWork
from cali_infra.core.manifests import ManifestWork
from cali_infra.core.pod_targets import is_ready
from cali_infra.core.progress import Silent
from cali_infra.core.secrets import Secrets
from cali_infra.core.settings import Settings
from cali_infra.core.stacks import Drift
from cali_infra.core.storage_class import StorageClassWork
from cali_infra.core.workspace import Owner
from cali_infra.sandbox import charts
from cali_infra.sandbox.agents.crew import Crew
from cali_infra.sandbox.agents.services import Services
from cali_infra.sandbox.aws.server import AwsStandIn
from cali_infra.sandbox.certificates import Authority
from cali_infra.sandbox.helm import releases
from cali_infra.sandbox.helm.charts import ChartVersion
from cali_infra.sandbox.kubernetes.standin import KubernetesStandIn
from cali_infra.sandbox.opensearch.standin import OpenSearchStandIn
from cali_infra.sandbox.ports import Cloud
from cali_infra.verify import jobs
from cali_infra.verify.aws import ADDON_ACCOUNTS, ADDONS, AUTOSCALER_ACCOUNT
from cali_infra.verify.checks import Check, Result
from cali_infra.verify.families import CHECKS
from cali_infra.verify.report import Report
from cali_infra.verify.runner import Runner
from cali_infra.verify.selection import choose
from cali_infra.verify.subject import Stack, Subject

# An account of its own: moto's are the process's.
ACCOUNT = "400000000005"
REGION = "ap-northeast-2"
NAME = "cali-default"
JIN = f"arn:aws:iam::{ACCOUNT}:user/jin"
MINA = f"arn:aws:iam::{ACCOUNT}:role/team/mina"
FLUENT_BIT = ObjectRef("apps/v1", "DaemonSet", "logging", "fluent-bit")
POLICY = "arn:aws:eks::aws:cluster-access-policy/"
SENTINEL = "Sentinel-9Zk"


@dataclass
class FakeStack:
    """A Terraform stack with these outputs and, when it is asked, this drift."""

    values: dict[str, Any] = field(default_factory=dict)
    found: Drift = field(default_factory=Drift)

    def outputs(self) -> Mapping[str, Any]:
        return self.values

    def complete(self) -> bool:
        return bool(self.values)

    def exists(self) -> bool:
        return bool(self.values)

    def drift(self, cancel: threading.Event) -> Drift:
        return self.found


def secrets() -> Secrets:
    """Passwords that are recognised wherever they turn up."""
    names = ("master", "writer", "reader")
    return Secrets(
        opensearch={f"{name}_password": f"{SENTINEL}-{name}-Aa1$" for name in names},
        grafana={"admin_password": f"{SENTINEL}-grafana"},
        airflow={
            "fernet_key": base64.urlsafe_b64encode(b"0" * 32).decode(),
            "api_secret_key": f"{SENTINEL}-api-secret-key",
            "jwt_secret": f"{SENTINEL}-jwt-secret",
            "admin_password": f"{SENTINEL}-airflow",
            "database_password": f"{SENTINEL}-database",
        },
        milvus={
            "root_password": f"{SENTINEL}-root",
            "minio_access_key": f"{SENTINEL}-access",
            "minio_secret_key": f"{SENTINEL}-secret",
        },
        gitsync={"url": "https://git.example.com/acme/dags.git"},
    )


@dataclass
class Whole:
    """The platform; `subject` is what is verified, and a test may put another part into it."""

    folder: Path
    settings: Settings = field(default_factory=Settings)
    secrets: Secrets = field(default_factory=secrets)
    stacks: dict[str, FakeStack] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._pool: urllib3.PoolManager | None = None
        self.authority = Authority.create()
        self.ca = self.folder / "ca.pem"
        self.ca.write_bytes(self.authority.ca_pem)
        self.clusters = KubernetesStandIn(self.authority, self._authenticate)
        self.domains = OpenSearchStandIn(self.authority)
        self.cloud = AwsStandIn(self.clusters, self.domains, account=ACCOUNT)
        self.cloud.start()
        self.environ = dict(self.cloud.environment(REGION))
        self.aws = Aws(REGION, self.environ)
        self.services = Services(self.clusters, self.folder / "pods", str(self.ca), lambda: datetime.now(UTC))
        self.crew = self._new_crew(self.cloud)
        self.repository = self.folder / "dags"
        subprocess.run(["git", "init", "-q", "-b", "main", str(self.repository)], check=True)
        self.commit()
        self._make_aws()
        self._make_cluster()
        self._make_index()
        self._let_the_agents_work()
        self._make_services()

    def _let_the_agents_work(self) -> None:
        """Until the autoscaler has written its status and Fluent Bit has shipped a line of its pod."""
        status = ObjectRef("v1", "ConfigMap", "kube-system", "cluster-autoscaler-status")
        until = time.monotonic() + 20
        while self.kubernetes.get(status) is None or not self.documents():
            assert time.monotonic() < until
            self.crew.tick()
        self.refresh()

    def close(self) -> None:
        self.crew.stop()
        self.services.close()
        if self._pool is not None:
            self._pool.clear()
        self.kubernetes.close()
        self.cloud.stop()
        self.clusters.close()
        self.domains.close()

    def _authenticate(self, cluster: str, token: str) -> Any:
        return self.cloud.authenticator(cluster, token)

    # -- asking -----------------------------------------------------------------------------------------

    @property
    def subject(self) -> Subject:
        return Subject(
            settings=self.settings,
            secrets=self.secrets,
            aws=self.aws,
            identity=self.aws.identity,
            owner=lambda: Owner(ACCOUNT, REGION, "test"),
            principals=tuple,
            stack=lambda name, cancel: cast(Stack, self.stacks[name]),
            plan=lambda name, cancel: self.manifests(name).plan(Silent()),
            kubernetes=lambda: self.kubernetes,
            alone=nullcontext,
            head=self.head,
            search_ca=self.ca,
        )

    def report(
        self,
        *names: str,
        subject: Subject | None = None,
        checks: tuple[Check, ...] = CHECKS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        hurry: Mapping[str, float] | None = None,
        cancel: threading.Event | None = None,
    ) -> Report:
        """Run checks, with a yes to every question; `hurry` is by how much the clock of a check is too fast.

        What runs in the cluster works meanwhile where a check makes something there.
        """
        runner = Runner(
            subject or self.subject,
            cancel or threading.Event(),
            approve=lambda check: True,
            clock=partial(_hurried, {**_HURRY, **(hurry or {})}),
            now=now,
        )
        chosen = choose(checks, names)
        if not any(check.option for check in chosen):
            return runner.run(chosen)
        try:
            with self.working():
                return runner.run(chosen)
        finally:
            self.resize(3)

    @contextmanager
    def working(self) -> Iterator[None]:
        """With a crew that looks at its clusters all the time, for as long as the block lasts."""
        over = threading.Event()

        def work() -> None:
            while not over.wait(0.02):
                self.crew.tick()

        thread = threading.Thread(target=work, name="crew")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    @contextmanager
    def another_crew(self, cloud: Cloud | None = None, **environ: str) -> Iterator[None]:
        """Others at work, who have looked once; `environ` is what the pods find beside what they say."""
        before = self.crew
        self.crew = self._new_crew(cloud or self.cloud, **environ)
        try:
            self.crew.tick()
            yield
        finally:
            self.crew.stop()
            self.crew = before

    def _new_crew(self, cloud: Cloud, **environ: str) -> Crew:
        def network(cluster: str) -> Mapping[str, str]:
            return {**self.services.network(cluster), **environ}

        return Crew(
            self.clusters,
            cloud,
            str(self.ca),
            lambda: datetime.now(UTC),
            self.services,
            self.folder / "jobs",
            network,
        )

    def resize(self, nodes: int, most: int = 8) -> None:
        """Give the node group so many nodes."""
        self.eks.update_nodegroup_config(
            clusterName=NAME,
            nodegroupName=f"{NAME}-nodes",
            scalingConfig={"minSize": 2, "maxSize": most, "desiredSize": nodes},
        )

    def results(self, *names: str, **more: Any) -> dict[str, Result]:
        return {line.check.id: line.result for line in self.report(*names, **more).lines}

    # -- AWS --------------------------------------------------------------------------------------------

    def client(self, service: str) -> Any:
        return boto3.session.Session().client(
            service,
            region_name=REGION,
            endpoint_url=self.cloud.endpoint,
            aws_access_key_id=self.cloud.operator.access_key_id,
            aws_secret_access_key=self.cloud.operator.secret_access_key,
            config=Config(retries={"total_max_attempts": 1}),
        )

    def role(self, name: str, service: str, *actions: str, policy: object = None, path: str = "/") -> str:
        trust = {"Service": service}
        statement = {"Effect": "Allow", "Principal": trust, "Action": ["sts:AssumeRole", *actions]}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        made = self.iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument=document)["Role"]
        if policy is not None:
            self.iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=json.dumps(policy))
        return str(made["Arn"])

    def _make_aws(self) -> None:
        self.iam, self.eks = self.client("iam"), self.client("eks")
        self.opensearch, ec2 = self.client("opensearch"), self.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.40.0.0/16")["Vpc"]["VpcId"]
        subnets = [
            ec2.create_subnet(
                VpcId=vpc, CidrBlock=f"10.40.{number}.0/24", AvailabilityZone=f"{REGION}{zone}"
            )["Subnet"]["SubnetId"]
            for number, zone in enumerate("abc")
        ]
        pods = ("pods.eks.amazonaws.com", "sts:TagSession")
        self.eks.create_cluster(
            name=NAME,
            version=self.settings.eks.version,
            roleArn=self.role("cluster", "eks.amazonaws.com"),
            resourcesVpcConfig={"subnetIds": subnets},
            accessConfig={"authenticationMode": "API"},
        )
        for addon in ADDONS[2:]:
            self.eks.create_addon(clusterName=NAME, addonName=addon)
        self.eks.create_nodegroup(
            clusterName=NAME,
            nodegroupName=f"{NAME}-nodes",
            subnets=subnets,
            nodeRole=self.role("node", "ec2.amazonaws.com"),
            scalingConfig={"minSize": 2, "maxSize": 8, "desiredSize": 3},
            instanceTypes=["m6i.xlarge"],
        )
        for addon in ADDONS[:2]:
            self.eks.create_addon(clusterName=NAME, addonName=addon)
        roles = {account: self.role(account, *pods) for account in ADDON_ACCOUNTS}
        roles[AUTOSCALER_ACCOUNT] = self.role("autoscaler", *pods, policy=autoscaler_policy())
        for account, role in roles.items():
            self.eks.create_pod_identity_association(
                clusterName=NAME, namespace="kube-system", serviceAccount=account, roleArn=role
            )
        self.iam.create_user(UserName="jin")
        self.role("mina", "ec2.amazonaws.com", path="/team/")
        for arn, policy in ((JIN, "AmazonEKSClusterAdminPolicy"), (MINA, "AmazonEKSViewPolicy")):
            self.grant(arn, policy, *(("logging",) if arn == MINA else ()))
        self.opensearch.create_domain(
            DomainName=NAME,
            EngineVersion=self.settings.search.engine_version,
            ClusterConfig={"InstanceType": "r6g.large.search", "InstanceCount": 3},
            EBSOptions={"EBSEnabled": True, "VolumeType": "gp3", "VolumeSize": 100},
            EncryptionAtRestOptions={"Enabled": True},
            NodeToNodeEncryptionOptions={"Enabled": True},
            DomainEndpointOptions={
                "EnforceHTTPS": True,
                "TLSSecurityPolicy": "Policy-Min-TLS-1-2-PFS-2023-10",
            },
            AdvancedSecurityOptions={
                "Enabled": True,
                "InternalUserDatabaseEnabled": True,
                "MasterUserOptions": {
                    "MasterUserName": self.settings.search.master_username,
                    "MasterUserPassword": self.secrets.opensearch.master_password.get_secret_value(),
                },
            },
        )
        self.endpoint = self.opensearch.describe_domain(DomainName=NAME)["DomainStatus"]["Endpoint"]
        cluster = self.eks.describe_cluster(name=NAME)["cluster"]
        self.stacks |= {
            "network": FakeStack({"vpc_id": vpc}),
            "eks": FakeStack(
                {
                    "cluster_name": NAME,
                    "cluster_endpoint": cluster["endpoint"],
                    "cluster_ca": cluster["certificateAuthority"]["data"],
                    "creator_arn": self.cloud.operator.arn,
                }
            ),
            "search": FakeStack({"opensearch_endpoint": self.endpoint}),
            "access": FakeStack({"record": record()}),
            "autoscaler": FakeStack({"role_arn": roles[AUTOSCALER_ACCOUNT]}),
            "services": FakeStack({"releases": {"grafana": "grafana"}}),
        }

    def grant(self, arn: str, policy: str, *namespaces: str) -> None:
        """Make an access entry with a policy."""
        self.eks.create_access_entry(clusterName=NAME, principalArn=arn)
        scope = {"type": "namespace", "namespaces": list(namespaces)} if namespaces else {"type": "cluster"}
        self.eks.associate_access_policy(
            clusterName=NAME, principalArn=arn, policyArn=POLICY + policy, accessScope=scope
        )

    # -- the cluster ------------------------------------------------------------------------------------

    def _make_cluster(self) -> None:
        eks = self.stacks["eks"].values
        self.kubernetes = Kubernetes(
            ClusterAccess(
                eks["cluster_endpoint"],
                base64.b64decode(eks["cluster_ca"]),
                partial(self.aws.token, NAME),
            ),
            patience=0.5,
        )
        kustomize = Kustomize(environ=self.kubectl_environ)
        folder = assets.folder("k8s") / "storage-class"
        storage = StorageClassWork("storage", self.kubernetes, partial(kustomize.render, folder))
        storage.apply(storage.plan(Silent()), Silent(), threading.Event())
        release = releases.Release(
            "cluster-autoscaler",
            "kube-system",
            1,
            releases.DEPLOYED,
            ChartVersion("cluster-autoscaler", "9.59.0", "1.35.0"),
            {
                "image": {"tag": self.settings.autoscaler_image_tag},
                "rbac": {"serviceAccount": {"create": True, "name": AUTOSCALER_ACCOUNT}},
            },
            datetime.now(UTC),
            datetime.now(UTC),
            "Install complete",
        )
        self.kubernetes.create(releases.encode(release, "createdAt"))
        self.logging_objects = fluent_bit.objects(
            self.folder / "fluent-bit",
            settings=self.settings,
            secrets=self.secrets,
            endpoint=self.endpoint,
            render=kustomize.render,
        )
        self.put_right("logging")
        self.put_right("service-secrets")

    def put_right(self, stage: str) -> None:
        """What `cali up STAGE --force-conflicts` does."""
        work = self.manifests(stage, force=True)
        work.apply(work.plan(Silent()), Silent(), threading.Event())

    @property
    def kubectl_environ(self) -> dict[str, str]:
        import os

        return {"PATH": os.environ["PATH"], "HOME": str(self.folder)}

    def manifests(self, stage: str, *, force: bool = False) -> ManifestWork:
        """The work of a stage of manifests."""
        if stage == "logging":
            return ManifestWork(stage, self.kubernetes, lambda: self.logging_objects, force=force)
        objects = partial(service_secrets.objects, self.settings, self.secrets, self.endpoint)
        return ManifestWork(stage, self.kubernetes, objects, force=force)

    def request(
        self, method: str, path: str, body: object = None, kind: str = "application/merge-patch+json"
    ) -> Any:
        """A request to the cluster's API, as the operator; for what cali itself never does."""
        if self._pool is None:
            self._pool = urllib3.PoolManager(ca_certs=str(self.ca), retries=False, timeout=10)
        headers = {"Authorization": f"Bearer {self.aws.token(NAME).value}", "Content-Type": kind}
        answer = self._pool.request(
            method,
            self.stacks["eks"].values["cluster_endpoint"] + path,
            body=None if body is None else json.dumps(body),
            headers=headers,
        )
        assert answer.status < 300, answer.data
        return answer.json()

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait until what the cluster's controllers do by themselves is done."""
        end = time.monotonic() + 10
        while not holds():
            assert time.monotonic() < end, "it did not happen in time"
            time.sleep(0.005)

    def settled(self) -> None:
        """Wait until every pod of kube-system is ready."""

        def ready() -> bool:
            found = self.kubernetes.list("v1", "Pod", "kube-system")
            return all(
                any(
                    c["type"] == "Ready" and c["status"] == "True"
                    for c in pod["status"].get("conditions", ())
                )
                for pod in found
            )

        self.until(ready)

    @contextmanager
    def patched(self, ref: ObjectRef, change: dict[str, Any], back: dict[str, Any]) -> Iterator[None]:
        """An object changed for as long as the block lasts."""
        self.kubernetes.patch(ref, change)
        try:
            yield
        finally:
            self.kubernetes.patch(ref, back)

    @contextmanager
    def without(self, ref: ObjectRef) -> Iterator[None]:
        """An object that is gone for as long as the block lasts."""
        found = self.kubernetes.get(ref)
        assert found is not None
        self.kubernetes.delete(ref, wait=5)
        try:
            yield
        finally:
            self.kubernetes.create(bare(found))

    def _make_services(self) -> None:
        """The services' releases as Helm records them, with the objects that the agent makes of them."""
        now = datetime.now(UTC)
        for service, values in service_values(self.endpoint, self.repository).items():
            release = releases.Release(
                service,
                service,
                2,
                releases.DEPLOYED,
                ChartVersion(service, "1.0.0", "1"),
                values,
                now,
                now,
                "Upgrade complete",
                manifest=charts.manifest(service, service, service, values),
            )
            self.kubernetes.create(releases.encode(release, "createdAt"))
        self.crew.tick()

    def restart(self, namespace: str, labels: Mapping[str, str]) -> None:
        """Delete pods, and wait for those that come in their place to be known to the applications."""
        before = {pod["metadata"]["uid"] for pod in self.kubernetes.list("v1", "Pod", namespace, labels)}
        for pod in self.kubernetes.list("v1", "Pod", namespace, labels):
            self.kubernetes.delete(ObjectRef("v1", "Pod", namespace, pod["metadata"]["name"]))

        def ready() -> bool:
            pods = self.kubernetes.list("v1", "Pod", namespace, labels)
            new = [pod for pod in pods if pod["metadata"]["uid"] not in before]
            return bool(new) and all(is_ready(pod) for pod in new)

        self.until(ready)
        self.crew.tick()

    @contextmanager
    def without_fluent_bit(self) -> Iterator[None]:
        """A cluster that ships no logs for as long as the block lasts."""
        with self.without(FLUENT_BIT):
            yield
        self.fluent_bit_is_back()

    def fluent_bit_is_back(self) -> None:
        """What `cali up logging` does, and waits for."""
        self.put_right("logging")

        def shipping() -> bool:
            daemon = self.kubernetes.get(FLUENT_BIT)
            return daemon is not None and (daemon.get("status") or {}).get("numberAvailable") == 3

        self.until(shipping)

    def left(self) -> list[str]:
        """What there is of the checks' own, by kind and name."""
        marked = [
            f"{kind} {item['metadata']['name']}"
            for version, kind in (("v1", "Namespace"), ("v1", "Pod"), ("batch/v1", "Job"))
            for item in self.kubernetes.list(version, kind, labels=jobs.LABELS)
        ]
        claims = [
            f"{kind} {item['metadata']['name']}"
            for kind, names in (
                ("PersistentVolumeClaim", lambda item: item["metadata"]["namespace"]),
                ("PersistentVolume", lambda item: item["spec"]["claimRef"]["namespace"]),
            )
            for item in self.kubernetes.list("v1", kind)
            if names(item).startswith(jobs.PREFIX)
        ]
        return marked + claims

    # -- GitSync's repository ---------------------------------------------------------------------------

    def commit(self) -> str:
        """A new commit in the repository with the DAGs."""
        git = ("git", "-C", str(self.repository), "-c", "user.name=x", "-c", "user.email=x@example.com")
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "more"], check=True)
        return self.head()

    def head(self) -> str:
        found = git.head(git.Remote(str(self.repository)), "main", self.kubectl_environ)
        assert found is not None
        return found

    # -- the domain -------------------------------------------------------------------------------------

    def _make_index(self) -> None:
        self.put_index_right()
        self.search = self._open_domain(
            self.settings.search.master_username, self.secrets.opensearch.master_password
        )

    def _open_domain(self, user: str, password: SecretStr) -> OpenSearch:
        return OpenSearch(self.endpoint, user, password, self.ca, patience=0.5)

    def ask_domain(self, method: str, path: str, body: object = None) -> Any:
        """A request to the domain as its master user; for what cali itself never does."""
        if self._pool is None:
            self._pool = urllib3.PoolManager(ca_certs=str(self.ca), retries=False, timeout=10)
        password = self.secrets.opensearch.master_password.get_secret_value()
        credentials = f"{self.settings.search.master_username}:{password}"
        headers = {
            "Authorization": f"Basic {base64.b64encode(credentials.encode()).decode()}",
            "Content-Type": "application/json",
        }
        answer = self._pool.request(
            method,
            f"https://{self.endpoint}{path}",
            body=None if body is None else json.dumps(body),
            headers=headers,
        )
        assert answer.status < 300, answer.data
        return answer.json()

    def documents(self) -> list[dict[str, Any]]:
        """Every log record of the domain."""
        return self.domains.documents(NAME, "cali-logs-*")

    def write(self, *records: Mapping[str, Any], index: str = "cali-logs-2026.01.01") -> None:
        """Write log records, seen at once."""
        for record in records:
            self.ask_domain("POST", f"/{index}/_doc", record)
        self.refresh()

    def forget_records(self) -> None:
        """Delete every index of log records."""
        for index in self.ask_domain("GET", "/cali-logs-*/_mapping"):
            self.ask_domain("DELETE", f"/{index}")

    def put_index_right(self) -> None:
        """What `cali up index` does."""
        work = IndexWork(self._open_domain, self.settings, self.secrets)
        work.apply(work.plan(Silent()), Silent(), threading.Event())

    def refresh(self) -> None:
        """Show what was written to searches."""
        self.ask_domain("POST", "/cali-logs-*/_refresh")

    def with_settings(self, **changes: Any) -> Subject:
        """The subject with other settings; a dict is merged into its section."""
        document = self.settings.model_dump()
        for key, value in changes.items():
            document[key] = {**document[key], **value} if isinstance(value, dict) else value
        return replace(self.subject, settings=Settings.model_validate(document))


# What is waited for in vain on a whole platform.
_HURRY = {"e2e.once": 30.0}


def _hurried(hurry: Mapping[str, float]) -> float:
    """A clock that is too fast for some checks, in whose threads it is asked."""
    name = threading.current_thread().name.removeprefix("check ")
    return hurry.get(name, 1.0) * time.monotonic()


def record() -> dict[str, Any]:
    """The record of access in the state of the stack `access`."""

    def entry(name: str, level: str, *namespaces: str, until: str | None = None) -> dict[str, Any]:
        return {
            "name": name,
            "level": level,
            "namespaces": list(namespaces),
            "until": until,
            "granted_by": "arn:aws:iam::400000000005:user/sandbox/operator",
            "granted_at": "2026-01-01T00:00:00Z",
        }

    return {
        "principals": {JIN: entry("Jin", "admin"), MINA: entry("Mina", "view", "logging")},
        "revoked": {},
    }


def service_values(endpoint: str, repository: Path) -> dict[str, dict[str, Any]]:
    """What terraform/services gives each chart, as far as the sandbox looks at it. A repository that is on this
    machine has no URL that secrets.yaml takes."""
    key = {"secretKeyRef": {"name": "airflow-admin", "key": "password"}}
    admin = {"name": "AIRFLOW_ADMIN_PASSWORD", "valueFrom": key}
    root = {"secretKeyRef": {"name": "milvus-root", "key": "password"}}
    source = {
        "name": "OpenSearch",
        "uid": "opensearch",
        "type": "grafana-opensearch-datasource",
        "url": f"https://{endpoint}",
        "basicAuth": True,
        "basicAuthUser": READER,
        "jsonData": {"database": "cali-logs-*", "timeField": "@timestamp", "logMessageField": "log"},
        "secureJsonData": {"basicAuthPassword": "$OPENSEARCH_READER_PASSWORD"},
    }
    return {
        "airflow": {
            "fernetKeySecretName": "airflow-keys",
            "apiSecretKeySecretName": "airflow-keys",
            "jwtSecretName": "airflow-keys",
            "data": {"metadataSecretName": "airflow-database-connection"},
            "extraEnvFrom": "- secretRef: {name: airflow-connections}",
            "createUserJob": {"env": [admin]},
            "dags": {"gitSync": {"enabled": True, "repo": str(repository), "ref": "main", "period": "5s"}},
            "postgresql": {
                "auth": {"username": "airflow", "existingSecret": "airflow-database"},
                "primary": {"persistence": {"storageClass": "gp2"}},
            },
        },
        "milvus": {
            "cluster": {"enabled": False},
            "etcd": {"replicaCount": 1, "persistence": {"storageClass": "gp2"}},
            "standalone": {
                "extraEnv": [{"name": "COMMON_SECURITY_DEFAULTROOTPASSWORD", "valueFrom": root}],
                "persistence": {"persistentVolumeClaim": {"storageClass": "gp2"}},
            },
            "minio": {"existingSecret": "milvus-object-store", "persistence": {"storageClass": "gp2"}},
        },
        "grafana": {
            "persistence": {"enabled": True, "storageClassName": "gp2"},
            "admin": {"existingSecret": "grafana-admin"},
            "envFromSecrets": [{"name": "grafana-opensearch"}],
            "datasources": {"datasources.yaml": {"apiVersion": 1, "datasources": [source]}},
        },
    }


def autoscaler_policy() -> dict[str, Any]:
    """What terraform/autoscaler gives the role."""
    tag = "aws:ResourceTag/k8s.io/cluster-autoscaler"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": [
                    "autoscaling:DescribeAutoScalingGroups",
                    "autoscaling:DescribeAutoScalingInstances",
                    "autoscaling:DescribeLaunchConfigurations",
                    "autoscaling:DescribeScalingActivities",
                    "autoscaling:DescribeTags",
                    "ec2:DescribeImages",
                    "ec2:DescribeInstanceTypes",
                    "ec2:DescribeLaunchTemplateVersions",
                    "ec2:GetInstanceTypesFromInstanceRequirements",
                    "eks:DescribeNodegroup",
                ],
                "Resource": "*",
            },
            {
                "Effect": "Allow",
                "Action": [
                    "autoscaling:SetDesiredCapacity",
                    "autoscaling:TerminateInstanceInAutoScalingGroup",
                ],
                "Resource": f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:*:autoScalingGroupName/*",
                "Condition": {"StringEquals": {f"{tag}/enabled": "true", f"{tag}/{NAME}": "owned"}},
            },
        ],
    }


def bare(obj: Mapping[str, Any]) -> dict[str, Any]:
    """An object that was read, so that it can be created again."""
    set_by_server = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields")
    meta = {key: value for key, value in obj["metadata"].items() if key not in set_by_server}
    return {**{key: value for key, value in obj.items() if key != "status"}, "metadata": meta}
