"""A set of objects as a stage, against the API server in memory."""

from __future__ import annotations

import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from cali_infra.adapters.kubernetes import Kubernetes, ObjectRef
from cali_infra.core.manifests import MANAGED_BY, ManifestPlan, ManifestWork, tier
from cali_infra.core.rollout import wait_for_rollout
from cali_infra.errors import ConflictError, InvalidObjectError, KubernetesError, RunInterruptedError
from cali_infra.plans import Action
from cali_infra.sandbox.kubernetes.pods import FAIL
from cali_infra.sandbox.ports import NodeSpec

if TYPE_CHECKING:
    from conftest import Clock, Cluster, Watch

INVENTORY = "kube-system/cali-inventory-logging"


def named(
    api_version: str, kind: str, name: str, namespace: str | None = None, **rest: Any
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, **({"namespace": namespace} if namespace else {})}
    metadata["labels"] = {MANAGED_BY: "cali"}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}


def space(name: str = "logging") -> dict[str, Any]:
    return named("v1", "Namespace", name)


def config_map(name: str = "settings", **data: str) -> dict[str, Any]:
    return named("v1", "ConfigMap", name, "logging", data=data or {"colour": "blue"})


def secret(password: str) -> dict[str, Any]:
    data = {"password": base64.b64encode(password.encode()).decode()}
    return named("v1", "Secret", "login", "logging", data=data)


def daemon_set(image: str = "example.com/agent:1", **annotations: str) -> dict[str, Any]:
    pod = {"containers": [{"name": "agent", "image": image}], "tolerations": [{"operator": "Exists"}]}
    template = {"metadata": {"labels": {"app": "agent"}, "annotations": annotations}, "spec": pod}
    spec = {"selector": {"matchLabels": {"app": "agent"}}, "template": template}
    return named("apps/v1", "DaemonSet", "agent", "logging", spec=spec)


def nodes(cluster: Cluster, count: int = 2) -> None:
    specs = [NodeSpec(f"ip-10-0-0-{n}", "ap-northeast-2a", "m6i.xlarge") for n in range(count)]
    cluster.standin.set_nodes("demo", "workers", specs)


def work(kubernetes: Kubernetes, *objects: dict[str, Any], force: bool = False) -> ManifestWork:
    return ManifestWork("logging", kubernetes, lambda: list(objects), force=force)


def apply(stage: ManifestWork, watch: Watch) -> ManifestPlan:
    plan = stage.plan(watch)
    stage.apply(plan, watch, threading.Event())
    return plan


def said(plan: ManifestPlan) -> list[str]:
    return [f"{change.action.value} {change.address}" for change in plan.changes]


def test_a_first_plan_creates_everything_and_writes_nothing(cluster: Cluster, watch: Watch) -> None:
    stage = work(cluster.connect(), config_map(), space())
    plan = stage.plan(watch)
    assert said(plan) == [
        "create Namespace logging",
        "create ConfigMap logging/settings",
        f"create ConfigMap {INVENTORY}",
    ]
    assert plan.only_creates
    assert "logging" not in cluster.objects("namespaces")
    assert all(r.query.get("dryRun") == "All" for r in cluster.requests("PATCH"))
    assert not stage.exists()


def test_what_was_applied_is_unchanged_the_next_time(cluster: Cluster, watch: Watch) -> None:
    stage = work(cluster.connect(), space(), config_map(), secret("one"))
    apply(stage, watch)
    assert stage.exists()
    assert stage.plan(watch).empty


def test_a_change_is_shown_field_by_field(cluster: Cluster, watch: Watch) -> None:
    kubernetes = cluster.connect()
    apply(work(kubernetes, space(), config_map(colour="blue", size="big")), watch)
    plan = work(kubernetes, space(), config_map(colour="red", shape="round")).plan(watch)
    assert said(plan) == ["update ConfigMap logging/settings"]
    assert plan.changes[0].fields == (
        'data.colour: "blue" -> "red"',
        'data.shape: (none) -> "round"',
        'data.size: "big" -> (none)',
    )


def test_a_key_with_dots_stands_in_brackets(cluster: Cluster, watch: Watch) -> None:
    kubernetes = cluster.connect()
    apply(work(kubernetes, space(), config_map()), watch)
    marked = config_map()
    marked["metadata"]["annotations"] = {"example.com/owner": "me"}
    (change,) = work(kubernetes, space(), marked).plan(watch).changes
    assert change.fields == ('metadata.annotations: (none) -> {"example.com/owner": "me"}',)
    apply(work(kubernetes, space(), marked), watch)
    marked["metadata"]["annotations"] = {"example.com/owner": "you"}
    (change,) = work(kubernetes, space(), marked).plan(watch).changes
    assert change.fields == ('metadata.annotations[example.com/owner]: "me" -> "you"',)


def test_a_secret_is_compared_and_never_shown(cluster: Cluster, watch: Watch) -> None:
    kubernetes = cluster.connect()
    apply(work(kubernetes, space(), secret("old-sentinel")), watch)
    stage = work(kubernetes, space(), secret("new-sentinel"))
    plan = stage.plan(watch)
    assert plan.changes[0].fields == ("data.password: changed",)
    stage.apply(plan, watch, threading.Event())
    shown = repr(plan) + "\n".join(watch.lines)
    for password in ("old-sentinel", "new-sentinel"):
        assert password not in shown
        assert base64.b64encode(password.encode()).decode() not in shown


def test_a_drift_is_put_right(cluster: Cluster, watch: Watch) -> None:
    kubernetes = cluster.connect()
    stage = work(kubernetes, space(), config_map())
    apply(stage, watch)
    kubernetes.delete(ObjectRef("v1", "ConfigMap", "logging", "settings"))
    assert said(apply(stage, watch)) == ["create ConfigMap logging/settings"]


def test_an_equal_object_of_somebody_else_is_taken_into_care(cluster: Cluster, watch: Watch) -> None:
    kubernetes = cluster.connect()
    kubernetes.create(space())
    kubernetes.create(config_map())
    stage = work(kubernetes, config_map())
    plan = apply(stage, watch)
    assert plan.changes[0].fields == ("metadata.managedFields: the fields that cali manages",)
    assert stage.plan(watch).empty
    # It can be changed from then on, but it was there before: it is not deleted.
    assert [change.address for change in stage.destroy(watch, threading.Event())] == [
        f"ConfigMap {INVENTORY}"
    ]
    assert "logging/settings" in cluster.objects("configmaps")
    assert "ConfigMap logging/settings was there before cali and stays" in watch.lines


def test_kinds_are_written_in_their_order(cluster: Cluster, watch: Watch) -> None:
    nodes(cluster)
    account = named("v1", "ServiceAccount", "agent", "logging")
    apply(work(cluster.connect(), daemon_set(), secret("x"), config_map(), account, space()), watch)
    started = [line.split()[2] for line in watch.lines if line.startswith("started")]
    assert started[:2] == ["Namespace", "ServiceAccount"]
    assert started[-1] == "DaemonSet"
    assert tier("Namespace") < tier("ConfigMap") < tier("SomethingElse") < tier("DaemonSet")


def test_an_old_hashed_config_map_is_pruned_after_the_rollout(cluster: Cluster, watch: Watch) -> None:
    nodes(cluster)
    kubernetes = cluster.connect()
    apply(work(kubernetes, space(), config_map("settings-aaa"), daemon_set()), watch)
    watch.lines.clear()
    plan = apply(work(kubernetes, space(), config_map("settings-bbb"), daemon_set(rev="2")), watch)
    assert said(plan) == [
        "create ConfigMap logging/settings-bbb",
        "update DaemonSet logging/agent",
        "delete ConfigMap logging/settings-aaa",
        f"update ConfigMap {INVENTORY}",
    ]
    assert "logging/settings-aaa" not in cluster.objects("configmaps")
    assert watch.lines.index("DaemonSet logging/agent: 2 of 2 ready") < watch.lines.index(
        "started delete ConfigMap logging/settings-aaa"
    )


def test_what_is_kept_leaves_the_stage_and_not_the_record(cluster: Cluster, watch: Watch) -> None:
    kubernetes = cluster.connect()
    apply(work(kubernetes, space(), space("other"), config_map()), watch)
    left = ManifestWork("logging", kubernetes, lambda: [space("other")], keep=("Namespace",))
    plan = apply(left, watch)
    assert said(plan) == ["delete ConfigMap logging/settings", f"update ConfigMap {INVENTORY}"]
    (warning,) = plan.warnings
    assert "Namespace logging stays" in warning
    again = left.plan(watch)
    assert (again.empty, again.warnings) == (True, ())
    left.destroy(watch, threading.Event())
    assert "logging" not in cluster.objects("namespaces")


def test_what_somebody_made_under_an_old_name_is_not_pruned(cluster: Cluster, watch: Watch) -> None:
    kubernetes = cluster.connect()
    apply(work(kubernetes, space(), config_map("old")), watch)
    kubernetes.delete(ObjectRef("v1", "ConfigMap", "logging", "old"))
    kubernetes.create(config_map("old", theirs="yes"))
    apply(work(kubernetes, space(), config_map("new")), watch)
    assert cluster.objects("configmaps")["logging/old"]["data"] == {"theirs": "yes"}


def by_kubectl(cluster: Cluster, obj: dict[str, Any], *, force: bool = False) -> None:
    """Server-side apply as another manager."""
    call = {"fieldManager": "kubectl", **({"force": "true"} if force else {})}
    path = f"/api/v1/namespaces/logging/configmaps/{obj['metadata']['name']}"
    cluster.connect()._request("PATCH", path, call, obj, "application/apply-patch+yaml")


def test_a_conflict_names_field_and_owner(cluster: Cluster, watch: Watch) -> None:
    kubernetes = cluster.connect()
    kubernetes.apply(space())
    by_kubectl(cluster, config_map(colour="red"))
    stage = work(kubernetes, space(), config_map(colour="blue"))
    with pytest.raises(
        ConflictError, match=r"ConfigMap logging/settings: .* own \.data\.colour \(kubectl\)"
    ) as caught:
        stage.plan(watch)
    assert "--force-conflicts" in caught.value.remedy
    assert cluster.objects("configmaps")["logging/settings"]["data"] == {"colour": "red"}


def test_fields_of_others_are_taken_over_by_force_and_shown(cluster: Cluster, watch: Watch) -> None:
    kubernetes = cluster.connect()
    kubernetes.apply(space())
    by_kubectl(cluster, config_map(colour="red"))
    forced = work(kubernetes, space(), config_map(colour="blue"), force=True)
    plan = apply(forced, watch)
    (change,) = [change for change in plan.changes if change.address == "ConfigMap logging/settings"]
    assert change.fields == ('data.colour: "red" -> "blue"',)
    assert plan.warnings == ("ConfigMap logging/settings: takes over .data.colour from kubectl",)
    assert forced.plan(watch).empty


def test_what_cali_applied_before_is_taken_back_without_force(cluster: Cluster, watch: Watch) -> None:
    kubernetes = cluster.connect()
    stage = work(kubernetes, space(), config_map(colour="blue", size="big"))
    apply(stage, watch)
    by_kubectl(cluster, config_map(colour="red", theirs="yes"), force=True)
    plan = apply(stage, watch)
    assert said(plan) == ["update ConfigMap logging/settings"]
    assert plan.changes[0].fields == ('data.colour: "red" -> "blue"',)
    assert plan.warnings == ("ConfigMap logging/settings: takes back .data.colour from kubectl",)
    # What cali says nothing about stays theirs.
    data = cluster.objects("configmaps")["logging/settings"]["data"]
    assert data == {"colour": "blue", "size": "big", "theirs": "yes"}
    assert stage.plan(watch).empty


def test_a_field_that_is_new_in_the_manifest_is_not_cali_s_from_before(
    cluster: Cluster, watch: Watch
) -> None:
    kubernetes = cluster.connect()
    apply(work(kubernetes, space(), config_map(colour="blue")), watch)
    by_kubectl(cluster, config_map(colour="red", theirs="yes"), force=True)
    with pytest.raises(ConflictError) as caught:
        work(kubernetes, space(), config_map(colour="blue", theirs="no")).plan(watch)
    assert caught.value.owners == {".data.theirs": "kubectl"}


def test_a_field_that_another_takes_between_plan_and_apply_is_not_forced(
    cluster: Cluster, watch: Watch
) -> None:
    kubernetes = cluster.connect()
    stage = work(kubernetes, space(), config_map(colour="blue"))
    apply(stage, watch)
    wanted = work(kubernetes, space(), config_map(colour="blue", size="big"))
    plan = wanted.plan(watch)
    by_kubectl(cluster, config_map(size="small"))
    with pytest.raises(ConflictError, match=r"\.data\.size \(kubectl\)"):
        wanted.apply(plan, watch, threading.Event())
    assert cluster.objects("configmaps")["logging/settings"]["data"] == {"colour": "blue", "size": "small"}


def test_what_is_evidently_unchanged_is_not_asked_about_one_by_one(cluster: Cluster, watch: Watch) -> None:
    nodes(cluster)
    stage = work(
        cluster.connect(),
        space(),
        daemon_set(rev="1"),
        secret("x"),
        *[config_map(f"c{n}") for n in range(50)],
    )
    apply(stage, watch)
    before = len(cluster.requests())
    assert stage.plan(watch).empty
    asked = cluster.requests()[before:]
    assert {request.method for request in asked} == {"GET"}
    assert len(asked) <= 6


def test_one_bad_object_does_not_hide_the_others(cluster: Cluster, watch: Watch) -> None:
    kubernetes = cluster.connect()
    wrong, lost = {**config_map("wrong"), "datta": {}}, config_map("lost")
    lost["metadata"]["namespace"] = "nowhere"
    kubernetes.apply(space())
    with pytest.raises(KubernetesError, match="2 of 3 objects failed") as caught:
        work(kubernetes, config_map("right"), wrong, lost).plan(watch)
    assert "ConfigMap logging/wrong" in caught.value.message
    assert "nowhere" in caught.value.message


def test_a_write_that_fails_leaves_the_rest_of_its_tier_written(cluster: Cluster, watch: Watch) -> None:
    kubernetes = cluster.connect(patience=0.0)
    stage = work(kubernetes, space(), *[config_map(f"c{n}") for n in range(5)])
    plan = stage.plan(watch)
    cluster.standin.faults.answer(503, 1, method="PATCH", path="/configmaps/c3")
    with pytest.raises(KubernetesError, match="ConfigMap logging/c3"):
        stage.apply(plan, watch, threading.Event())
    assert "errored create ConfigMap logging/c3" in watch.lines
    written = {name for name in cluster.objects("configmaps") if name.startswith("logging/c")}
    assert written == {f"logging/c{n}" for n in (0, 1, 2, 4)}
    # The next run goes on from there.
    plan = apply(stage, watch)
    assert said(plan) == ["create ConfigMap logging/c3", f"update ConfigMap {INVENTORY}"]
    assert stage.plan(watch).empty


def test_an_object_that_stands_twice_is_refused(cluster: Cluster, watch: Watch) -> None:
    with pytest.raises(InvalidObjectError, match="ConfigMap logging/settings stands twice"):
        work(cluster.connect(), config_map(), config_map()).plan(watch)


def test_an_interrupted_apply_is_remembered_and_finished(cluster: Cluster, watch: Watch) -> None:
    kubernetes = cluster.connect()
    stage = work(kubernetes, space(), config_map(), daemon_set())
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(RunInterruptedError):
        stage.apply(stage.plan(watch), watch, cancel)
    assert "logging" not in cluster.objects("namespaces")
    nodes(cluster)
    apply(stage, watch)
    assert stage.plan(watch).empty


def test_an_unfinished_rollout_is_waited_for_by_the_next_run(cluster: Cluster, watch: Watch) -> None:
    kubernetes = cluster.connect()
    broken = daemon_set(**{FAIL: "ImagePullBackOff"})
    nodes(cluster)
    stage = work(kubernetes, space(), broken)
    cancel = threading.Event()
    plan = stage.plan(watch)
    timer = threading.Timer(0.3, cancel.set)
    timer.start()
    with pytest.raises(RunInterruptedError, match="DaemonSet logging/agent rolls out"):
        stage.apply(plan, watch, cancel)
    timer.join()
    # Nothing of it differs any more, and yet it is not done.
    plan = stage.plan(watch)
    assert said(plan) == [f"update ConfigMap {INVENTORY}"]
    assert plan.changes[0].fields == ("complete: false -> true",)


def test_destroy_deletes_what_cali_made_and_nothing_else(cluster: Cluster, watch: Watch) -> None:
    nodes(cluster)
    kubernetes = cluster.connect()
    kubernetes.create(named("v1", "Namespace", "theirs"))
    stage = work(kubernetes, space(), config_map(), secret("x"), daemon_set())
    apply(stage, watch)
    shown = [change.address for change in stage.contents()]
    gone = [change.address for change in stage.destroy(watch, threading.Event())]
    assert gone == shown
    assert gone[0] == "DaemonSet logging/agent"
    assert gone[-2:] == ["Namespace logging", f"ConfigMap {INVENTORY}"]
    assert "logging" not in cluster.objects("namespaces")
    assert "theirs" in cluster.objects("namespaces")
    assert not stage.exists()
    assert stage.contents() == () == stage.destroy(watch, threading.Event())


def test_the_record_holds_names_and_no_content(cluster: Cluster, watch: Watch) -> None:
    apply(work(cluster.connect(), space(), secret("sentinel")), watch)
    record = cluster.objects("configmaps")[INVENTORY]
    assert json.loads(record["data"]["objects"]) == [
        {"apiVersion": "v1", "kind": "Namespace", "name": "logging", "made": True},
        {"apiVersion": "v1", "kind": "Secret", "namespace": "logging", "name": "login", "made": True},
    ]
    assert "password" not in json.dumps(record)


def test_a_bare_namespace_is_known_as_ours(cluster: Cluster, watch: Watch) -> None:
    bare = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bare"}}
    stage = work(cluster.connect(), bare)
    apply(stage, watch)
    assert stage.plan(watch).empty
    assert cluster.objects("namespaces")["bare"]["metadata"]["labels"][MANAGED_BY] == "cali"
    stage.destroy(watch, threading.Event())
    assert "bare" not in cluster.objects("namespaces")


def test_many_objects_are_written_at_the_same_time(cluster: Cluster, watch: Watch) -> None:
    stage = work(cluster.connect(), space(), *[config_map(f"c{n}") for n in range(200)])
    plan = apply(stage, watch)
    assert plan.add == 202
    assert len([name for name in cluster.objects("configmaps") if name.startswith("logging/c")]) == 200
    assert stage.plan(watch).empty


def test_of_many_that_are_alike_a_few_are_shown_to_the_server(cluster: Cluster, watch: Watch) -> None:
    kubernetes = cluster.connect()
    kubernetes.apply(space())
    odd = config_map("odd", other="yes")
    stage = work(kubernetes, odd, *[config_map(f"c{n}", number=str(n)) for n in range(200)])
    plan = stage.plan(watch)
    assert plan.add == 202
    asked = [request.path for request in cluster.requests("PATCH") if request.query.get("dryRun")]
    assert len(asked) < 20
    assert any(path.endswith("/odd") for path in asked)


def test_a_wrong_value_among_many_is_told_by_the_apply_and_hides_no_other(
    cluster: Cluster, watch: Watch
) -> None:
    kubernetes = cluster.connect()
    wrong = config_map("Not_A_Name", number="x")
    objects = [config_map(f"c{n}", number=str(n)) for n in range(100)]
    stage = work(kubernetes, space(), *objects, wrong)
    kubernetes.apply(space())
    plan = stage.plan(watch)
    with pytest.raises(InvalidObjectError, match="Not_A_Name"):
        stage.apply(plan, watch, threading.Event())
    assert len([name for name in cluster.objects("configmaps") if name.startswith("logging/c")]) == 100


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "CrashLoopBackOff"])
def test_a_rollout_that_fails_says_why(cluster: Cluster, watch: Watch, clock: Clock, reason: str) -> None:
    nodes(cluster, 1)
    kubernetes = cluster.connect()
    kubernetes.apply(space())
    kubernetes.apply(daemon_set(**{FAIL: reason}))
    ref = ObjectRef("apps/v1", "DaemonSet", "logging", "agent")
    pods: list[Any] = []
    with ThreadPoolExecutor(1) as pool:
        while not pods:
            pods = pool.submit(kubernetes.list, "v1", "Pod", "logging").result()
    name = pods[0]["metadata"]["name"]
    cluster.standin.set_log("demo", "logging", name, "agent", "starting\ncannot open the door\n")
    event = Ticking(clock)
    with pytest.raises(KubernetesError, match="0 of 1 replicas ready after 60 seconds") as caught:
        wait_for_rollout(kubernetes, ref, watch, "logging", event, patience=60.0, clock=clock)
    assert reason in caught.value.message
    if reason == "CrashLoopBackOff":
        assert "cannot open the door" in caught.value.message
    assert "kubectl -n logging describe daemonset agent" in caught.value.remedy
    # It was said while there was still time to look.
    assert any(reason in line for line in watch.lines)


class Ticking(threading.Event):
    """Never set; waiting for it takes no time of ours."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        self._clock.sleep(timeout or 0.0)
        return super().wait(0.001)


def test_a_change_of_action_is_counted_as_a_user_counts(cluster: Cluster, watch: Watch) -> None:
    plan = work(cluster.connect(), space(), config_map()).plan(watch)
    assert (plan.add, plan.change, plan.destroy) == (3, 0, 0)
    assert {change.action for change in plan.changes} == {Action.CREATE}
