"""What Terraform's JSON lines become, and what never comes through."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cali_infra.adapters.terraform_events import (
    ChangeSummary,
    DiagnosticEvent,
    Event,
    HookComplete,
    HookErrored,
    HookProgress,
    HookStarted,
    Log,
    Outputs,
    PlannedChange,
    Provisioning,
    RefreshComplete,
    RefreshStarted,
    ResourceDrift,
    Unparsed,
    VersionSeen,
    decode,
)

SAMPLES = Path(__file__).parent / "terraform_samples"


def events(sample: str) -> list[Event]:
    return [decode(line, str)[0] for line in (SAMPLES / sample).read_text().splitlines()]


def event(**fields: object) -> Event:
    return decode(json.dumps(fields), str)[0]


def test_no_line_of_terraform_is_left_unparsed() -> None:
    for sample in SAMPLES.glob("*.jsonl"):
        assert not [e for e in events(sample.name) if isinstance(e, Unparsed)], sample.name


def test_a_plan_tells_each_change_and_why() -> None:
    planned = [e for e in events("plan.jsonl") if isinstance(e, PlannedChange)]
    assert {(e.address, e.action, e.reason) for e in planned} == {
        ("terraform_data.new", "move", ""),
        ("terraform_data.created", "create", ""),
        ("terraform_data.tainted", "replace", "tainted"),
        ("terraform_data.changed", "update", ""),
        ("terraform_data.forgotten", "remove", "delete_because_no_resource_config"),
        ("terraform_data.gone", "delete", "delete_because_no_resource_config"),
        ("terraform_data.replaced", "replace", "cannot_update"),
        ("terraform_data.imported", "import", ""),
    }
    assert [e.previous for e in planned if e.action == "move"] == ["terraform_data.old"]
    assert [e.importing for e in planned if e.action == "import"] == [True]
    assert ChangeSummary("plan", 3, 1, 3, 1) in events("plan.jsonl")


def test_an_apply_tells_its_course() -> None:
    course = events("apply.jsonl")
    assert HookStarted("terraform_data.gone", "delete") in course
    assert HookComplete("terraform_data.gone", "delete", 0.0) in course
    created = [e for e in course if isinstance(e, HookComplete) and e.address == "terraform_data.created"]
    assert created[0].id
    assert ChangeSummary("apply", 3, 1, 3, 1) in course


def test_an_interrupted_apply_tells_what_broke_off() -> None:
    course = events("interrupted.jsonl")
    assert Provisioning("terraform_data.a", "local-exec", "start") in course
    assert [e.address for e in course if isinstance(e, HookErrored)] == ["terraform_data.a"]
    assert "execution halted" in [e.diagnostic.summary for e in course if isinstance(e, DiagnosticEvent)]


def test_an_output_is_a_name_and_never_a_value() -> None:
    line = json.dumps(
        {"type": "outputs", "outputs": {"pw": {"sensitive": False, "type": "string", "value": "sentinel"}}}
    )
    seen, text = decode(line, str)
    assert seen == Outputs({"pw": ""})
    assert "sentinel" not in text + repr(seen)


def test_only_outputs_that_change_count_as_a_change() -> None:
    same = {"a": {"action": "noop", "sensitive": True}}
    assert not Outputs({name: e["action"] for name, e in same.items()}).changed  # type: ignore[misc]
    assert Outputs({"a": "noop", "b": "delete"}).changed
    # After an apply there are values in place of actions.
    assert not Outputs({"a": ""}).changed


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"type": "version", "terraform": "1.11.4", "ui": "1.2"}, VersionSeen("1.11.4", "1.2")),
        ({"type": "version", "tofu": "1.10.0", "ui": "1.2"}, VersionSeen("1.10.0", "1.2")),
        (
            {
                "type": "apply_progress",
                "hook": {"resource": {"addr": "a.b"}, "action": "create", "elapsed_seconds": 10},
            },
            HookProgress("a.b", "create", 10.0),
        ),
        ({"type": "refresh_start", "hook": {"resource": {"addr": "a.b"}}}, RefreshStarted("a.b")),
        ({"type": "refresh_complete", "hook": {"resource": {"addr": "a.b"}}}, RefreshComplete("a.b")),
        (
            {"type": "resource_drift", "change": {"resource": {"addr": "a.b"}, "action": "update"}},
            ResourceDrift("a.b", "update"),
        ),
        ({"type": "init_output", "@message": "hello"}, Log("init_output", "hello")),
        ({"type": "of_a_later_version", "@message": "hello"}, Log("of_a_later_version", "hello")),
    ],
)
def test_the_other_types(fields: dict[str, object], expected: Event) -> None:
    assert event(**fields) == expected


@pytest.mark.parametrize(
    "line", ["", "no JSON", "[1]", '"text"', "null", '{"a": 1}', '{"type": 7}', '{"type": "outputs"', "{"]
)
def test_a_line_that_is_no_event_is_kept_as_it_came(line: str) -> None:
    assert decode(line, str) == (Unparsed(line), line)


@pytest.mark.parametrize("kind", ["planned_change", "apply_start", "change_summary", "diagnostic"])
def test_an_event_of_another_shape_is_kept(kind: str) -> None:
    assert isinstance(event(type=kind), Unparsed)
    assert isinstance(event(type=kind, **{kind: None, "change": [], "hook": 1, "changes": "x"}), Unparsed)


@pytest.mark.parametrize("odd", [None, 3, ["sentinel"], {"pw": "sentinel"}])
def test_outputs_of_another_shape_show_nothing(odd: object) -> None:
    seen, text = decode(json.dumps({"type": "outputs", "outputs": odd}), str)
    assert seen == Outputs({})
    assert "sentinel" not in text


@given(st.text())
def test_no_line_stops_the_listening(line: str) -> None:
    decode(line, str)


@pytest.mark.parametrize("secret", ['quote"d', "new\nline", "<angle&>", "한글🔑", "back\\slash"])
def test_a_secret_is_taken_out_however_json_writes_it(secret: str) -> None:
    def redact(text: str) -> str:
        return text.replace(secret, "***")

    for ascii_only in (True, False):
        line = json.dumps(
            {
                "type": "diagnostic",
                "@message": f"Error: bad value {secret}",
                "diagnostic": {
                    "severity": "error",
                    "summary": f"bad value {secret}",
                    "detail": f"{secret} is bad",
                    "snippet": {"values": [{"traversal": "var.pw", "statement": f"is {secret}"}]},
                },
            },
            ensure_ascii=ascii_only,
        )
        seen, text = decode(line.replace("<", "\\u003c"), redact)
        assert isinstance(seen, DiagnosticEvent)
        assert seen.diagnostic.summary == "bad value ***"
        assert secret not in str(json.loads(text))
        assert json.dumps(secret)[1:-1] not in text


def test_a_secret_is_taken_out_of_a_line_that_is_no_event() -> None:
    assert decode("panic: sentinel", lambda t: t.replace("sentinel", "***")) == (
        Unparsed("panic: ***"),
        "panic: ***",
    )
