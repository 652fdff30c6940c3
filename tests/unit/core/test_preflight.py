"""What stops a run before it starts."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from test_service_secrets import SSH_KEY, SSH_URL, secret_values

from cali_infra.adapters.aws import InstanceType, NodeGroupDescription
from cali_infra.core.preflight import (
    check_address,
    check_kubectl,
    check_nodes,
    check_room,
    check_up,
    without_git_sync,
)
from cali_infra.core.service_pods import Pod, wanted
from cali_infra.core.settings import Settings
from cali_infra.core.stages import named
from cali_infra.errors import AwsError, PreconditionError, SettingsError, UnreachableError

if TYPE_CHECKING:
    from cali_infra.core.platform import Platform


def test_an_address_that_is_let_in_passes() -> None:
    check_address(Settings(allowed_cidrs=["198.51.100.0/24", "203.0.113.7/32"]), lambda: "203.0.113.7")


@pytest.mark.parametrize("allowed", [[], ["198.51.100.0/24"]])
def test_an_address_that_is_not_let_in_stops_the_run(allowed: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        check_address(Settings(allowed_cidrs=allowed), lambda: "203.0.113.7")

    (problem,) = caught.value.problems
    assert (problem.file, problem.key, problem.example) == ("cali.yaml", "allowed_cidrs", "[203.0.113.7/32]")
    assert "203.0.113.7" in problem.problem


def test_an_address_that_nobody_tells_stops_the_run() -> None:
    def silent() -> str:
        raise AwsError("no answer")

    with pytest.raises(PreconditionError, match="no answer"):
        check_address(Settings(), silent)


def test_a_missing_kubectl_is_said_with_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(PreconditionError) as caught:
        check_kubectl(str(tmp_path))

    assert "kubectl is not installed" in str(caught.value)
    assert "kubernetes.io" in caught.value.remedy


def test_kubectl_on_the_path_is_enough(tmp_path: Path) -> None:
    program = tmp_path / "kubectl"
    program.touch(mode=0o755)

    check_kubectl(str(tmp_path))


M6I = InstanceType("m6i.xlarge", 4, 16384, 4, 15)
NANO = InstanceType("t3.nano", 2, 512, 2, 2)


def pods_of(settings: Settings) -> tuple[Pod, ...]:
    return wanted(settings, bundled_database=True, git_sync=True)


def test_services_that_fit_pass_and_the_types_of_the_node_group_are_asked_for() -> None:
    asked: list[list[str]] = []

    def describe(names: Collection[str]) -> tuple[InstanceType, ...]:
        asked.append(list(names))
        return (M6I,)

    settings = Settings()
    assert check_room(settings, pods_of(settings), describe) == ()
    assert asked == [["m6i.xlarge"]]


def test_services_that_do_not_fit_stop_the_run_with_the_numbers() -> None:
    settings = Settings.model_validate({"eks": {"min_nodes": 1, "desired_nodes": 1, "max_nodes": 1}})
    with pytest.raises(SettingsError) as caught:
        check_room(settings, pods_of(settings), lambda names: (M6I,))

    (problem,) = caught.value.problems
    assert (problem.file, problem.key) == ("cali.yaml", "eks.max_nodes")
    assert "4.88 CPU and 21.4 GiB together; of at most 1 x m6i.xlarge each has 3.57" in problem.problem
    assert "airflow.sizes or milvus.sizes or grafana.sizes" in problem.problem


def test_a_pod_that_no_node_holds_stops_the_run() -> None:
    with pytest.raises(SettingsError) as caught:
        check_room(Settings(), pods_of(Settings()), lambda names: (NANO,))

    (problem,) = caught.value.problems
    assert problem.key == "eks.instance_types"
    assert "milvus/standalone asks for 1 CPU and 8.0 GiB" in problem.problem


def test_only_whose_pod_is_too_big_is_told_to_ask_for_less() -> None:
    settings = Settings.model_validate({"milvus": {"sizes": {"standalone": {"cpu": 2, "memory": "64Gi"}}}})
    with pytest.raises(SettingsError) as caught:
        check_room(settings, pods_of(settings), lambda names: (M6I,))

    assert "ask for less (milvus.sizes), or" in caught.value.problems[0].problem


def test_an_instance_type_that_ec2_does_not_have_stops_the_run() -> None:
    def refuse(names: Collection[str]) -> tuple[InstanceType, ...]:
        raise AwsError("these types do not exist: [m9z.huge]", aws_code="InvalidInstanceType")

    with pytest.raises(SettingsError) as caught:
        check_room(Settings(), pods_of(Settings()), refuse)

    (problem,) = caught.value.problems
    assert problem.key == "eks.instance_types"
    assert "m9z.huge" in problem.problem


def test_whoever_may_not_ask_ec2_is_told_and_goes_on() -> None:
    def refuse(names: Collection[str]) -> tuple[InstanceType, ...]:
        raise AwsError("you may not", aws_code="UnauthorizedOperation")

    (note,) = check_room(Settings(), pods_of(Settings()), refuse)
    assert "could not be checked" in note
    assert "you may not" in note


def test_without_services_nobody_is_asked() -> None:
    def unwanted(names: Collection[str]) -> tuple[InstanceType, ...]:
        raise AssertionError

    assert check_room(Settings(), (), unwanted) == ()


def no_group(cluster: str, name: str) -> None:
    assert (cluster, name) == ("cali-default", "cali-default-nodes")


def unreachable() -> None:
    raise UnreachableError("no way in")


def group(desired: int, status: str = "ACTIVE") -> Callable[[str, str], NodeGroupDescription]:
    return lambda cluster, name: NodeGroupDescription(name, status, desired)


@pytest.mark.parametrize(
    ("bounds", "key", "said"),
    [
        ({"min_nodes": 4, "desired_nodes": 4}, "eks.min_nodes", "4 is above the number of nodes"),
        ({"min_nodes": 1, "desired_nodes": 2, "max_nodes": 2}, "eks.max_nodes", "2 is below the number of"),
    ],
)
def test_bounds_that_eks_would_refuse_stop_the_run_with_the_command(
    bounds: dict[str, int], key: str, said: str
) -> None:
    settings = Settings.model_validate({"eks": bounds})

    with pytest.raises(SettingsError) as caught:
        check_nodes(settings, group(3))

    (problem,) = caught.value.problems
    assert (problem.key, problem.problem.startswith(said)) == (key, True)
    assert "just now, 3" in problem.problem
    assert "--nodegroup-name cali-default-nodes --scaling-config desiredSize=" in caught.value.remedy
    # What that command leads to, and what begins anew.
    check_nodes(settings, group(bounds["desired_nodes"], "UPDATING"))
    check_nodes(settings, group(3, "CREATE_FAILED"))
    check_nodes(settings, no_group)


def test_an_airflow_without_dags_is_said() -> None:
    (note,) = without_git_sync(Settings(), secret_values())
    assert "without GitSync" in note
    assert "gitsync.url" in note
    assert without_git_sync(Settings(), secret_values(gitsync={"url": "https://example.com/acme/dags"})) == ()
    off = Settings.model_validate({"services": {"airflow": False}})
    assert without_git_sync(off, secret_values()) == ()


def test_up_stops_at_a_gitsync_key_that_is_none() -> None:
    gitsync = {"url": SSH_URL, "ssh_key": SSH_KEY, "known_hosts": "example.com ssh-ed25519 AAAAC3Nz"}
    settings = Settings()
    platform: Any = SimpleNamespace(
        target=SimpleNamespace(environ={"PATH": os.environ["PATH"]}, rehearsal=True),
        settings=settings,
        secrets=secret_values(gitsync=gitsync),
        aws=SimpleNamespace(instance_types=lambda names: (M6I,), nodegroup=no_group),
        inputs=SimpleNamespace(pods=lambda: pods_of(settings)),
        cluster_at_hand=lambda: None,
    )
    with pytest.raises(SettingsError) as caught:
        check_up(platform, named(["services"]))
    assert {problem.key for problem in caught.value.problems} == {"gitsync.ssh_key", "gitsync.known_hosts"}
    assert check_up(platform, named(["eks", "autoscaler"])) == ()


def test_up_hears_of_both_where_it_works_on_what_they_are_about() -> None:
    class Account:
        def instance_types(self, names: Collection[str]) -> tuple[InstanceType, ...]:
            raise AwsError("you may not", aws_code="UnauthorizedOperation")

        def nodegroup(self, cluster: str, name: str) -> None:
            raise AwsError("you may not", aws_code="AccessDeniedException")

    settings = Settings()
    platform = cast(
        "Platform",
        SimpleNamespace(
            target=SimpleNamespace(environ={"PATH": ""}, rehearsal=True),
            settings=settings,
            secrets=secret_values(),
            aws=Account(),
            inputs=SimpleNamespace(pods=lambda: pods_of(settings)),
            cluster_at_hand=unreachable,
        ),
    )

    def notes(*names: str) -> list[str]:
        return [note.split(":")[0] for note in check_up(platform, named(names))]

    room = "whether the services fit the nodes could not be checked"
    assert notes("services") == [room, "Airflow runs without GitSync"]
    assert notes("eks") == [room]
    assert notes("network", "autoscaler") == []
