"""Which changes from outside a saved plan would undo."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cali_infra.adapters.terraform_plan import undone
from cali_infra.errors import TerraformError

GROUP = "aws_eks_node_group.this"


def plan(drift: Any = (), changes: Any = ()) -> str:
    def listed(found: Any) -> list[dict[str, Any]]:
        return [
            {"address": address, "change": {"actions": actions, "before": before, "after": after}}
            for address, actions, before, after in found
        ]

    return json.dumps(
        {"format_version": "1.2", "resource_drift": listed(drift), "resource_changes": listed(changes)}
    )


def test_what_was_changed_by_hand_is_named_with_its_attribute() -> None:
    text = plan(
        drift=[(GROUP, ["update"], {"max": 8, "tags": None}, {"max": 20, "tags": {}})],
        changes=[(GROUP, ["update"], {"max": 20, "tags": {}}, {"max": 8, "tags": {}})],
    )
    assert undone(text) == {GROUP: ("max",)}


def test_what_the_settings_change_is_nobody_s_doing_outside() -> None:
    """Also where AWS spells something of it in another way than the state, which counts as drift to Terraform."""
    text = plan(
        drift=[(GROUP, ["update"], {"max": 8, "tags": None}, {"max": 8, "tags": {}})],
        changes=[(GROUP, ["update"], {"max": 8, "tags": {}}, {"max": 9, "tags": {"a": "b"}})],
    )
    assert undone(text) == {}


def test_what_is_left_to_others_is_not_put_back() -> None:
    text = plan(
        drift=[(GROUP, ["update"], {"desired": 3}, {"desired": 5})],
        changes=[(GROUP, ["no-op"], {"desired": 5}, {"desired": 5})],
    )
    assert undone(text) == {}


def test_what_is_gone_is_named_without_attributes() -> None:
    text = plan(
        drift=[(GROUP, ["delete"], {"max": 8}, None)], changes=[(GROUP, ["create"], None, {"max": 8})]
    )
    assert undone(text) == {GROUP: ()}


def test_what_has_to_be_made_anew_for_it_is_named_too() -> None:
    text = plan(
        drift=[(GROUP, ["update"], {"subnet": "a"}, {"subnet": "b"})],
        changes=[(GROUP, ["delete", "create"], {"subnet": "b"}, {"subnet": "a"})],
    )
    assert undone(text) == {GROUP: ("subnet",)}


@pytest.mark.parametrize("text", ["", "Error: no such file", "[]", '{"resource_drift": [1]}'])
def test_what_is_no_plan_is_an_error_without_its_text(text: str) -> None:
    with pytest.raises(TerraformError) as caught:
        undone(text)
    assert text == "" or text not in caught.value.message
