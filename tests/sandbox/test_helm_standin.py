"""The Helm stand-in under the real Terraform, against a small Kubernetes API of this file's own."""

from __future__ import annotations

import json
import os
import ssl
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from cali_infra.sandbox.certificates import Authority
from cali_infra.sandbox.helm.releases import Mishap, Mishaps, decode
from cali_infra.sandbox.helm.standin import HelmStandIn

pytestmark = pytest.mark.sandbox

TOKEN = "k8s-aws-v1.teammate"
SENTINEL = "s3ntinel-Pa55word"


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Api:
    """A Kubernetes API that knows namespaces and Secrets, and one bearer token."""

    authority: Authority
    token: str = TOKEN
    namespaces: set[str] = field(default_factory=lambda: {"default", "kube-system"})
    secrets: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def start(self) -> None:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else {}
                status, document = api.respond(
                    self.command, self.path, body, self.headers.get("Authorization")
                )
                data = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

            def log_message(self, *arguments: object) -> None:
                """Quiet."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that does not trust us goes away; that is what a test is about."""

        self.server = Server(("127.0.0.1", 0), Handler)
        context: ssl.SSLContext = self.authority.issue().server_context()
        self.server.socket = context.wrap_socket(
            self.server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join(5)
        self.server.server_close()

    @property
    def endpoint(self) -> str:
        return f"https://127.0.0.1:{self.server.server_address[1]}"

    def respond(
        self, method: str, url: str, body: dict[str, Any], authorization: str | None
    ) -> tuple[int, dict[str, Any]]:
        parts = urlsplit(url)
        self.requests.append(f"{method} {parts.path}")
        if authorization != f"Bearer {self.token}":
            return 401, {"kind": "Status", "message": "Unauthorized"}
        if parts.path == "/version":
            return 200, {"major": "1", "minor": "35"}
        if parts.path == "/api/v1/namespaces" and method == "POST":
            name = body["metadata"]["name"]
            if name in self.namespaces:
                return 409, {"message": f'namespaces "{name}" already exists'}
            self.namespaces.add(name)
            return 201, body
        _, _, _, _, namespace, kind, *rest = parts.path.split("/")
        assert kind == "secrets"
        if method == "GET":
            selector = parse_qs(parts.query)["labelSelector"][0]
            wanted = dict(part.split("=") for part in selector.split(","))
            items = [
                secret
                for (where, _), secret in self.secrets.items()
                if where == namespace and wanted.items() <= secret["metadata"]["labels"].items()
            ]
            return 200, {"items": items}
        if method == "POST":
            if namespace not in self.namespaces:
                return 404, {"message": f'namespaces "{namespace}" not found'}
            self.secrets[namespace, body["metadata"]["name"]] = body
            return 201, body
        if (namespace, rest[0]) not in self.secrets:
            return 404, {"message": f'secrets "{rest[0]}" not found'}
        if method == "PUT":
            self.secrets[namespace, rest[0]] = body
            return 200, body
        return 200, self.secrets.pop((namespace, rest[0]))


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create()


@pytest.fixture
def api(authority: Authority) -> Iterator[Api]:
    served = Api(authority)
    served.start()
    yield served
    served.stop()


@pytest.fixture(scope="module")
def mishaps() -> Mishaps:
    return Mishaps()


@pytest.fixture(scope="module")
def reattach(mishaps: Mishaps) -> Iterator[str]:
    standin = HelmStandIn(os.environ, now, mishaps)
    yield standin.start()
    standin.stop()


EXEC = """
import json, os, sys, pathlib
counter = pathlib.Path(sys.argv[1])
counter.write_text(counter.read_text() + "x" if counter.exists() else "x")
if os.environ["SAY"] == "fail":
    sys.exit("no credentials in sight")
print(json.dumps({"apiVersion": "client.authentication.k8s.io/v1beta1", "kind": "ExecCredential",
    "status": {"token": os.environ["SAY"], "expirationTimestamp": "2099-01-01T00:00:00Z"}}))
"""

RELEASE = """
name       = "cluster-autoscaler"
namespace  = "kube-system"
repository = "https://kubernetes.github.io/autoscaler"
chart      = "cluster-autoscaler"
version    = "9.59.0"
values = [
  yamlencode({ cloudProvider = "aws", rbac = { serviceAccount = { name = "cluster-autoscaler" } } })
]
set        = [{ name = "image.tag", value = "v1.35.0" }, { name = "replicaCount", value = "2" }]
"""


class Folder:
    """A Terraform configuration with one release on one cluster."""

    def __init__(self, path: Path, reattach: str) -> None:
        self.path = path
        self.environ = {
            **os.environ,
            "TF_REATTACH_PROVIDERS": reattach,
            "TF_IN_AUTOMATION": "1",
            "TF_CLI_ARGS": "-no-color",
            "CHECKPOINT_DISABLE": "1",
        }
        self.counter = path / "counter"

    def write(self, api: Api, release: str = RELEASE, *, token: str = TOKEN, **kubernetes: str) -> Folder:
        settings = {
            "host": json.dumps(api.endpoint),
            "cluster_ca_certificate": json.dumps(api.authority.ca_pem.decode()),
            **{key: json.dumps(value) for key, value in kubernetes.items()},
        }
        block = "\n".join(f"    {key} = {value}" for key, value in settings.items())
        (self.path / "exec.py").write_text(EXEC)
        (self.path / "main.tf").write_text(
            f"""
terraform {{
  required_providers {{
    helm = {{
      source  = "hashicorp/helm"
      version = "~> 3.0"
    }}
  }}
}}
provider "helm" {{
  kubernetes = {{
{block}
    exec = {{
      api_version = "client.authentication.k8s.io/v1beta1"
      command     = {json.dumps(sys.executable)}
      args        = {json.dumps([str(self.path / "exec.py"), str(self.counter)])}
      env         = {{ SAY = {json.dumps(token)} }}
    }}
  }}
}}
resource "helm_release" "this" {{
{textwrap.indent(release, "  ")}
}}
output "metadata" {{
  value = helm_release.this.metadata
}}
"""
        )
        if not (self.path / ".terraform").exists():
            self.run("init", "-input=false")
        return self

    def run(self, *arguments: str, ok: bool = True) -> str:
        done = subprocess.run(
            ["terraform", *arguments],
            cwd=self.path,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
        )
        text = done.stdout + done.stderr
        assert (done.returncode in (0, 2)) == ok, text
        return " ".join(text.replace("│", " ").split())

    def apply(self, *, ok: bool = True) -> str:
        return self.run("apply", "-auto-approve", "-input=false", ok=ok)

    def plan(self, *, ok: bool = True) -> str:
        return self.run("plan", "-input=false", ok=ok)

    def state(self) -> Mapping[str, Any]:
        document = json.loads((self.path / "terraform.tfstate").read_text())
        attributes: dict[str, Any] = document["resources"][0]["instances"][0]["attributes"]
        return attributes


@pytest.fixture
def folder(tmp_path: Path, reattach: str) -> Folder:
    return Folder(tmp_path, reattach)


def test_a_release_is_recorded_changed_and_removed_as_helm_does_it(folder: Folder, api: Api) -> None:
    folder.write(api)
    assert "Plan: 1 to add" in folder.apply()
    (secret,) = api.secrets.values()
    assert secret["type"] == "helm.sh/release.v1"
    assert secret["metadata"]["name"] == "sh.helm.release.v1.cluster-autoscaler.v1"
    labels = secret["metadata"]["labels"]
    assert (labels["name"], labels["owner"], labels["status"], labels["version"]) == (
        "cluster-autoscaler",
        "helm",
        "deployed",
        "1",
    )
    release = decode(secret)
    assert release.config == {
        "cloudProvider": "aws",
        "rbac": {"serviceAccount": {"name": "cluster-autoscaler"}},
        "image": {"tag": "v1.35.0"},
        "replicaCount": 2,
    }
    assert release.chart.app_version == "1.35.0"
    assert "nothing was installed" in release.notes
    assert folder.state()["metadata"]["revision"] == 1

    assert "No changes" in folder.plan()

    folder.write(api, RELEASE.replace("v1.35.0", "v1.35.1"))
    assert "0 to add, 1 to change, 0 to destroy" in folder.apply()
    first, second = (decode(secret) for secret in api.secrets.values())
    assert (first.status, second.status, second.revision) == ("superseded", "deployed", 2)
    assert second.config["image"] == {"tag": "v1.35.1"}
    assert second.first_deployed == first.first_deployed

    assert "1 destroyed" in folder.run("destroy", "-auto-approve", "-input=false")
    assert api.secrets == {}
    assert folder.counter.read_text() == "x", "the credential was kept"


def test_what_helm_leaves_behind_when_it_fails_or_is_killed(
    folder: Folder, api: Api, mishaps: Mishaps
) -> None:
    name = "cluster-autoscaler"

    def statuses() -> list[str]:
        return [decode(secret).status for secret in api.secrets.values()]

    folder.write(api, f"{RELEASE}\natomic = true")
    mishaps.happen(name, Mishap.TIMEOUT)
    assert "has been uninstalled due to atomic being set" in folder.apply(ok=False)
    assert statuses() == []
    mishaps.happen(name, Mishap.KILLED)
    folder.apply(ok=False)
    assert statuses() == ["pending-install"]
    assert "cannot re-use a name that is still in use" in folder.apply(ok=False)
    api.secrets.clear()
    folder.apply()

    folder.write(api, RELEASE.replace("v1.35.0", "v1.35.1") + "\natomic = true")
    mishaps.happen(name, Mishap.TIMEOUT)
    assert "has been rolled back due to atomic being set" in folder.apply(ok=False)
    assert statuses() == ["superseded", "failed", "deployed"]
    mishaps.happen(name, Mishap.KILLED)
    folder.apply(ok=False)
    assert "another operation (install/upgrade/rollback) is in progress" in folder.apply(ok=False)
    # The record that never ended goes, and the last one that was deployed is upgraded.
    (pending,) = [key for key, secret in api.secrets.items() if decode(secret).status == "pending-upgrade"]
    del api.secrets[pending]
    assert "0 to add, 1 to change, 0 to destroy" in folder.apply()
    assert statuses()[-1] == "deployed"


def test_a_failed_release_without_atomic_is_tainted_and_made_anew(
    folder: Folder, api: Api, mishaps: Mishaps
) -> None:
    folder.write(api)
    mishaps.happen("cluster-autoscaler", Mishap.TIMEOUT)
    assert "context deadline exceeded" in folder.apply(ok=False)
    assert "1 to add, 0 to change, 1 to destroy" in folder.apply()
    assert [decode(secret).status for secret in api.secrets.values()] == ["deployed"]


def test_a_release_that_is_gone_from_the_cluster_is_made_again(folder: Folder, api: Api) -> None:
    folder.write(api).apply()
    api.secrets.clear()
    assert "1 to add, 0 to change, 0 to destroy" in folder.plan()


def test_another_namespace_replaces_the_release_and_is_created_on_demand(folder: Folder, api: Api) -> None:
    folder.write(api).apply()
    moved = RELEASE.replace("kube-system", "elsewhere")
    folder.write(api, moved)
    assert "forces replacement" in folder.plan()
    assert 'create: failed to create: namespaces "elsewhere" not found' in folder.apply(ok=False)
    folder.write(api, moved + "create_namespace = true\n").apply()
    assert "elsewhere" in api.namespaces
    assert [where for where, _ in api.secrets] == ["elsewhere"]


def test_a_token_that_the_cluster_does_not_know_fails_the_apply(folder: Folder, api: Api) -> None:
    folder.write(api, token="k8s-aws-v1.stranger")
    said = folder.apply(ok=False)
    assert "installation failed" in said
    assert (
        "Kubernetes cluster unreachable: the server has asked for the client to provide credentials" in said
    )
    assert folder.counter.read_text() == "xx", "a 401 is answered with one new credential"
    assert api.secrets == {}


def test_a_release_is_kept_in_the_state_when_the_cluster_refuses_at_read(folder: Folder, api: Api) -> None:
    folder.write(api).apply()
    api.token = "another"
    assert "Error checking release existence" in folder.plan(ok=False)
    assert folder.state()["name"] == "cluster-autoscaler"


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"cluster_ca_certificate": "stranger"}, "x509: certificate signed by unknown authority"),
        ({"host": "https://127.0.0.1:1"}, "dial tcp 127.0.0.1:1: connect: connection refused"),
    ],
)
def test_a_cluster_that_is_not_to_be_trusted_or_not_there(
    folder: Folder, api: Api, broken: dict[str, str], said: str
) -> None:
    if "cluster_ca_certificate" in broken:
        broken = {"cluster_ca_certificate": Authority.create().ca_pem.decode()}
    output = folder.write(api, **broken).apply(ok=False)
    assert "Kubernetes cluster unreachable: Get" in output
    assert said in output


def test_a_credential_command_that_fails_is_named(folder: Folder, api: Api) -> None:
    output = folder.write(api, token="fail").apply(ok=False)
    assert "getting credentials: exec: executable" in output
    assert "failed with exit code 1: no credentials in sight" in output


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        (
            'chart      = "cluster-autoscaler"',
            'chart      = "cluster-autoscalar"',
            'chart "cluster-autoscalar" version "9.59.0" not found in https://kubernetes.github.io/',
        ),
        ("9.59.0", "9.590.0", 'chart "cluster-autoscaler" version "9.590.0" not found'),
        ("9.59.0", "10.0.0", 'chart "cluster-autoscaler" version "10.0.0" not found'),
        (
            "https://kubernetes.github.io/autoscaler",
            "https://kubernetes.github.io/autoscalr",
            "is not a valid chart repository or cannot be reached",
        ),
    ],
)
def test_what_is_mistyped_never_counts_as_deployed(
    folder: Folder, api: Api, right: str, wrong: str, said: str
) -> None:
    output = folder.write(api, RELEASE.replace(right, wrong)).plan(ok=False)
    assert "Error locating chart" in output
    assert said in output


def test_a_sensitive_value_is_shown_and_recorded_nowhere(folder: Folder, api: Api) -> None:
    secret = f"""
set_sensitive   = [{{ name = "grafana.password", value = "{SENTINEL}" }}]
set_wo          = [{{ name = "grafana.token", value = "{SENTINEL}" }}]
set_wo_revision = 1
"""
    output = folder.write(api, RELEASE + secret).plan() + folder.apply()
    (record,) = api.secrets.values()
    assert decode(record).config["grafana"] == {
        "password": "(sensitive value)",
        "token": "(sensitive value)",
    }
    assert SENTINEL not in output
    assert SENTINEL not in json.dumps(folder.state()["metadata"])
    assert folder.state()["set_wo"] is None
    assert "No changes" in folder.plan()
    changed = folder.write(api, RELEASE + secret.replace(SENTINEL, SENTINEL + "2")).apply()
    assert "1 changed" in changed
    assert SENTINEL not in changed


def test_what_is_not_modelled_is_refused(folder: Folder, api: Api) -> None:
    output = folder.write(api, RELEASE + "lint = true\n").plan(ok=False)
    assert "does not model lint" in output
    output = folder.write(api, RELEASE, proxy_url="http://127.0.0.1:1").plan(ok=False)
    assert "does not model kubernetes.proxy_url" in output


def test_charts_are_not_rendered(folder: Folder, api: Api) -> None:
    folder.write(api)
    with (folder.path / "main.tf").open("a") as file:
        file.write('data "helm_template" "this" {\n  name  = "x"\n  chart = "cluster-autoscaler"\n}\n')
    assert "refuses the data source helm_template" in folder.plan(ok=False)


def test_nobody_but_the_owner_reaches_the_provider(reattach: str) -> None:
    # It runs the commands that a configuration names.
    (provider,) = json.loads(reattach).values()
    assert provider["Addr"]["Network"] == "unix"
    path = Path(provider["Addr"]["String"])
    assert path.is_socket()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_what_is_invalid_is_told_at_validation(folder: Folder, api: Api) -> None:
    release = RELEASE.replace('name       = "cluster-autoscaler"', f'name = "{"x" * 54}"')
    release += 'set_list = [{ name = "a", value = ["b"] }]\ntimeouts = { create = "soon" }\n'
    folder.write(api, release.replace('value = "2"', 'value = "2", type = "number"'))
    output = folder.run("validate", ok=False)
    assert "string length must be between 1 and 53, got: 54" in output
    assert 'value must be one of: ["auto", "string", "literal"], got: "number"' in output
    assert '"soon" must be a string containing' in output


def test_a_release_that_somebody_else_made_is_imported(folder: Folder, api: Api) -> None:
    folder.write(api).apply()
    (folder.path / "terraform.tfstate").unlink()
    assert "cannot re-use a name that is still in use" in folder.apply(ok=False)
    folder.run("import", "-input=false", "helm_release.this", "kube-system/cluster-autoscaler")
    assert folder.state()["metadata"]["chart"] == "cluster-autoscaler"


def test_every_attribute_of_the_provider_is_known(folder: Folder, api: Api) -> None:
    everything = """
atomic                     = true
cleanup_on_fail            = true
description                = "the autoscaler"
disable_crd_hooks          = true
disable_openapi_validation = true
disable_webhooks           = true
force_update               = true
max_history                = 2
recreate_pods              = true
render_subchart_notes      = false
replace                    = true
reset_values               = true
reuse_values               = false
set_list                   = [{ name = "extra", value = ["a", "b"] }]
skip_crds                  = true
take_ownership             = true
timeout                    = 60
timeouts                   = { create = "5m", read = "1m", update = "5m", delete = "5m" }
upgrade_install            = true
wait                       = true
wait_for_jobs              = true
"""
    folder.write(api, RELEASE + everything).apply()
    assert "No changes" in folder.plan()
    (record,) = api.secrets.values()
    assert decode(record).config["extra"] == ["a", "b"]
    for tag in ("v1.35.1", "v1.35.2"):
        folder.write(api, RELEASE.replace("v1.35.0", tag) + everything).apply()
    assert sorted(decode(secret).revision for secret in api.secrets.values()) == [2, 3]


def test_two_terraforms_at_once_do_not_mix_their_clusters(
    tmp_path: Path, reattach: str, authority: Authority
) -> None:
    clusters = [Api(authority, token=f"token-{number}") for number in range(3)]
    for cluster in clusters:
        cluster.start()
    try:
        folders = []
        for number, cluster in enumerate(clusters):
            (tmp_path / str(number)).mkdir()
            release = RELEASE.replace("v1.35.0", f"v1.35.{number}")
            folder = Folder(tmp_path / str(number), reattach)
            folders.append(folder.write(cluster, release, token=f"token-{number}"))
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(Folder.apply, folders))
        for number, cluster in enumerate(clusters):
            (record,) = cluster.secrets.values()
            assert decode(record).config["image"] == {"tag": f"v1.35.{number}"}
    finally:
        for cluster in clusters:
            cluster.stop()
