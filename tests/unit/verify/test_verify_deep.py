"""What the deep checks leave, however they end, and what is told of a Job that does not end well."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from whole import Whole

from cali_infra.adapters.kubernetes import ObjectRef
from cali_infra.errors import JobError, RunInterruptedError
from cali_infra.verify import jobs
from cali_infra.verify.checks import Check, Family, Result, Status
from cali_infra.verify.context import Context, Facts
from cali_infra.verify.families import CHECKS
from cali_infra.verify.report import Report

FAIL = "sandbox.cali.dev/fail"
AUTOSCALER = "cluster-autoscaler-aws-cluster-autoscaler"
# Without the ground that they need.
ALONE = tuple(replace(check, needs=()) for check in CHECKS if check.id == "deep.scale-up")

pytestmark = pytest.mark.processes


@contextmanager
def a_disk_that_hangs(whole: Whole) -> Iterator[None]:
    programs = whole.folder / "hanging"
    programs.mkdir(exist_ok=True)
    (programs / "sync").write_text("#!/bin/sh\nsleep 600\n")
    (programs / "sync").chmod(0o755)
    with whole.another_crew(PATH=f"{programs}:/usr/bin:/bin"):
        yield


def running(whole: Whole) -> bool:
    found = whole.kubernetes.list("v1", "Pod", labels=jobs.LABELS)
    return any(pod["status"].get("phase") == "Running" for pod in found)


def result(report: Report, name: str) -> Result:
    return next(line.result for line in report.lines if line.check.id == name)


class TestAWholePlatform:
    def test_everything_passes_is_measured_and_leaves_nothing(self, whole: Whole) -> None:
        found = whole.results("deep")

        assert {name: one.status for name, one in found.items() if one.status is not Status.PASS} == {}
        assert set(found["deep.volume"].measurements) == {"bound", "written and read", "deleted"}
        assert set(found["deep.scale-up"].measurements) == {"reaction", "node"}
        assert "takes the node away by itself" in found["deep.scale-up"].detail
        assert whole.left() == []

    def test_what_is_left_of_a_run_that_was_killed_is_deleted_and_said(self, whole: Whole) -> None:
        labels = dict(jobs.LABELS)
        for name, marks in (("cali-verify-aaaaaa", labels), ("cali-verify-foreign", {})):
            whole.kubernetes.create(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": marks}}
            )
        young = whole.results("deep.leftovers")["deep.leftovers"]
        assert young.status is Status.PASS
        assert whole.left() == ["Namespace cali-verify-aaaaaa"]

        old = whole.results("deep.leftovers", now=lambda: datetime.now(UTC) + timedelta(hours=2))
        assert old["deep.leftovers"].status is Status.WARN
        assert old["deep.leftovers"].detail.endswith("deleted what it left: cali-verify-aaaaaa, 2 hours old")
        assert whole.left() == []
        foreign = ObjectRef("v1", "Namespace", None, "cali-verify-foreign")
        assert whole.kubernetes.get(foreign) is not None
        whole.kubernetes.delete(foreign, wait=5)

    def test_without_a_default_class_no_volume_is_tried(self, whole: Whole) -> None:
        gp2 = ObjectRef("storage.k8s.io/v1", "StorageClass", None, "gp2")
        found = whole.kubernetes.get(gp2)
        assert found is not None
        with whole.without(gp2):
            ended = whole.results("deep.volume")["deep.volume"]
        assert (ended.status, ended.cause) == (Status.SKIP, "storage.default-class")

    def test_nobody_who_says_yes(self, whole: Whole) -> None:
        from cali_infra.verify.runner import Runner
        from cali_infra.verify.selection import choose

        report = Runner(whole.subject, threading.Event()).run(choose(CHECKS, ["deep.scale-up"]))
        ended = result(report, "deep.scale-up")
        assert ended.status is Status.SKIP
        assert "billed" in ended.detail

    def test_nodes_that_take_no_pods_are_not_counted(self, whole: Whole) -> None:
        """One is cordoned: three pods are one more than two nodes take."""
        node = ObjectRef("v1", "Node", None, whole.kubernetes.list("v1", "Node")[0]["metadata"]["name"])
        with whole.patched(node, {"spec": {"unschedulable": True}}, {"spec": {"unschedulable": None}}):
            ended = whole.results("deep.scale-up")["deep.scale-up"]
        assert ended.status is Status.PASS
        assert "3->4" in ended.detail


class TestNothingIsLeft:
    def test_after_ctrl_c(self, whole: Whole) -> None:
        cancel, reports = threading.Event(), list[Report]()
        with a_disk_that_hangs(whole):
            run = threading.Thread(target=lambda: reports.append(whole.report("deep.volume", cancel=cancel)))
            run.start()
            whole.until(lambda: running(whole))
            cancel.set()
            run.join()

        assert reports[0].interrupted
        assert result(reports[0], "deep.volume").detail == "interrupted before it ended"
        assert whole.left() == []

    def test_after_ctrl_c_while_a_node_is_waited_for(self, whole: Whole) -> None:
        cancel, reports = threading.Event(), list[Report]()
        # Nobody answers the pod that finds no place.
        with whole.without(ObjectRef("apps/v1", "Deployment", "kube-system", AUTOSCALER)):
            run = threading.Thread(
                target=lambda: reports.append(whole.report("deep.scale-up", cancel=cancel, checks=ALONE))
            )
            run.start()
            whole.until(lambda: len(whole.kubernetes.list("v1", "Pod", labels=jobs.LABELS)) == 4)
            cancel.set()
            run.join()

        assert reports[0].interrupted
        assert whole.left() == []

    def test_when_its_time_is_over(self, whole: Whole) -> None:
        """The check hangs where nothing is waited for but its own time."""
        checks = tuple(replace(c, timeout=1.0) if c.id == "deep.volume" else c for c in CHECKS)
        with a_disk_that_hangs(whole):
            ended = whole.results("deep.volume", checks=checks)["deep.volume"]

        assert (ended.status, ended.detail) == (Status.FAIL, "no answer within 1 seconds")
        assert whole.left() == []

    def test_when_it_crashes(self, whole: Whole) -> None:
        def crash(context: Context) -> Result:
            namespace = jobs.scratch(context, "crash")
            jobs.start(context, jobs.job("a", namespace, image="a:1", command=["sleep", "600"], seconds=600))
            raise ZeroDivisionError

        check = Check("deep.crash", "Crash", Family.DEEP, crash, "", "", grace=60.0, option="deep")
        ended = whole.results(checks=(check,))
        assert ended == {}
        ended = whole.results("deep.crash", checks=(check,))
        assert ended["deep.crash"].detail.startswith("the check crashed: ZeroDivisionError")
        assert whole.left() == []


Run = Callable[..., jobs.Ended]


class TestAJob:
    @pytest.fixture
    def run(self, whole: Whole) -> Iterator[Run]:
        """Runs a Job in a namespace of its own; the clock is thirty times too fast."""
        cancel = threading.Event()
        self.cancel = cancel
        facts = Facts(cancel)
        context = Context(whole.subject, facts, cancel, 1e12, clock=lambda: 30 * time.monotonic())

        def run(*command: str, fail: str = "", **more: Any) -> jobs.Ended:
            manifest = jobs.job(
                "it", jobs.scratch(context, "test"), image="a:1", command=command, **{"seconds": 60, **more}
            )
            if fail:
                manifest["metadata"]["annotations"] = {FAIL: fail}
            return jobs.run(context, manifest)

        with ExitStack() as stack:
            stack.callback(facts.close)
            stack.enter_context(whole.working())
            stack.callback(context.put_down)
            yield run
        assert whole.left() == []

    def test_one_that_ends_says_when_and_what_it_wrote(self, run: Run) -> None:
        before = datetime.now(UTC) - timedelta(seconds=1)
        ended = run("sh", "-c", "echo one; echo two; exit 4")
        assert ended.exit_code == 4
        assert ended.log == "one\ntwo\n"
        assert ended.last_words == "one / two"
        assert before <= ended.started <= ended.finished <= datetime.now(UTC)

    @pytest.mark.parametrize(
        ("more", "why"),
        [
            ({"fail": "ImagePullBackOff"}, 'ImagePullBackOff Back-off pulling image "a:1"'),
            (
                {"env_from": [{"secretRef": {"name": "gone"}}]},
                'CreateContainerConfigError secret "gone" not found',
            ),
        ],
    )
    def test_one_that_does_not_start(self, run: Run, more: dict[str, Any], why: str) -> None:
        with pytest.raises(JobError, match="does not start") as caught:
            run("sh", "-c", "echo no", **more)
        assert caught.value.reason == "NotStarted"
        assert why in caught.value.message

    def test_one_whose_program_is_not_there(self, run: Run) -> None:
        with pytest.raises(JobError, match="no-such-program") as caught:
            run("no-such-program")
        assert caught.value.reason == "NotStarted"

    def test_one_whose_time_is_over(self, run: Run) -> None:
        with pytest.raises(JobError) as caught:
            run("sh", "-c", "sleep 600", seconds=2)
        assert caught.value.reason == "DeadlineExceeded"

    def test_one_that_nobody_waits_for_any_more(self, run: Run) -> None:
        threading.Timer(0.3, self.cancel.set).start()
        with pytest.raises(RunInterruptedError):
            run("sh", "-c", "sleep 600")


def test_a_job_has_no_rights() -> None:
    """As Pod Security's level `restricted` demands, which its namespace enforces."""
    spec = jobs.job("a", "b", image="a:1", command=["sh"], seconds=5)["spec"]
    pod = spec["template"]["spec"]
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (
        0,
        5,
        600,
    )
    assert (pod["restartPolicy"], pod["automountServiceAccountToken"]) == ("Never", False)
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }


def test_one_with_a_service_account_has_its_token() -> None:
    pod = jobs.job("a", "b", image="a:1", command=["sh"], seconds=5, service_account="worker")
    spec = pod["spec"]["template"]["spec"]
    assert (spec["serviceAccountName"], spec["automountServiceAccountToken"]) == ("worker", True)
