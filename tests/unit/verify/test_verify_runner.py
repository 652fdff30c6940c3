"""Running checks: who waits for whom, who is given up, what is put down, and when it is over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from cali_infra.errors import AwsError
from cali_infra.verify.checks import Check, Family, Result, Status, failed, passed, skipped, warned
from cali_infra.verify.context import Context
from cali_infra.verify.report import Report
from cali_infra.verify.runner import Runner, Silent
from cali_infra.verify.subject import Subject

SUBJECT = cast(Subject, None)


def make(
    name: str, ask: Callable[[Context], Result] = lambda context: passed("fine"), *needs: str, **more: Any
) -> Check:
    return Check(name, name, Family.AWS, ask, "It proves.", "mend it", needs=needs, **more)


@dataclass
class Watch(Silent):
    lines: list[str] = field(default_factory=list)

    def started(self, check: Check) -> None:
        self.lines.append(f"started {check.id}")

    def ended(self, check: Check, result: Result) -> None:
        self.lines.append(f"{result.status.value} {check.id}")

    def again(self, left: int, total: int, pause: float) -> None:
        self.lines.append(f"again {left} of {total}")

    def putting_down(self, checks: Sequence[Check]) -> None:
        self.lines.append(f"putting down {', '.join(check.id for check in checks)}")


@pytest.fixture
def hanging() -> Iterator[Callable[[Context], Result]]:
    """A check's function that does not end by itself."""
    end = threading.Event()

    def hang(context: Context) -> Result:
        end.wait()
        return passed("too late")

    yield hang
    end.set()


def run(*checks: Check, cancel: threading.Event | None = None, **more: Any) -> dict[str, Result]:
    return results(Runner(SUBJECT, cancel or threading.Event(), **more).run(checks))


def results(report: Report) -> dict[str, Result]:
    return {line.check.id: line.result for line in report.lines}


def said(found: dict[str, Result]) -> dict[str, str]:
    return {name: result.status.value for name, result in found.items()}


def test_what_does_not_wait_for_each_other_runs_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=10)

    def meet(context: Context) -> Result:
        together.wait()
        return passed("met")

    found = run(make("a", meet), make("b", meet), make("c", meet))

    assert said(found) == {"a": "pass", "b": "pass", "c": "pass"}


def test_a_check_begins_when_what_it_needs_has_passed() -> None:
    order: list[str] = []

    def note(name: str) -> Callable[[Context], Result]:
        def ask(context: Context) -> Result:
            order.append(name)
            return warned("look at it") if name == "a" else passed("fine")

        return ask

    # In whatever order they are given; and a warning is no broken ground.
    run(make("c", note("c"), "b"), make("b", note("b"), "a"), make("a", note("a")))

    assert order == ["a", "b", "c"]


def test_one_dead_cluster_is_one_failure() -> None:
    asked: list[str] = []

    def never(context: Context) -> Result:
        asked.append("never")
        return passed("fine")

    found = run(
        make("cluster", lambda context: failed("it is gone")),
        make("nodes", never, "cluster"),
        make("pods", never, "nodes"),
        make("search"),
    )

    assert said(found) == {"cluster": "fail", "nodes": "skip", "pods": "skip", "search": "pass"}
    # The cause, and not the chain.
    assert found["nodes"].detail == found["pods"].detail == "cluster failed"
    assert found["pods"].cause == "cluster"
    assert not asked


def test_what_is_switched_off_is_said_to_those_who_need_it() -> None:
    found = run(
        make("airflow.release", lambda context: skipped("airflow is off in cali.yaml")),
        make("airflow.workloads", lambda context: passed("fine"), "airflow.release"),
    )

    assert found["airflow.workloads"].detail == "airflow.release was skipped: airflow is off in cali.yaml"


def test_one_that_hangs_fails_alone_in_its_own_time(hanging: Callable[[Context], Result]) -> None:
    found = run(
        make("stuck", hanging, timeout=0.05),
        make("behind", lambda context: passed("fine"), "stuck"),
        make("beside"),
    )

    assert said(found) == {"stuck": "fail", "behind": "skip", "beside": "pass"}
    assert found["stuck"].detail == "no answer within 0.05 seconds"
    assert found["stuck"].remedy == "mend it"
    left = [thread for thread in threading.enumerate() if thread.name == "check stuck"]
    assert left and all(thread.daemon for thread in left), "it keeps no process alive"


def test_one_that_crashes_fails_alone_and_says_where() -> None:
    def crash(context: Context) -> Result:
        raise KeyError("spec")

    found = run(make("broken", crash), make("beside"))

    assert said(found) == {"broken": "fail", "beside": "pass"}
    assert "KeyError: 'spec' (test_verify_runner.py:" in found["broken"].detail
    assert "mistake in cali" in found["broken"].remedy


def test_an_error_of_an_adapter_is_a_failure_with_its_own_remedy() -> None:
    def refuse(context: Context) -> Result:
        raise AwsError("eks: no", remedy="aws sso login")

    def plain(context: Context) -> Result:
        raise AwsError("eks: no")

    found = run(make("a", refuse), make("b", plain))

    assert (found["a"].detail, found["a"].remedy) == ("eks: no", "aws sso login")
    assert found["b"].remedy == "mend it"


def test_a_fact_is_asked_once_and_its_error_is_everybody_s() -> None:
    asked: list[str] = []

    def cluster() -> str:
        asked.append("cluster")
        raise AwsError("eks: no", remedy="aws sso login")

    def ask(context: Context) -> Result:
        return passed(context.fact("cluster", cluster))

    found = run(make("a", ask), make("b", ask), make("c", ask))

    assert asked == ["cluster"]
    assert {result.detail for result in found.values()} == {"eks: no"}


def test_a_fact_that_hangs_costs_each_its_own_time(hanging: Callable[[Context], Result]) -> None:
    def ask(context: Context) -> Result:
        return passed(str(context.fact("cluster", lambda: hanging(context))))

    found = run(make("a", ask, timeout=0.1), make("b", ask, timeout=0.1), make("beside"))

    assert said(found) == {"a": "fail", "b": "fail", "beside": "pass"}


def test_what_was_made_is_put_down_in_whatever_way_a_check_ends(hanging: Callable[[Context], Result]) -> None:
    done: list[str] = []

    def make_something(ends: Callable[[Context], Result]) -> Callable[[Context], Result]:
        def ask(context: Context) -> Result:
            context.defer("the first", lambda: done.append("first"))
            context.defer("the second", lambda: done.append("second"))
            return ends(context)

        return ask

    def crash(context: Context) -> Result:
        raise KeyError("spec")

    for ends in (lambda context: passed("fine"), crash, hanging):
        done.clear()
        run(make("volume", make_something(ends), timeout=1.0, grace=0.2))
        assert done == ["second", "first"]


def test_what_cannot_be_put_down_is_a_failure_that_names_it() -> None:
    def ask(context: Context) -> Result:
        def undo() -> None:
            raise AwsError("it is in use", remedy="aws ec2 delete-volume --volume-id vol-1")

        context.defer("volume vol-1", undo)
        return passed("written and read")

    found = run(make("volume", ask))

    assert found["volume"].status is Status.FAIL
    assert found["volume"].detail == "written and read; left behind: volume vol-1 (it is in use)"
    assert found["volume"].remedy == "aws ec2 delete-volume --volume-id vol-1"


def test_ctrl_c_reports_what_is_known_and_puts_down_what_is_held() -> None:
    cancel, done = threading.Event(), list[str]()

    def interrupted(context: Context) -> Result:
        context.defer("the volume", lambda: done.append("put down"))
        cancel.set()
        context.cancel.wait(10)
        return failed("of no interest")

    def deaf(context: Context) -> Result:
        threading.Event().wait(10)
        return passed("too late")

    runner = Runner(SUBJECT, cancel)
    report = runner.run(
        [
            make("first"),
            make("volume", interrupted, "first", grace=10.0),
            make("deaf", deaf),
            make("last", lambda context: passed("fine"), "volume"),
        ]
    )

    found = results(report)
    assert report.interrupted
    assert not report.ok()
    assert done == ["put down"]
    assert found["first"].status is Status.PASS
    assert found["deaf"].detail == "interrupted before it ended"
    assert found["last"].detail == "interrupted before it began"


def test_what_asks_a_person_runs_only_after_a_yes() -> None:
    costly = make("deep.autoscaler", question="a node costs money")
    behind = make("deep.more", lambda context: passed("fine"), "deep.autoscaler")

    assert said(run(costly, behind)) == {"deep.autoscaler": "skip", "deep.more": "skip"}
    assert (
        run(costly, behind)["deep.autoscaler"].detail
        == "not approved (--yes approves it): a node costs money"
    )
    asked: list[str] = []

    def yes(check: Check) -> bool:
        asked.append(check.question)
        return True

    assert said(run(costly, behind, approve=yes)) == {"deep.autoscaler": "pass", "deep.more": "pass"}
    assert asked == ["a node costs money"]
    # Who said yes said it to one time: waiting does not make another node.
    runs: list[str] = []

    def not_yet(context: Context) -> Result:
        runs.append("run")
        return failed("not yet")

    failing = make("deep.autoscaler", not_yet, question="a node costs money")
    report = Runner(SUBJECT, threading.Event(), approve=yes).until_passed([failing], 900)
    assert not report.ok()
    assert runs == ["run"]
    assert asked == ["a node costs money"] * 2


def test_what_hangs_on_a_check_does_not_wait_until_what_that_made_is_put_down() -> None:
    begun = threading.Event()

    def makes(context: Context) -> Result:
        context.defer("the namespace", lambda: None if begun.wait(10) else 1 / 0)
        return passed("made")

    def behind(context: Context) -> Result:
        begun.set()
        return passed("fine")

    found = run(make("a", makes, timeout=0.5, grace=5.0), make("b", behind, "a"))

    assert said(found) == {"a": "pass", "b": "pass"}


def test_what_was_approved_and_only_skipped_runs_once_what_it_needs_passes() -> None:
    rounds, runs = list[str](), list[str]()

    def ground(context: Context) -> Result:
        rounds.append("round")
        return passed("fine") if len(rounds) > 1 else failed("not yet")

    def costly(context: Context) -> Result:
        runs.append("run")
        return passed("a node came")

    report = Runner(SUBJECT, threading.Event(), approve=lambda check: True).until_passed(
        [make("ground", ground), make("deep.autoscaler", costly, "ground", question="a node costs money")],
        900,
        pause=lambda seconds: None,
    )

    assert report.ok()
    assert runs == ["run"]


def test_what_left_something_behind_is_not_run_again_to_leave_more() -> None:
    made: list[str] = []

    def makes(context: Context) -> Result:
        def undo() -> None:
            raise AwsError("it hangs")

        context.defer("a namespace", undo, "kubectl get namespaces")
        made.append("a namespace")
        return passed("made")

    report = Runner(SUBJECT, threading.Event()).until_passed(
        [make("a", makes)], 900, pause=lambda seconds: None
    )

    assert not report.ok()
    assert made == ["a namespace"]
    assert report.lines[0].result.remedy == "kubectl get namespaces"


def test_what_is_not_put_down_in_time_is_named_with_what_to_type() -> None:
    slow, watch = threading.Event(), Watch()

    def makes(context: Context) -> Result:
        context.defer("the volume", lambda: None)
        context.defer("the namespace", lambda: slow.wait(60) and None, "kubectl get namespaces")
        return passed("made")

    found = run(make("a", makes), farewell=0.05, watch=watch)
    slow.set()

    assert found["a"].status is Status.FAIL
    assert found["a"].detail == (
        "made; left behind: the namespace (not put down in time); the volume (not put down in time)"
    )
    assert found["a"].remedy == "kubectl get namespaces"
    assert watch.lines == ["started a", "pass a", "putting down a"]


def test_what_a_check_that_was_given_up_is_still_putting_down_is_named() -> None:
    """By its own thread, which nobody may overtake."""
    slow = threading.Event()

    def makes(context: Context) -> Result:
        context.defer("the namespace", lambda: slow.wait(60) and None)
        context.put_down()
        return passed("made")

    found = run(make("a", makes, timeout=0.1, grace=0.05), farewell=0.1)
    slow.set()

    assert found["a"].detail == (
        "no answer within 0.1 seconds; left behind: the namespace (not put down in time)"
    )


def test_nothing_is_made_any_more_once_a_check_is_to_stop() -> None:
    def makes(context: Context) -> Result:
        context.cancel.set()
        context.defer("the namespace", lambda: None)
        return passed("made")

    found = run(make("a", makes))

    assert (found["a"].status, found["a"].detail) == (Status.SKIP, "interrupted before it ended")


def test_waiting_asks_again_for_what_has_not_passed_and_what_it_needs() -> None:
    asked: list[str] = []

    def after(rounds: int, name: str) -> Callable[[Context], Result]:
        def ask(context: Context) -> Result:
            asked.append(name)
            return passed("fine") if asked.count(name) > rounds else failed("not yet")

        return ask

    watch, slept = Watch(), list[float]()
    report = Runner(SUBJECT, threading.Event(), watch).until_passed(
        [
            make("a", after(0, "a")),
            make("b", after(2, "b"), "a"),
            make("c", after(0, "c"), "b"),
            make("d", after(0, "d")),
        ],
        patience=900,
        pause=slept.append,
    )

    assert report.ok()
    assert sorted(asked) == sorted(["a", "b", "d", "a", "b", "a", "b", "c"])
    assert [line for line in watch.lines if line.startswith("again")] == ["again 2 of 3", "again 2 of 3"]
    assert slept == [2.0, 4.0]


def test_waiting_ends_when_its_time_is_over_and_at_ctrl_c() -> None:
    seconds = [0.0]

    def rest(pause: float) -> None:
        seconds[0] += pause

    def never(context: Context) -> Result:
        return failed("never")

    runner = Runner(SUBJECT, threading.Event(), clock=lambda: seconds[0])
    report = runner.until_passed([make("a", never)], patience=25, pause=rest)
    assert not report.ok()
    assert seconds == [25.0]
    assert report.seconds == 25.0

    cancel = threading.Event()
    report = Runner(SUBJECT, cancel).until_passed(
        [make("a", never)], patience=900, pause=lambda pause: cancel.set()
    )
    assert report.interrupted
    assert results(report)["a"].detail == "never", "what is known so far is kept"


def test_warnings_fail_when_they_are_to_count() -> None:
    def warn_once() -> Callable[[Context], Result]:
        asked: list[int] = []

        def ask(context: Context) -> Result:
            asked.append(1)
            return warned("look at it") if len(asked) == 1 else passed("fine")

        return ask

    def rest(pause: float) -> None: ...

    runner = Runner(SUBJECT, threading.Event())
    report = runner.run([make("a", warn_once())])
    assert report.ok()
    assert not report.ok(strict=True)
    assert runner.until_passed([make("a", warn_once())], 900, strict=True, pause=rest).ok(strict=True)
    assert runner.until_passed([make("a", warn_once())], 900, pause=rest).counts()[Status.WARN] == 1


def test_the_watcher_hears_of_each_check_once() -> None:
    watch = Watch()
    checks: Sequence[Check] = [
        make("a"),
        make("b", lambda context: failed("no"), "a"),
        make("c", lambda context: passed("fine"), "b"),
    ]

    Runner(SUBJECT, threading.Event(), watch).run(checks)

    assert watch.lines == ["started a", "pass a", "started b", "fail b", "skip c"]
