"""A line that is followed to its end: what is measured, what is told, and what is left behind."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest
import urllib3
from whole import SENTINEL, Whole

from cali_infra.core import pod_doors
from cali_infra.core.service_doors import DOORS
from cali_infra.verify import analysis_pod, jobs
from cali_infra.verify.checks import Status
from cali_infra.verify.report import Report

pytestmark = pytest.mark.processes


def milvus(whole: Whole, what: str, **body: Any) -> Any:
    """A request to Milvus as its root."""
    token = f"Bearer root:{whole.secrets.milvus.root_password.get_secret_value()}"
    with pod_doors.reach(whole.kubernetes, DOORS["milvus"]) as url, urllib3.PoolManager() as pool:
        answer = pool.request(
            "POST", f"{url}/v2/vectordb/{what}", json=body, headers={"Authorization": token}
        ).json()
    assert answer["code"] == 0, answer
    return answer["data"]


def test_every_leg_is_measured_nothing_is_left_and_no_password_is_told(whole: Whole) -> None:
    report = whole.report("e2e")
    found = {line.check.id: line.result for line in report.lines}

    assert {name: one.status for name, one in found.items() if one.status is not Status.PASS} == {}
    assert set(found["e2e.log-line"].measurements) == {"written", "stored"}
    assert set(found["e2e.grafana.line"].measurements) == {"in Grafana"}
    assert set(found["e2e.analysis"].measurements) == {"read", "connect", "store", "find", "drop"}
    assert whole.left() == []
    assert milvus(whole, "collections/list") == []
    assert SENTINEL not in str(report.document())


def test_the_line_of_one_run_is_not_the_next_ones(whole: Whole) -> None:
    lies = '"source_timestamp": "2001-02-03T04:05:06.000Z"'

    def lines() -> int:
        whole.refresh()
        return str(whole.documents()).replace("'", '"').count(lies)

    before = lines()
    for number in (1, 2):
        assert whole.results("e2e.log-line")["e2e.log-line"].status is Status.PASS
        assert lines() == before + number


def test_nothing_is_left_after_ctrl_c(whole: Whole) -> None:
    """While the line is waited for, which does not come."""
    cancel, reports = threading.Event(), list[Report]()

    def written() -> bool:
        pods = whole.kubernetes.list("v1", "Pod", labels=jobs.LABELS)
        return any(pod["status"].get("phase") == "Succeeded" for pod in pods)

    with whole.without_fluent_bit():
        run = threading.Thread(target=lambda: reports.append(whole.report("e2e.log-line", cancel=cancel)))
        run.start()
        whole.until(written)
        cancel.set()
        run.join()

    assert reports[0].interrupted
    assert whole.left() == []


def test_nothing_is_left_after_ctrl_c_in_the_analysis(whole: Whole) -> None:
    """Not in Airflow's namespace either, which stays: its pod hangs at a Milvus that does not answer."""
    cancel, reports = threading.Event(), list[Report]()

    def running() -> bool:
        pods = whole.kubernetes.list("v1", "Pod", "airflow", labels=jobs.LABELS)
        return any(pod["status"].get("phase") == "Running" for pod in pods)

    deaf = socket.create_server(("127.0.0.1", 0))
    with deaf, whole.another_crew(http_proxy=f"http://127.0.0.1:{deaf.getsockname()[1]}"):
        run = threading.Thread(target=lambda: reports.append(whole.report("e2e.analysis", cancel=cancel)))
        run.start()
        whole.until(running)
        cancel.set()
        run.join()

    assert reports[0].interrupted
    assert whole.left() == []


def test_a_pod_that_writes_nothing_is_told_at_once(whole: Whole) -> None:
    programs = whole.folder / "shells"
    programs.mkdir(exist_ok=True)
    (programs / "sh").write_text("#!/bin/sh\necho 'sh: no echo here' >&2\nexit 127\n")
    (programs / "sh").chmod(0o755)
    with whole.another_crew(PATH=f"{programs}:/usr/bin:/bin"):
        found = whole.results("e2e.log-line")["e2e.log-line"]

    assert found.status is Status.FAIL
    assert found.detail == "the Job's pod wrote no line, and ended with 127: sh: no echo here"
    assert "verify.image" in found.remedy


def test_what_a_pod_that_was_killed_left_in_milvus_is_dropped_and_what_others_use_is_not(
    whole: Whole,
) -> None:
    now = int(time.time())
    old, young = f"{analysis_pod.PREFIX}{now - 7200}_aa", f"{analysis_pod.PREFIX}{now - 60}_bb"
    for name in (old, young, "somebodys"):
        milvus(whole, "collections/create", collectionName=name, dimension=4)
    try:
        assert whole.results("e2e.analysis")["e2e.analysis"].status is Status.PASS
        assert sorted(milvus(whole, "collections/list")) == [young, "somebodys"]
    finally:
        for name in (young, "somebodys"):
            milvus(whole, "collections/drop", collectionName=name)


def test_a_line_is_a_point_of_length_one_and_another_line_another_point() -> None:
    one, same, other = (analysis_pod.vector(text) for text in ("a b c", "C b a", "something else"))
    assert len(one) == analysis_pod.DIMENSION
    assert abs(sum(x * x for x in one) - 1) < 1e-9
    assert one == same != other
