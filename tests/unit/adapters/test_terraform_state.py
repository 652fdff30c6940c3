"""What is read from a state, and what is never shown of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cali_infra.adapters import terraform_state
from cali_infra.adapters.terraform_state import StateSnapshot
from cali_infra.errors import TerraformError

STATE = (Path(__file__).parent / "terraform_samples" / "state.json").read_text()


def state(*resources: object, **fields: object) -> StateSnapshot:
    document = {"version": 4, "serial": 3, "lineage": "l", "outputs": {}, "resources": resources, **fields}
    return terraform_state.parse(json.dumps(document))


def resource(*instances: object, **fields: object) -> dict[str, object]:
    return {"mode": "managed", "type": "aws_subnet", "name": "a", "instances": instances, **fields}


def test_a_real_state() -> None:
    found = terraform_state.parse(STATE)
    assert found.exists
    assert not found.empty
    assert found.serial > 0
    assert found.terraform_version == "1.11.4"
    assert found.outputs == {"a": 1, "pw": "sentinel"}
    assert found.sensitive == {"pw"}
    assert [r.address for r in found.resources] == [
        "terraform_data.changed",
        "terraform_data.forgotten",
        "terraform_data.gone",
        "terraform_data.old",
        "terraform_data.replaced",
        "terraform_data.tainted",
        'module.m.terraform_data.x["$${e}"]',
        'module.m.terraform_data.x["a.b"]',
        'module.m.terraform_data.x["c\\"d"]',
        'module.m.terraform_data.x["한\\n"]',
    ]


def test_what_is_tainted_comes_with_what_is_known_of_it() -> None:
    (tainted,) = terraform_state.parse(STATE).tainted
    assert tainted.address == "terraform_data.tainted"
    assert tainted.attributes["id"] == tainted.id


def test_what_is_whole_comes_without_its_attributes() -> None:
    assert all(not r.attributes and r.id for r in terraform_state.parse(STATE).resources if not r.tainted)


def test_no_value_is_shown_by_accident() -> None:
    found = state(
        resource({"attributes": {"id": "i-secret", "password": "sentinel"}, "status": "tainted"}),
        outputs={"pw": {"value": "sentinel", "type": "string", "sensitive": True}},
    )
    assert found.outputs["pw"] == "sentinel"
    assert "sentinel" not in repr(found)
    assert "i-secret" not in repr(found)


@pytest.mark.parametrize("text", ["", "\n"])
def test_before_the_first_apply_there_is_no_state(text: str) -> None:
    assert terraform_state.parse(text) == StateSnapshot()
    assert not terraform_state.parse(text).exists


def test_a_remote_backend_answers_for_a_state_that_was_never_written() -> None:
    answer = {"version": 4, "serial": 0, "lineage": "", "outputs": {}, "resources": []}
    assert not terraform_state.parse(json.dumps(answer)).exists


def test_after_a_destroy_the_state_is_there_and_empty() -> None:
    found = state(resource({"attributes": {}}, mode="data"))
    assert found.exists
    assert found.empty
    assert not found.managed


@pytest.mark.parametrize(
    ("fields", "instance", "address"),
    [
        ({}, {}, "aws_subnet.a"),
        ({}, {"index_key": 2}, "aws_subnet.a[2]"),
        ({}, {"index_key": "ap-1a"}, 'aws_subnet.a["ap-1a"]'),
        ({"mode": "data"}, {}, "data.aws_subnet.a"),
        ({"module": 'module.m["x"]', "mode": "data"}, {"index_key": 0}, 'module.m["x"].data.aws_subnet.a[0]'),
        ({}, {"index_key": 'a"b\\c${d}%{e}'}, 'aws_subnet.a["a\\"b\\\\c$${d}%%{e}"]'),
    ],
)
def test_an_address_is_the_one_that_plans_use(
    fields: dict[str, object], instance: dict[str, object], address: str
) -> None:
    assert state(resource(instance, **fields)).resources[0].address == address


def test_a_deposed_instance_is_told_apart() -> None:
    found = state(resource({"attributes": {}}, {"attributes": {}, "deposed": "ab12"}))
    assert [r.deposed for r in found.resources] == [False, True]


def test_another_format_is_refused() -> None:
    with pytest.raises(TerraformError, match="format 5") as caught:
        state(version=5)
    assert "upgrade cali" in caught.value.remedy


@pytest.mark.parametrize("text", ["sentinel", "[]", "null", '{"serial": 1, "pw": "sentinel"}'])
def test_what_is_no_state_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(TerraformError) as caught:
        terraform_state.parse(text)
    assert "sentinel" not in str(caught.value)
