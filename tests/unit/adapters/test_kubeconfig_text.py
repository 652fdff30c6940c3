"""A kubeconfig's text with entries put in: it means what it should, and the rest is as somebody wrote it."""

from __future__ import annotations

import difflib
import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cali_infra.adapters.kubeconfig_text import BODIES, Kubeconfig
from cali_infra.errors import InvalidKubeconfigError

CLUSTER = ("new", {"server": "https://new", "certificate-authority-data": "QUJD" * 500})
USER = ("new", {"exec": {"command": "python", "args": ["-m", "cali_infra"], "env": None}})
CONTEXT = ("new", {"cluster": "new", "user": "new", "namespace": "on"})
ENTRIES = {"clusters": CLUSTER, "users": USER, "contexts": CONTEXT}

BY_HAND = """\
# My clusters. Careful with prod!
apiVersion: v1
clusters:
# at home
- cluster:
    server: https://home:6443   # the box under the desk
    insecure-skip-tls-verify: true
  name: home
# what I call them
contexts:
  - context: {cluster: home, user: me}
    name: "home"

  - name: '1234'
    context:
        cluster: home
        user: 'yes'
current-context: home   # for now
kind: Config
preferences: {}
extensions:
- name: x
  extension: {a: 0x1F, b: 1e3, c: ~, d: 2024-01-01, e: on, f: 010}
users:
- name: me
  user:
    token: |
      abc
      def
# the end
"""


def put(text: str, current: str | None = "new") -> Kubeconfig:
    return Kubeconfig.parse(text, "config").put(ENTRIES, current)


def lost(before: str, after: str) -> list[str]:
    """The lines that are there no more."""
    return [
        line[2:]
        for line in difflib.ndiff(before.splitlines(True), after.splitlines(True))
        if line.startswith("- ")
    ]


def test_what_a_person_wrote_stays_to_the_letter() -> None:
    found = put(BY_HAND)
    assert lost(BY_HAND, found.text) == ["current-context: home   # for now\n"]
    assert "current-context: new   # for now\n" in found.text
    # The new entry stands behind the old one and before the comment on what follows.
    assert found.text.index("name: home") < found.text.index("https://new") < found.text.index("# what I")
    assert found.text.endswith("# the end\n")
    assert found.body("contexts", "1234") == {"cluster": "home", "user": "yes"}
    assert [found.body(section, "new") for section in ENTRIES] == [body for _, body in ENTRIES.values()]
    assert found.current == "new"


def test_an_entry_is_replaced_where_it_stands() -> None:
    before = put(BY_HAND)
    after = before.put({"clusters": ("new", {"server": "https://other"}), "users": ("me", {"token": "t"})})
    removed = lost(before.text, after.text)
    assert removed[0] == "    server: https://new\n"
    assert removed[1].startswith("    certificate-authority-data: ")
    assert removed[2:] == ["    token: |\n", "      abc\n", "      def\n"]
    assert after.data == {
        **before.data,
        "clusters": [before.data["clusters"][0], {"name": "new", "cluster": {"server": "https://other"}}],
        "users": [{"name": "me", "user": {"token": "t"}}, before.data["users"][1]],
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "# nothing yet\n",
        "apiVersion: v1\nkind: Config",
        "kind: Config\nclusters: []\ncontexts: null\nusers:\ncurrent-context: ''\n",
        "kind: Config\nclusters: [] # none\nusers:   # none\ncurrent-context:\n",
        "clusters: [{name: a, cluster: {server: b}},]\nusers: [{name: a}] # x\ncontexts: [ ]\n",
        "---\nkind: Config\nusers:\n-   name: a\n    user: {token: x}\n...\n# behind\n",
        "kind: Config\nbase: &base {server: https://a}\nclusters:\n- name: a\n  cluster: {<<: *base}\n",
        "kind: Config\nclusters:\n- name: a\n  cluster: &a {server: x}\nother: *a\n",
        "﻿kind: Config\nusers: []\n",
        "kind: Config\r\nclusters:\r\n- name: a\r\n  cluster:\r\n    server: x\r\n",
        "{kind: Config, clusters: [], 'current-context': x}\n",
        '{"kind": "Config", "clusters": [{"name": "a", "cluster": {"server": "\\u00e9"}}]}',
        "  kind: Config\n  users: []\n",
        "kind: Config\nusers:\n- name: a\n  user:\n    token: >-\n      a\n      b\n\n\n# end",
        "kind: Config\ncurrent-context: |\n  x\nusers: []\n",
    ],
)
def test_every_way_to_write_one_is_understood(text: str) -> None:
    before = Kubeconfig.parse(text, "config")
    after = before.put(ENTRIES, "new")
    wanted = {**({} if before.data else {"apiVersion": "v1", "kind": "Config"}), **before.data}
    for section, (name, body) in ENTRIES.items():
        wanted[section] = [*(before.data.get(section) or []), {"name": name, BODIES[section]: body}]
    assert yaml.safe_load(after.text) == {**wanted, "current-context": "new"}
    assert after.put({}, "new").text == after.text


def test_json_stays_json_and_crlf_stays_crlf() -> None:
    found = json.loads(put('{"kind": "Config", "x": {"y": [1]}}').text)
    assert (found["x"], found["current-context"]) == ({"y": [1]}, "new")
    text = put("kind: Config\r\nusers: []\r\n").text
    assert text.count("\n") == text.count("\r\n") > 10


@pytest.mark.parametrize(
    "name", ["on", "1e3", "0o17", "~", "a: b", "# c", "한국", "'", "- x", "2024-01-01", "=1"]
)
def test_a_name_is_read_back_as_a_name_whatever_it_looks_like(name: str) -> None:
    found = put(BY_HAND).put({"contexts": (name, {"cluster": name})}, name)
    assert (found.current, found.body("contexts", name)) == (name, {"cluster": name})
    # Parsers of YAML 1.2 see numbers where PyYAML sees none.
    if name[0].isdigit():
        assert f'current-context: "{name}"' in found.text or f"current-context: '{name}'" in found.text


def test_a_certificate_stays_on_one_line() -> None:
    assert f"    certificate-authority-data: {'QUJD' * 500}\n" in put("").text


_words = st.text("abcXYZ019 :#'\"-~é", min_size=1, max_size=8)
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | _words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_words, inner, max_size=2),
    max_leaves=4,
)


@st.composite
def _kubeconfigs(draw: Any) -> tuple[str, bool]:
    """A kubeconfig's text as PyYAML writes it, in one of its styles, with comments between lines; whether it is
    all in block style.
    """
    data: dict[str, Any] = {}
    for section, body in BODIES.items():
        names = draw(st.lists(_words.map(lambda word: f"n{word}"), max_size=2, unique=True))
        if draw(st.booleans()):
            data[section] = [
                {"name": name, body: draw(st.dictionaries(_words, _values, max_size=2))} for name in names
            ]
    if draw(st.booleans()):
        data["current-context"] = draw(_words)
    if draw(st.booleans()):
        data["extensions"] = draw(_values)
    if not data:
        return "", True
    block = draw(st.booleans())
    text = yaml.safe_dump(
        data,
        sort_keys=False,
        indent=draw(st.sampled_from([2, 4])),
        default_flow_style=False if block else None,
        width=1000,
    )
    lines = text.splitlines(True)
    for place in draw(st.lists(st.integers(0, len(lines)), max_size=3)):
        before = lines[place : place + 1]
        indentation = len(before[0]) - len(before[0].lstrip()) if before else 0
        lines.insert(place, " " * indentation + "# a comment\n")
    return "".join(lines), block


@settings(max_examples=60, deadline=None)
@given(_kubeconfigs())
def test_no_other_entry_is_ever_changed(drawn: tuple[str, bool]) -> None:
    text, block = drawn
    before = Kubeconfig.parse(text, "config")
    after = before.put(ENTRIES, "new")
    for key, value in before.data.items():
        if key in BODIES:
            assert after.data[key][: len(value or [])] == (value or [])
        elif key != "current-context":
            assert after.data[key] == value
    if block:
        # Flow style is what an empty list has in block style too: its line goes.
        assert all(
            line.startswith("current-context:") or line.endswith("[]\n") for line in lost(text, after.text)
        )


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: b\nc: [", 2, "no valid YAML"),
        ("a: b\n\tc: d\n", 2, "no valid YAML"),
        ("a: !secret x\n", 1, "no valid YAML"),
        ("kind: Config\n---\nkind: Config\n", 2, "no valid YAML"),
        ("kind: \x07\n", None, "no valid YAML"),
        ("just words\n", 1, "this is no kubeconfig"),
        ("- kind: Config\n", 1, "this is no kubeconfig"),
        ("apiVersion: v1\nkind: Pod\n", 2, "kind is not Config"),
        ("apiVersion: apps/v1\n", 1, "apiVersion is not v1"),
        ("kind: Config\nclusters: {}\n", 2, "clusters is not a list"),
        ("kind: Config\nusers:\n- name: a\n- user: {}\n", 4, "an entry of users has no name"),
        ("kind: Config\nusers:\n- name: 1234\n", 3, "no text: quote it"),
        ("kind: Config\nusers:\n- name: a\n- b\n", 4, "an entry of users has no name"),
        ("contexts:\n- name: a\n  context: home\n", 2, "the context of a holds no keys"),
        ("contexts:\n- name: a\n- name: b\n- name: a\n", 4, "contexts holds a twice"),
        ("users: []\nkind: Config\nusers: []\n", 3, "the key users is there twice"),
        ("current-context: [a]\n", 1, "is not the name of a context"),
        ("[" * 1200, None, "no valid YAML"),
    ],
)
def test_what_is_no_kubeconfig_is_told_with_its_line(text: str, line: int | None, words: str) -> None:
    with pytest.raises(InvalidKubeconfigError, match=words) as caught:
        Kubeconfig.parse(text, "/home/jin/.kube/config")
    assert caught.value.line == line
    assert caught.value.message.startswith(
        "/home/jin/.kube/config: " if line is None else f"/home/jin/.kube/config, line {line}: "
    )
    assert "--kubeconfig FILE" in caught.value.remedy


def test_a_mistake_is_told_without_the_secrets_around_it() -> None:
    with pytest.raises(InvalidKubeconfigError) as caught:
        Kubeconfig.parse("users:\n- name: me\n  user: {token: Sentinel-7Qx\n", "config")
    assert "Sentinel" not in caught.value.message
