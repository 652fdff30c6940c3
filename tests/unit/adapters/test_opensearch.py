"""The OpenSearch door against a small https server that answers what a test wants."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from loopback import Server
from pydantic import SecretStr

from cali_infra.adapters.opensearch import OpenSearch
from cali_infra.errors import OpenSearchError
from cali_infra.sandbox.certificates import Authority

if TYPE_CHECKING:
    from conftest import Clock

PASSWORD = SecretStr("Sentinel-password-1")


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    user: str
    body: Any


@dataclass
class Domain:
    """Answers by METHOD and path; the last answer of a list stays. None cuts the connection."""

    endpoint: str
    ca_file: Path
    answers: dict[str, list[tuple[int, Any] | None]] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=lambda: {"admin": PASSWORD.get_secret_value()})
    requests: list[Request] = field(default_factory=list)

    def answer(self, route: str, *answers: tuple[int, Any] | None) -> None:
        self.answers[route] = list(answers)

    def take(self, request: Request) -> tuple[int, Any] | None:
        self.requests.append(request)
        path = request.path.partition("?")[0]
        waiting = self.answers.get(f"{request.method} {path}", [(404, {"error": "nothing here"})])
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]


@pytest.fixture
def domain(tmp_path: Path) -> Iterator[Domain]:
    authority = Authority.create()
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(authority.ca_pem)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None: ...

        def _handle(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            header = self.headers.get("Authorization", "")
            user, _, password = base64.b64decode(header.partition(" ")[2]).decode().partition(":")
            answer = made.take(Request(self.command, self.path, user, json.loads(raw) if raw else None))
            if answer is None:
                self.close_connection = True
                return
            status, body = answer if made.passwords.get(user) == password else (401, "Unauthorized")
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header(
                "Content-Type", "text/plain" if isinstance(body, str) else "application/json; charset=UTF-8"
            )
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_POST = _handle  # noqa: N815 - the names that http.server looks for

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.socket = authority.issue().server_context().wrap_socket(server.socket, server_side=True)
    made = Domain(f"127.0.0.1:{server.server_port}", ca_file)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


def connect(domain: Domain, clock: Clock, **changes: Any) -> OpenSearch:
    values: dict[str, Any] = {"user": "admin", "password": PASSWORD, "ca_file": domain.ca_file, **changes}
    return OpenSearch(domain.endpoint, clock=clock, sleep=clock.sleep, **values)


def test_it_speaks_https_with_the_user_and_the_password(domain: Domain, clock: Clock) -> None:
    domain.answer("GET /", (200, {"version": {"number": "2.19.0"}}))
    domain.answer("GET /_cluster/health", (200, {"status": "green"}))
    opensearch = connect(domain, clock)
    assert opensearch.info()["version"]["number"] == "2.19.0"
    assert opensearch.health() == "green"
    assert domain.requests[0] == Request("GET", "/", "admin", None)


def test_a_template_is_unwrapped_and_a_missing_one_is_none(domain: Domain, clock: Clock) -> None:
    opensearch = connect(domain, clock)
    assert opensearch.template("cali-logs") is None
    found = {"index_templates": [{"name": "cali-logs", "index_template": {"priority": 100}}]}
    domain.answer("GET /_index_template/cali-logs", (200, found))
    assert opensearch.template("cali-logs") == {"priority": 100}


def test_a_policy_is_replaced_at_the_version_that_was_read(domain: Domain, clock: Clock) -> None:
    path = "/_plugins/_ism/policies/keep"
    domain.answer(f"GET {path}", (200, {"_seq_no": 7, "_primary_term": 2, "policy": {"states": []}}))
    domain.answer(f"PUT {path}", (200, {}))
    opensearch = connect(domain, clock)
    found = opensearch.policy("keep")
    assert found is not None
    opensearch.put_policy("keep", {"states": ["new"]}, found[1])
    put = domain.requests[-1]
    assert put.body == {"policy": {"states": ["new"]}}
    assert "if_seq_no=7" in put.path and "if_primary_term=2" in put.path


def test_a_new_version_of_a_policy_reaches_its_own_indices_only(domain: Domain, clock: Clock) -> None:
    key = "index.plugins.index_state_management.policy_id"
    mine = [f"logs-{day:03}" for day in range(50)]
    explained: dict[str, Any] = {index: {key: "keep"} for index in mine}
    explained |= {"logs-held": {key: None}, "logs-archive": {key: "for-ever"}, "total_managed_indices": 51}
    domain.answer("GET /_plugins/_ism/explain/logs-*", (200, explained))
    refused = {"index_name": "logs-049", "index_uuid": "u", "reason": "it is in transition"}
    fine: dict[str, Any] = {"updated_indices": 40, "failures": False, "failed_indices": []}
    route = "/_plugins/_ism/change_policy/"
    domain.answer(f"POST {route}{','.join(mine[:40])}", (200, fine))
    domain.answer(f"POST {route}{','.join(mine[40:])}", (200, {**fine, "failed_indices": [refused]}))
    left = connect(domain, clock).renew_policy("keep", "logs-*")
    assert left == {"logs-held": "it has no policy", "logs-049": "it is in transition"}
    asked = [request for request in domain.requests if request.method == "POST"]
    assert len(asked) == 2 and all(request.body == {"policy_id": "keep"} for request in asked)
    assert not any("archive" in request.path or "held" in request.path for request in asked)


def test_a_policy_without_indices_has_none_to_reach(domain: Domain, clock: Clock) -> None:
    assert connect(domain, clock).renew_policy("keep", "logs-*") == {}
    assert [request.method for request in domain.requests] == ["GET"]


def test_roles_mappings_and_users_are_found_by_name(domain: Domain, clock: Clock) -> None:
    opensearch = connect(domain, clock)
    for kind, read in (
        ("roles", opensearch.role),
        ("rolesmapping", opensearch.role_mapping),
        ("internalusers", opensearch.user),
    ):
        assert read("writer") is None
        domain.answer(f"GET /_plugins/_security/api/{kind}/writer", (200, {"writer": {"hidden": False}}))
        assert read("writer") == {"hidden": False}


def test_a_users_password_goes_out_and_is_in_no_error(domain: Domain, clock: Clock, caplog: Any) -> None:
    path = "/_plugins/_security/api/internalusers/writer"
    domain.answer(f"PUT {path}", (400, {"status": "error", "reason": "Weak password"}))
    with caplog.at_level(0), pytest.raises(OpenSearchError, match="400 Weak password") as caught:
        connect(domain, clock).put_user("writer", PASSWORD, {"backend_roles": []})
    assert domain.requests[-1].body == {"backend_roles": [], "password": PASSWORD.get_secret_value()}
    shown = caught.value.message + caught.value.remedy + caplog.text
    assert PASSWORD.get_secret_value() not in shown


def test_a_password_is_tried_by_one_request(domain: Domain, clock: Clock) -> None:
    domain.answer("GET /", (200, {}))
    domain.passwords["writer"] = "right"
    opensearch = connect(domain, clock)
    assert opensearch.accepts("writer", SecretStr("right"))
    assert not opensearch.accepts("writer", SecretStr("wrong"))
    # Who may not ask for the version is known all the same.
    domain.answer("GET /", (403, {"error": {"reason": "no permissions for [cluster:monitor/main]"}}))
    assert opensearch.accepts("writer", SecretStr("right"))
    assert len(domain.requests) == 3


def test_a_wrong_master_password_says_which_file_to_look_at(domain: Domain, clock: Clock) -> None:
    with pytest.raises(OpenSearchError, match="does not accept the password of admin") as caught:
        connect(domain, clock, password=SecretStr("wrong")).info()
    assert caught.value.status == 401
    assert "opensearch.master_password" in caught.value.remedy
    assert len(domain.requests) == 1


def test_a_refusal_says_its_reason_and_where_to_look(domain: Domain, clock: Clock) -> None:
    domain.answer("GET /", (403, {"Message": "User: anonymous is not authorized"}))
    with pytest.raises(OpenSearchError, match="anonymous is not authorized") as caught:
        connect(domain, clock).info()
    assert "allowed_cidrs" in caught.value.remedy
    reason = {"error": {"type": "illegal_argument_exception", "reason": "unknown setting"}, "status": 400}
    domain.answer("PUT /_index_template/x", (400, reason))
    with pytest.raises(OpenSearchError, match="refused PUT /_index_template/x: 400 unknown setting"):
        connect(domain, clock).put_template("x", {})


def test_a_busy_domain_is_asked_again_for_a_bounded_time(domain: Domain, clock: Clock) -> None:
    domain.answer("GET /", (503, "busy"), (429, "slow down"), None, (200, {"name": "there"}))
    assert connect(domain, clock).info() == {"name": "there"}
    assert len(clock.slept) == 3
    domain.answer("GET /", (503, "busy"))
    started = clock.seconds
    with pytest.raises(OpenSearchError) as caught:
        connect(domain, clock, patience=60.0).info()
    assert caught.value.status == 503
    assert 30 < clock.seconds - started <= 60


def test_a_domain_that_is_away_is_named(clock: Clock) -> None:
    opensearch = OpenSearch("127.0.0.1:9", "admin", PASSWORD, clock=clock, sleep=clock.sleep)
    with pytest.raises(OpenSearchError, match=r"127\.0\.0\.1:9 cannot be reached") as caught:
        opensearch.info()
    assert "allowed_cidrs" in caught.value.remedy
    assert clock.seconds > 30


def test_a_connection_that_is_cut_while_tls_begins_is_one_that_is_made_again(
    domain: Domain, clock: Clock
) -> None:
    domain.answer("GET /_cluster/health", (200, {"status": "green"}))
    host, _, port = domain.endpoint.partition(":")
    cut = [True, True]

    def serve(sock: socket.socket) -> None:
        # Its first words are read, so that it ends in the middle of them.
        if cut:
            cut.pop()
            sock.recv(1)
            return
        with socket.create_connection((host, int(port))) as other:
            back = threading.Thread(target=pump, args=(other, sock))
            back.start()
            pump(sock, other)
            back.join()

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    server = Server(serve)
    beside = replace(domain, endpoint="{}:{}".format(*server.address))
    assert connect(beside, clock).health() == "green"
    assert len(clock.slept) == 2
    cut += [True] * 1000
    with pytest.raises(OpenSearchError, match="cannot be reached"):
        connect(beside, clock).health()
    server.close()


def test_a_certificate_of_somebody_else_is_not_tried_again(
    domain: Domain, clock: Clock, tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(Authority.create().ca_pem)
    with pytest.raises(OpenSearchError, match="is not trusted"):
        connect(domain, clock, ca_file=other).info()
    assert clock.slept == []


def test_an_answer_that_is_no_json_is_told(domain: Domain, clock: Clock) -> None:
    domain.answer("GET /_cluster/health", (200, "<html>"))
    with pytest.raises(OpenSearchError, match="something other than JSON"):
        connect(domain, clock).health()


def test_a_standard_port_is_https() -> None:
    assert OpenSearch("search.example.com", "admin", PASSWORD)._port == 443


# -- what `cali verify` asks -----------------------------------------------------------------------------------


def test_who_gives_no_password_is_let_in_or_not(domain: Domain, clock: Clock) -> None:
    domain.answer("GET /", (200, {}))
    assert not connect(domain, clock).accepts_anybody()
    domain.passwords[""] = ""
    assert connect(domain, clock).accepts_anybody()
    assert domain.requests[-1].user == ""


def test_rights_are_tried_on_an_index_that_is_not_there(domain: Domain, clock: Clock) -> None:
    opensearch = connect(domain, clock)
    domain.answer("POST /logs-cali-verify/_search", (404, {}), (403, {}), (200, {}))
    assert [opensearch.may_search("logs-cali-verify") for _ in range(3)] == [True, False, True]
    domain.answer("POST /logs-cali-verify/_doc", (404, {}), (403, {}))
    assert [opensearch.may_write("logs-cali-verify") for _ in range(2)] == [True, False]
    assert domain.requests[-1].path.endswith("?require_alias=true"), "so that nothing is ever written"
    domain.answer("POST /logs-cali-verify/_doc", (400, {"error": "no"}))
    with pytest.raises(OpenSearchError):
        opensearch.may_write("logs-cali-verify")


def test_a_search_goes_over_a_pattern_that_may_fit_nothing(domain: Domain, clock: Clock) -> None:
    domain.answer("POST /logs-*/_search", (200, {"hits": {"hits": []}}))
    assert connect(domain, clock).search("logs-*", {"size": 1}) == {"hits": {"hits": []}}
    assert "ignore_unavailable=true" in domain.requests[-1].path
    assert domain.requests[-1].body == {"size": 1}


def test_which_policy_an_index_follows(domain: Domain, clock: Clock) -> None:
    key = "index.plugins.index_state_management.policy_id"
    answer = {"logs-1": {key: "kept"}, "logs-2": {key: None}, "total_managed_indices": 1}
    domain.answer("GET /_plugins/_ism/explain/logs-*", (200, answer))
    assert connect(domain, clock).policies_of("logs-*") == {"logs-1": "kept", "logs-2": None}


@pytest.mark.parametrize(
    ("status", "answers"), [(200, True), (401, True), (301, False), (403, False), (400, False)]
)
def test_plain_http_is_answered_by_a_demand_for_a_password_too(status: int, answers: bool) -> None:
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None: ...

        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization", ""))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        found = OpenSearch(f"127.0.0.1:{server.server_port}", "admin", PASSWORD).answers_plain_http()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert found is answers
    assert seen == [""], "no password is sent in clear"


def test_plain_http_to_a_port_of_tls_is_refused(domain: Domain, clock: Clock) -> None:
    assert not connect(domain, clock).answers_plain_http()
    assert not OpenSearch("127.0.0.1:1", "admin", PASSWORD).answers_plain_http()
