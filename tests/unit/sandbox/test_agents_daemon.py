"""What a DaemonSet's container is started with, as an agent reads it from the template."""

from __future__ import annotations

import base64
import copy
from typing import Any

import pytest
import yaml

from cali_infra.core import assets
from cali_infra.sandbox.agents import daemon
from cali_infra.sandbox.fluent_bit import ConfigurationError, Pipeline
from cali_infra.sandbox.pod_environment import MissingError, NotModelledError, environment

Obj = dict[str, Any]
FOLDER = assets.folder("k8s") / "fluent-bit"
DAEMON: Obj = yaml.safe_load((FOLDER / "daemonset.yaml").read_text())
DAEMON["metadata"]["namespace"] = "logging"
TEXT = (FOLDER / "fluent-bit.yaml").read_text()
VALUES = {"OPENSEARCH_USER": "writer", "OPENSEARCH_PASSWORD": "secret"}
SETTINGS = {
    "CLUSTER_NAME": "demo",
    "OPENSEARCH_HOST": "localhost",
    "OPENSEARCH_PORT": "1",
    "INDEX_PREFIX": "logs",
}
OBJECTS: dict[tuple[str, str], Obj] = {
    ("configmaps", "fluent-bit-config"): {"data": {"fluent-bit.yaml": TEXT}},
    ("configmaps", "fluent-bit-settings"): {"data": SETTINGS},
    ("secrets", "fluent-bit-opensearch"): {
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in VALUES.items()}
    },
}


def find(plural: str, name: str) -> Obj | None:
    return OBJECTS.get((plural, name))


def parts() -> tuple[Obj, Obj, Obj]:
    """A DaemonSet of its own, its pods' spec and the container."""
    made = copy.deepcopy(DAEMON)
    spec = made["spec"]["template"]["spec"]
    return made, spec, spec["containers"][0]


def test_our_daemonset_has_a_configuration_that_is_modelled_and_all_variables_for_it() -> None:
    file, text = daemon.configuration(DAEMON, find)
    environ = environment(parts()[2], find, lenient=True)
    assert (file, text) == ("fluent-bit.yaml", TEXT)
    assert environ == SETTINGS | VALUES
    assert Pipeline.read(file, text, environ).destination.host == "localhost"


@pytest.mark.parametrize(
    "arguments",
    [["-c", "/fluent-bit/config/fluent-bit.yaml"], ["--config", "/fluent-bit/config/fluent-bit.yaml"]],
)
def test_the_file_is_named_in_any_form_that_the_program_takes(arguments: list[str]) -> None:
    made, _, container = parts()
    container["args"] = arguments
    assert daemon.configuration(made, find) == ("fluent-bit.yaml", TEXT)


def test_a_variable_of_the_template_counts_more_and_a_prefix_stands_before_a_name() -> None:
    _, _, container = parts()
    container["env"] = [{"name": "CLUSTER_NAME", "value": "other"}]
    container["envFrom"][1]["prefix"] = "THE_"
    environ = environment(container, find, lenient=True)
    assert environ["CLUSTER_NAME"] == "other"
    assert environ["THE_OPENSEARCH_USER"] == "writer"


def test_what_cannot_be_had_is_left_out_or_said() -> None:
    field = {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    gone = {"name": "GONE", "valueFrom": {"secretKeyRef": {"name": "nothing", "key": "a"}}}
    last = {"name": "LAST", "value": "$(GONE)/$(NODE)/end"}
    container = {"envFrom": [{"configMapRef": {"name": "nothing"}}], "env": [field, gone, last]}
    assert environment(container, find, lenient=True) == {"LAST": "$(GONE)/$(NODE)/end"}
    with pytest.raises(MissingError, match="configmaps nothing"):
        environment(container, find)
    with pytest.raises(NotModelledError, match=r"NODE: valueFrom spec\.nodeName"):
        environment({"env": [field]}, find)
    assert environment({"env": [field]}, find, {"spec": {"nodeName": "one"}}) == {"NODE": "one"}


@pytest.mark.parametrize(
    "trouble", ["no argument", "another file", "no mount", "no volume", "items", "another name"]
)
def test_a_configuration_that_cannot_be_had_is_said(trouble: str) -> None:
    made, spec, container = parts()
    volume = spec["volumes"][0]
    match trouble:
        case "no argument":
            container["args"] = []
        case "another file":
            container["args"] = ["--config=/fluent-bit/config/other.yaml"]
        case "no mount":
            container["volumeMounts"] = []
        case "no volume":
            spec["volumes"] = []
        case "items":
            volume["configMap"]["items"] = [{"key": "a", "path": "fluent-bit.yaml"}]
        case _:
            volume["configMap"]["name"] = "nothing"
    with pytest.raises(ConfigurationError, match="DaemonSet logging/fluent-bit"):
        daemon.configuration(made, find)
