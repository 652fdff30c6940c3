"""`cali open`, as a teammate runs it: with cali.yaml and keys, against stand-ins of AWS and Kubernetes."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cali_infra.adapters.kubernetes import Kubernetes
from cali_infra.cli.app import run
from cali_infra.core import cluster_access
from cali_infra.core.forwarding import listen
from cali_infra.core.service_doors import DOORS
from cali_infra.ui import UI

from .account import NAME, REGION, Account
from .conftest import Cali, Ran, Stream

POLICY = "AmazonEKSEditPolicy"


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    made = Account("210987654333", tmp_path_factory.mktemp("account"))
    made.start()
    made.make_cluster()
    made.make_domain()
    made.add("lead", "AmazonEKSClusterAdminPolicy")
    made.add("jin", POLICY)
    made.add("viewer", "AmazonEKSViewPolicy")
    made.add("stranger")
    yield made
    made.close()


def pages(words: str) -> ThreadingHTTPServer:
    """An application that says the same to everybody."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = f"{words} {self.path} {self.headers['Authorization']}".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


def objects(service: str) -> list[dict[str, Any]]:
    """What the service's chart makes, as far as it matters here: its Service, and a pod with its ports."""
    door = DOORS[service]
    meta = {"namespace": door.namespace, "name": door.service}
    ports = [{"name": f"port-{port.number}", "port": port.number} for port in door.ports]
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": door.namespace}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {
                "selector": {"app": service},
                "ports": [{**port, "targetPort": port["name"]} for port in ports],
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"namespace": door.namespace, "name": f"{service}-0", "labels": {"app": service}},
            "spec": {
                "containers": [
                    {
                        "name": service,
                        "image": f"{service}:1",
                        # Behind another number than the Service's, as Grafana's is.
                        "ports": [
                            {"name": port["name"], "containerPort": port["port"] + 1000} for port in ports
                        ],
                    }
                ]
            },
        },
    ]


@pytest.fixture(scope="module")
def deployed(account: Account) -> Iterator[Account]:
    """The three services, each behind its Service."""
    from cali_infra.adapters.aws import Aws

    aws = Aws(REGION, account.environ("lead"))
    kubernetes = Kubernetes(cluster_access.access_to(aws, cluster_access.find(aws, NAME)))
    with ExitStack() as stack:
        stack.callback(kubernetes.close)
        for service, door in DOORS.items():
            for obj in objects(service):
                kubernetes.create(obj)
            for port in door.ports:
                server = pages(f"{service} {port.number}")
                stack.callback(server.server_close)
                stack.callback(server.shutdown)
                address = ("127.0.0.1", server.server_port)
                account.kubernetes.set_port(NAME, door.namespace, f"{service}-0", port.number + 1000, address)
        yield account


@dataclass
class Session:
    """A `cali open` that runs until it is told to end, as by Ctrl-C."""

    out: Stream
    err: Stream
    opened: list[str]

    def answer(self, url: str) -> str:
        request = urllib.request.Request(url, headers={"Authorization": "Basic abc"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return str(answer.read().decode())

    def wait(self, text: str, stream: Stream | None = None) -> None:
        until = time.monotonic() + 30
        while text not in (stream or self.err).getvalue():
            assert time.monotonic() < until, self.err.getvalue()
            time.sleep(0.01)


Open = Callable[..., Ran]


@pytest.fixture
def opens(deployed: Account, tmp_path: Path) -> Open:
    """`opens(*arguments, meanwhile=..., by=SIGINT)`: another thread runs `meanwhile` once the ports are open."""

    def invoke(
        *arguments: str,
        meanwhile: Callable[[Session], None] = lambda session: None,
        by: signal.Signals = signal.SIGINT,
        who: str = "jin",
        environ: dict[str, str] | None = None,
        terminal: bool = False,
        opened: list[str] | None = None,
    ) -> Ran:
        (tmp_path / "cali.yaml").touch()
        session = Session(Stream(), Stream(terminal=terminal), [] if opened is None else opened)
        ui = UI(
            stdin=Stream(),
            stdout=session.out,
            stderr=session.err,
            environ={"TERM": "xterm", "COLUMNS": "200", "NO_COLOR": "1", "DISPLAY": ":0"},
            clock=lambda: 0.0,
            now=lambda: pytest.fail("not asked"),
            browser=session.opened.append,
        )
        failures: list[BaseException] = []

        def watch() -> None:
            try:
                session.wait("Ctrl-C ends it")
                meanwhile(session)
            except BaseException as failure:
                failures.append(failure)
            finally:
                os.kill(os.getpid(), by)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        code = run(arguments, ui, {**deployed.environ(who), **(environ or {})}, tmp_path)
        watcher.join(30)
        assert not failures, failures
        return Ran(code, session.out.getvalue(), session.err.getvalue())

    return invoke


@pytest.fixture
def cali_as(cali: Cali, deployed: Account, tmp_path: Path) -> Callable[..., Ran]:
    """`cali` as somebody with keys; for what comes to an end by itself."""
    (tmp_path / "cali.yaml").touch()
    return lambda who, *arguments: cali("--output", "json", *arguments, environ=deployed.environ(who))


def test_a_service_is_reached_from_this_machine_until_ctrl_c(opens: Open) -> None:
    answers: list[str] = []

    def meanwhile(session: Session) -> None:
        url = session.out.getvalue().split()[5]
        answers.append(session.answer(url))

    ran = opens("open", "grafana", meanwhile=meanwhile)

    assert ran.code == 0
    # Other than the API server's own proxy, it leaves the header that logs in.
    assert answers == ["grafana 80 / Basic abc"]
    head, row = ran.out.splitlines()
    assert head.split() == ["SERVICE", "ADDRESS", "USER", "PASSWORD"]
    assert row.split()[0:3:2] == ["grafana", "admin"]
    assert row.endswith("ask whoever runs the platform: grafana.admin_password in their secrets.yaml")
    assert ran.err.splitlines()[-1] == "closed"


def test_several_at_once_with_their_ports_as_one_document(opens: Open, tmp_path: Path) -> None:
    (tmp_path / "secrets.yaml").write_text("not: looked at\n")
    answers: list[str] = []

    def meanwhile(session: Session) -> None:
        for service in json.loads(session.out.getvalue())["services"]:
            answers.extend(session.answer(port["url"]) for port in service["ports"])

    ran = opens(
        "--output", "json", "open", "milvus", "airflow", "milvus", meanwhile=meanwhile, by=signal.SIGTERM
    )

    assert ran.code == 0
    milvus, airflow = ran.document["services"]
    assert (milvus["name"], milvus["pod"], milvus["user"]) == ("milvus", "milvus-0", "root")
    assert milvus["password_in"] == "milvus.root_password in secrets.yaml"
    assert [port["port"] for port in milvus["ports"]] == [19530, 9091]
    assert milvus["url"] == f"http://127.0.0.1:{milvus['ports'][1]['local_port']}/webui/"
    assert airflow["password_in"] == "airflow.admin_password in secrets.yaml"
    assert [answer.rpartition(" Basic")[0] for answer in answers] == [
        "milvus 19530 /",
        "milvus 9091 /webui/",
        "airflow 8080 /",
    ]
    for port in (*milvus["ports"], *airflow["ports"]):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port["local_port"]))


def test_the_port_is_the_one_that_was_asked_for_or_a_free_one(opens: Open) -> None:
    with listen(0) as free:
        port = free.getsockname()[1]
    ran = opens("--output", "json", "open", "grafana", "--port", str(port))
    assert ran.document["services"][0]["ports"] == [
        {"port": 80, "local_port": port, "url": f"http://127.0.0.1:{port}/"}
    ]
    with ExitStack() as stack:
        # Whoever has it now, it is in use.
        with suppress(OSError):
            stack.enter_context(listen(3000))
        ran = opens("--output", "json", "open", "grafana")
    assert ran.document["services"][0]["ports"][0]["local_port"] != 3000


def test_the_browser_is_opened_unless_the_user_does_not_want_it(opens: Open) -> None:
    def meanwhile(session: Session) -> None:
        until = time.monotonic() + 30
        while not session.opened:
            assert time.monotonic() < until
            time.sleep(0.01)

    opened: list[str] = []
    ran = opens("open", "milvus", "airflow", terminal=True, opened=opened, meanwhile=meanwhile)
    assert ran.code == 0
    assert sorted(page.rpartition(":")[2].partition("/")[2] for page in opened) == ["", "webui/"]
    opened.clear()
    assert opens("open", "milvus", "--no-browser", terminal=True, opened=opened).code == 0
    assert opened == []


def test_a_connection_that_breaks_is_told_and_made_again(opens: Open, deployed: Account) -> None:
    door = DOORS["grafana"]
    set_port = partial(deployed.kubernetes.set_port, NAME, door.namespace, "grafana-0", 1080)
    address = deployed.kubernetes._cluster(NAME).server.ports[door.namespace, "grafana-0", 1080]

    def meanwhile(session: Session) -> None:
        url = session.out.getvalue().split()[5]
        set_port(None)
        with pytest.raises(OSError, match=r"reset|closed"):
            session.answer(url)
        session.wait("connection refused")
        set_port(address)
        assert session.answer(url).startswith("grafana 80")
        session.wait("grafana: it answers again")

    ran = opens("open", "grafana", meanwhile=meanwhile)
    assert "warning: grafana: port 1080 of Pod grafana/grafana-0: connection refused" in ran.err


def test_dashboards_need_no_port(cali_as: Callable[..., Ran], tmp_path: Path) -> None:
    ran = cali_as("stranger", "open", "opensearch")
    (page,) = ran.document["services"]
    assert page["url"].startswith("https://127.0.0.1:")
    assert page["url"].endswith("/_dashboards")
    assert (page["user"], page["ports"]) == (None, [])
    assert page["password_in"] == "handed over with your access; ask whoever runs the platform"
    (tmp_path / "secrets.yaml").touch()
    (page,) = cali_as("stranger", "open", "opensearch").document["services"]
    assert (page["user"], page["password_in"]) == ("cali-admin", "opensearch.master_password in secrets.yaml")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("grafanna",), "there is no service 'grafanna'; did you mean 'grafana'?"),
        (("grafana", "airflow", "--port", "4000"), "--port is for one service"),
        (("opensearch", "--port", "4000"), "opensearch has an address of its own"),
        ((), "Missing argument"),
        (("grafana", "--port", "0"), "--port"),
    ],
)
def test_what_cannot_be_meant(cali_as: Callable[..., Ran], arguments: tuple[str, ...], says: str) -> None:
    ran = cali_as("jin", "open", *arguments)
    assert ran.code == 2
    assert says in ran.document["error"]["message"]


def test_a_taken_port_is_told_before_aws_is_asked(cali: Cali, tmp_path: Path) -> None:
    (tmp_path / "cali.yaml").touch()
    with listen(0) as taken:
        port = str(taken.getsockname()[1])
        ran = cali("--output", "json", "open", "grafana", "--port", port)
    assert ran.code == 2
    assert ran.document["error"]["message"] == f"port {port} is in use on this machine"


def test_who_may_not_is_told_what_he_lacks(cali_as: Callable[..., Ran]) -> None:
    ran = cali_as("viewer", "open", "grafana")
    assert (ran.code, ran.document["error"]["code"]) == (1, "kubernetes-forbidden")
    assert "level edit or admin" in ran.document["error"]["remedy"]
    ran = cali_as("stranger", "open", "grafana")
    assert (ran.code, ran.document["error"]["code"]) == (1, "kubernetes-unauthorized")


def test_a_service_that_is_not_deployed(
    cali_as: Callable[..., Ran], deployed: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    monkeypatch.setitem(DOORS, "airflow", replace(DOORS["airflow"], namespace="elsewhere"))
    ran = cali_as("jin", "open", "grafana", "airflow")
    error = ran.document["error"]
    assert (ran.code, error["code"]) == (2, "precondition")
    assert error["message"] == "the cluster has no Service airflow-api-server in the namespace elsewhere"
    assert "cali up services" in error["remedy"]
    (tmp_path / "cali.yaml").write_text("services: {airflow: false}\n")
    error = cali_as("jin", "open", "airflow").document["error"]
    assert "services.airflow in cali.yaml" in error["remedy"]


def test_a_cluster_that_is_not_there(cali_as: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "cali.yaml").write_text("environment: other\n")
    ran = cali_as("jin", "open", "grafana")
    assert (ran.code, ran.document["error"]["code"]) == (2, "precondition")
    assert "there is no cluster cali-other" in ran.document["error"]["message"]
    ran = cali_as("jin", "open", "opensearch")
    assert "there is no OpenSearch domain cali-other" in ran.document["error"]["message"]


def test_a_password_in_the_environment_is_named_by_its_variable(
    cali: Cali, deployed: Account, tmp_path: Path
) -> None:
    (tmp_path / "cali.yaml").touch()
    (tmp_path / "secrets.yaml").touch()
    environ = {**deployed.environ("jin"), "CALI_OPENSEARCH__MASTER_PASSWORD": "Elsewhere-password-1"}
    ran = cali("open", "opensearch", environ=environ)
    assert ran.out.splitlines()[1].endswith("the variable CALI_OPENSEARCH__MASTER_PASSWORD")
    assert "Elsewhere-password-1" not in ran.out + ran.err


def test_a_kubeconfig_has_to_lead_to_the_same_cluster(
    cali_as: Callable[..., Ran], deployed: Account, tmp_path: Path
) -> None:
    config = {
        "current-context": "home",
        "contexts": [{"name": "home", "context": {"cluster": "home", "user": "me"}}],
        "clusters": [{"name": "home", "cluster": {"server": "https://127.0.0.1:9"}}],
        "users": [{"name": "me", "user": {"token": "t"}}],
    }
    (tmp_path / "kube").write_text(json.dumps(config))
    ran = cali_as("jin", "--kubeconfig", "kube", "open", "grafana")
    assert (ran.code, ran.document["error"]["code"]) == (2, "wrong-target")
    assert (
        "leads to https://127.0.0.1:9, the cluster of this environment is" in ran.document["error"]["message"]
    )


def test_an_api_that_does_not_answer(cali_as: Callable[..., Ran], deployed: Account) -> None:
    deployed.kubernetes.faults.unreachable(60)
    try:
        ran = cali_as("jin", "open", "grafana")
    finally:
        deployed.kubernetes.faults.clear()
    assert (ran.code, ran.document["error"]["code"]) == (1, "kubernetes-unreachable")
    assert (
        "the cluster's endpoint is private: reach it from inside the VPC" in ran.document["error"]["remedy"]
    )
