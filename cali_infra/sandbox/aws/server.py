"""Starts and stops the AWS stand-in: an HTTP server on a free loopback port, in a thread of this process.

It owns the server, the account's life in moto (whose backends are the process' own, so one account is used
by one stand-in at a time) and how the parts are put together.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from cali_infra.sandbox.aws import buckets, launch_templates
from cali_infra.sandbox.aws.assuming import Gatekeeper
from cali_infra.sandbox.aws.clock import Clock
from cali_infra.sandbox.aws.controls import Controls
from cali_infra.sandbox.aws.domains import Domains
from cali_infra.sandbox.aws.eks.service import Eks
from cali_infra.sandbox.aws.eks.state import World
from cali_infra.sandbox.aws.front import Front
from cali_infra.sandbox.aws.identity import Identities, Operator
from cali_infra.sandbox.aws.scheduler.letters import Mailbox
from cali_infra.sandbox.aws.scheduler.runner import Runner
from cali_infra.sandbox.aws.scheduler.service import Scheduler
from cali_infra.sandbox.aws.scheduler.state import Book
from cali_infra.sandbox.aws.scheduler.targets import Targets
from cali_infra.sandbox.aws.simulator import Simulator
from cali_infra.sandbox.aws.tokens import TokenAuthenticator
from cali_infra.sandbox.ports import Caller, ClusterHost, DomainHost, ScalingGroup

ACCOUNT = "123456789012"
HOST = "127.0.0.1"


def _utcnow() -> datetime:
    return datetime.now(UTC)


def _new_id() -> str:
    return uuid.uuid4().hex


class AwsStandIn:
    """An AWS of one account on loopback.

    `cluster_delay` is the seconds that a cluster takes to become ACTIVE; `controls` changes that and more
    at run time. `strict_principals` refuses access entries for principals that IAM here does not know, as
    AWS does; without it they are taken, because a rehearsal names the principals of a real account.
    """

    def __init__(
        self,
        clusters: ClusterHost,
        domains: DomainHost,
        *,
        account: str = ACCOUNT,
        cluster_delay: float = 0.0,
        strict_principals: bool = False,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = _utcnow,
        new_id: Callable[[], str] = _new_id,
        rejected: Callable[[str, str], None] = lambda cluster, why: None,
    ) -> None:
        self.account = account
        scheduler_clock = Clock(now)
        self.controls = Controls(scheduler_clock)
        self.controls.delay("cluster_create", cluster_delay)
        self.controls.strict_principals = strict_principals
        self._identities = Identities(account, now)
        self._eks = Eks(World(self._identities, clusters, self.controls, clock, now, new_id))
        self._domains = Domains(domains, self.controls, clock=clock, now=now)
        # moto looks and then writes, without a lock between: two would get one state lock. Its answers are
        # computing alone, so taking turns costs nothing.
        self._turn = threading.Lock()
        self._book = Book()
        targets = Targets(self._identities, self.controls, self._eks)
        self._runner = Runner(self._book, targets, Mailbox(self._turn), clock=scheduler_clock, new_id=new_id)
        self._scheduler = Scheduler(
            self._book, targets, clock=scheduler_clock, now=now, changed=self._runner.look
        )
        scheduler_clock.listen(self._runner.run_due)
        self._authenticator = TokenAuthenticator(
            self._identities, self._eks, hosts=self._is_sts, now=now, rejected=rejected
        )
        self._server: Any = None
        self._thread: threading.Thread | None = None
        self._operator: Operator | None = None

    def start(self) -> str:
        """Start serving, with one administrator in IAM; returns the endpoint, an http URL on loopback."""
        from moto.core.config import default_user_config
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        # Without AWS' own policies no role could have one attached.
        default_user_config["iam"]["load_aws_managed_policies"] = True
        launch_templates.mend()
        buckets.mend()
        _forget(self.account)
        self._operator = self._identities.bootstrap()
        front = Front(
            {
                "eks": ("eks", self._eks.answer),
                "es": ("opensearch", self._domains.answer),
                "scheduler": ("scheduler", self._scheduler.answer),
            },
            gates={
                ("sts", "AssumeRole"): Gatekeeper(self._identities).assume_role,
                ("iam", "SimulatePrincipalPolicy"): Simulator(self._identities).principal_policy,
            },
            behind=DomainDispatcherApplication(create_backend_app),
            turn=self._turn,
            identities=self._identities,
            switches=self.controls,
        )
        self._runner.start()
        self._server = make_server(HOST, 0, front, threaded=True, request_handler=_quiet_handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="aws", daemon=True
        )
        self._thread.start()
        return self.endpoint

    def stop(self) -> None:
        """Stop serving and forget everything; harmless when it was never started."""
        if self._server is None:
            return
        self._server.shutdown()
        self._server.server_close()
        if self._thread is not None:
            self._thread.join(timeout=5)
        self._runner.stop()
        self._book.clear()
        self._eks.close()
        self._domains.close()
        _forget(self.account)
        self._server = self._thread = self._operator = None

    def __enter__(self) -> AwsStandIn:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        """Where it listens; raises RuntimeError before `start`."""
        if self._server is None:
            raise RuntimeError("the AWS stand-in has not been started")
        return f"http://{HOST}:{self._server.port}"

    @property
    def operator(self) -> Operator:
        """The administrator that IAM starts with; raises RuntimeError before `start`."""
        if self._operator is None:
            raise RuntimeError("the AWS stand-in has not been started")
        return self._operator

    def authenticator(self, cluster: str, token: str) -> Caller | None:
        """Who a cluster's bearer token belongs to; implements `ports.Authenticator`."""
        return self._authenticator(cluster, token)

    def scaling_groups(self, cluster: str) -> list[ScalingGroup]:
        """The Auto Scaling groups of a cluster, as the autoscaler finds them by their tags."""
        return self._eks.scaling_groups(cluster)

    def pod_role(self, cluster: str, namespace: str, service_account: str) -> str | None:
        """The role that EKS Pod Identity gives the pods of a service account, None without an association."""
        return self._eks.pod_role(cluster, namespace, service_account)

    def set_desired(self, cluster: str, group: str, desired: int, role: str) -> None:
        """Give an Auto Scaling group so many nodes, as the role of a pod may; see `ports.Cloud`."""
        with self._turn:
            self._eks.set_desired(cluster, group, desired, role)

    def environment(self, region: str) -> Mapping[str, str]:
        """What a child process needs in its environment to call this AWS as the operator."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.operator.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.operator.secret_access_key,
            "AWS_REGION": region,
            # boto3 reads this one only.
            "AWS_DEFAULT_REGION": region,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def _is_sts(self, host: str) -> bool:
        """Whether a presigned URL's host is STS: AWS' own names, or this server."""
        if self._server is not None and host == urlsplit(self.endpoint).netloc:
            return True
        return host == "sts.amazonaws.com" or (host.startswith("sts.") and host.endswith(".amazonaws.com"))


def _forget(account: str) -> None:
    """Take an account out of every one of moto's backends."""
    from moto.core.base_backend import BackendDict, backend_lock

    buckets.forget(account)
    with backend_lock:
        instances: list[Any] = vars(BackendDict)["_instances"]
        for backend in instances:
            backend.pop(account, None)


def _quiet_handler() -> type:
    """moto's request handler, without a line on stderr for every request."""
    from moto.moto_server.werkzeug_app import MotoRequestHandler

    class Handler(MotoRequestHandler):
        def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    return Handler
