"""JSON, JUnit XML and HTML of a report: what is in them, and what must not be."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from reports import HOSTILE, SENTINEL, sample

from cali_infra.core.redaction import redactor
from cali_infra.core.stages import STAGES
from cali_infra.verify import html, junit, picture
from cali_infra.verify.checks import Status
from cali_infra.verify.report import Report


def clean(text: str) -> str:
    return re.sub(r"[\x00-\x08\x1b]", "", text.replace(SENTINEL, "********"))


CLEAN = sample().cleaned(clean)
ABOUT = {"environment": "default", "region": "ap-northeast-2", "account": "123456789012"}


def test_the_document_has_what_the_contract_says() -> None:
    document = sample().document()
    assert document["ok"] is False
    assert document["at"] == "2026-03-01T12:00:00Z"
    checks = document["checks"]
    assert isinstance(checks, list)
    for check in checks:
        assert {"id", "title", "status", "detail", "remedy", "seconds"} <= set(check)
    assert [check["status"] for check in checks] == ["pass", "fail", "warn", "skip", "pass"]
    assert checks[-1]["measurements"] == {"round trip": 0.012}
    json.dumps(document)
    assert sample(failing=False).document()["ok"] is True
    assert sample(failing=False).document(strict=True)["ok"] is False


def test_cleaning_reaches_every_text() -> None:
    texts = json.dumps(CLEAN.document())
    assert SENTINEL not in texts
    assert "********" in texts


class TestJUnit:
    def test_counts_and_cases(self) -> None:
        root = ET.fromstring(junit.render(CLEAN, "cali-default"))
        assert root.tag == "testsuites"
        assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("5", "1", "1")
        suites = {suite.get("name"): suite for suite in root}
        assert list(suites) == ["AWS", "Kubernetes", "OpenSearch"]
        for suite in suites.values():
            cases = suite.findall("testcase")
            assert suite.get("tests") == str(len(cases))
            assert suite.get("failures") == str(len(suite.findall("testcase/failure")))
            assert suite.get("skipped") == str(len(suite.findall("testcase/skipped")))
        failure = suites["AWS"].find("testcase[@classname='eks.cluster-active']/failure")
        assert failure is not None
        assert "cali up eks" in (failure.text or "")
        assert "document.title" in (failure.get("message") or "")

    def test_a_warning_fails_only_when_it_counts(self) -> None:
        def failures(strict: bool) -> str | None:
            return ET.fromstring(junit.render(CLEAN, "cali-default", strict=strict)).get("failures")

        assert (failures(False), failures(True)) == ("1", "2")

    def test_what_xml_cannot_say_does_not_break_it(self) -> None:
        """Not even where nothing was cleaned before."""
        content = junit.render(sample(), "cali-default")
        ET.fromstring(content)
        assert b"\x00" not in content and b"\x1b" not in content


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(content.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


class TestHtml:
    page = Page(html.render(CLEAN, "cali-default", ABOUT))

    def test_it_holds_every_result_once_with_its_time(self) -> None:
        rows = [attrs for tag, attrs in self.page.tags if tag == "tr" and "data-status" in attrs]
        assert [row["data-status"] for row in rows] == ["pass", "fail", "warn", "skip", "pass"]
        for text in (
            "eks.cluster-active",
            "1 of 5 checks failed",
            "round trip: 0.012 s",
            "1.25",
            "123456789012",
        ):
            assert text in self.page.text

    def test_what_failed_comes_first_with_what_to_type(self) -> None:
        text = self.page.text
        assert text.index("# look first\ncali up eks") < text.index("cali up search") < text.index("somebody")

    def test_it_needs_nothing_from_anywhere(self) -> None:
        for tag, attrs in self.page.tags:
            assert tag not in ("link", "img", "iframe", "object", "embed"), tag
            assert not {"src", "href", "srcset", "action"} & set(attrs), (tag, attrs)
        policy = next(attrs for tag, attrs in self.page.tags if attrs.get("http-equiv"))
        assert str(policy["content"]).startswith("default-src 'none'")
        assert "url(" not in html.render(CLEAN, "cali-default", ABOUT).decode()

    def test_no_text_becomes_markup(self) -> None:
        assert [tag for tag, _ in self.page.tags].count("script") == 1
        hostile = html.render(CLEAN, HOSTILE, {HOSTILE: HOSTILE})
        assert [tag for tag, _ in Page(hostile).tags].count("script") == 1

    def test_a_good_one_says_so(self) -> None:
        good = html.render(sample(failing=False).cleaned(clean), "cali-default", ABOUT)
        assert "It works: 3 of 5 checks passed, none failed" in Page(good).text
        strict = html.render(sample(failing=False).cleaned(clean), "cali-default", ABOUT, strict=True)
        assert "1 of 5 checks failed" in Page(strict).text


class TestThePicture:
    def test_a_stage_has_the_state_of_its_worst_check(self) -> None:
        found = picture.states(CLEAN, STAGES)
        assert found["eks"] is Status.FAIL
        assert found["search"] is Status.WARN
        assert found["logging"] is None

    def test_every_stage_and_every_direct_need_is_drawn(self) -> None:
        drawn = ET.fromstring(picture.draw(CLEAN, STAGES))
        names = [
            node.text
            for node in drawn.iter("{http://www.w3.org/2000/svg}text")
            if node.get("class") == "name"
        ]
        assert names == [stage.name for stage in STAGES]
        edges = len(list(drawn.iter("{http://www.w3.org/2000/svg}path")))
        # What a need needs itself is not drawn again: autoscaler needs eks by way of access.
        assert len(STAGES) - 1 <= edges < sum(len(stage.needs) for stage in STAGES)

    def test_no_two_boxes_lie_on_each_other(self) -> None:
        drawn = ET.fromstring(picture.draw(CLEAN, STAGES))
        boxes = [
            tuple(int(node.get(key, "")) for key in ("x", "y", "width", "height"))
            for node in drawn.iter("{http://www.w3.org/2000/svg}rect")
        ]
        for number, (x, y, width, height) in enumerate(boxes):
            for left, top, _, _ in boxes[number + 1 :]:
                assert abs(x - left) >= width or abs(y - top) >= height


@pytest.mark.parametrize("render", ["junit", "html", "json"])
def test_no_secret_of_the_run_is_in_any_of_them(render: str) -> None:
    """Whatever form a secret takes in a text: as it is, in base64, in JSON."""
    from whole import secrets

    own = secrets()
    password = own.opensearch.master_password.get_secret_value()
    redact = redactor(own, {})
    report = _saying(f"curl -u admin:{password} and {json.dumps(password)}").cleaned(redact)
    content = {
        "junit": lambda: junit.render(report, "cali-default"),
        "html": lambda: html.render(report, "cali-default", ABOUT),
        "json": lambda: json.dumps(report.document()).encode(),
    }[render]()
    assert b"********" in content
    assert password.encode() not in content
    assert b"Sentinel" not in content


def _saying(text: str) -> Report:
    from dataclasses import replace

    report = sample()
    lines = tuple(
        replace(each, result=replace(each.result, detail=text, remedy=text)) for each in report.lines
    )
    return replace(report, lines=lines)
