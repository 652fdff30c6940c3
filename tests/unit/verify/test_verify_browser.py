"""The HTML report in a real browser: it renders, it filters, and it prints nothing to the console."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from reports import sample

from cali_infra.core.stages import STAGES
from cali_infra.verify import html

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")

# What a person would do, and what he would see; the answer goes out in the title.
_PROBE = """
<script>
var seen = {};
function visible(selector) {
  return Array.from(document.querySelectorAll(selector)).filter(function (item) {
    return item.getClientRects().length > 0;
  }).map(function (item) { return item.dataset.status || item.textContent.trim(); });
}
function click(what) { document.querySelector('button[data-show="' + what + '"]').click(); }
seen.all = visible("tr[data-status]");
seen.families = visible(".family h2");
seen.stages = visible("svg .name");
seen.fill = getComputedStyle(document.querySelector("svg .stage.fail rect")).stroke;
seen.wide = document.documentElement.scrollWidth <= window.innerWidth;
seen.filtered = {};
["fail", "warn", "pass", "skip"].forEach(function (status) {
  click(status);
  seen.filtered[status] = visible("tr[data-status]");
  if (status === "fail") {
    seen.only = visible(".family h2");
    seen.cards = visible("article");
    seen.pressed = visible('button[aria-pressed="true"]');
  }
});
click("all");
seen.again = visible("tr[data-status]");
document.title = JSON.stringify(seen);
</script>
"""


def browse(page: Path, *arguments: str) -> tuple[str, list[str]]:
    """The page's DOM after its scripts have run, and the lines of the console."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={page.parent / 'profile'}",
            "--window-size=1280,1000",
            "--enable-logging=stderr",
            *arguments,
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def probed(tmp_path: Path, content: bytes, probe: str = _PROBE) -> tuple[dict[str, Any], list[str]]:
    page = tmp_path / "report.html"
    page.write_bytes(content.replace(b"</body>", probe.encode() + b"</body>"))
    dom, console = browse(page)
    title = re.search("<title>(.*?)</title>", dom, re.DOTALL)
    assert title is not None
    text = unescape(title[1])
    return json.loads(text) if text.startswith("{") else {}, console


def test_it_renders_filters_and_says_nothing(tmp_path: Path) -> None:
    seen, console = probed(tmp_path, html.render(sample(), "cali-default", {"region": "ap-northeast-2"}))

    assert console == []
    assert seen["all"] == seen["again"] == ["pass", "fail", "warn", "skip", "pass"]
    assert seen["families"] == ["AWS", "Kubernetes", "OpenSearch"]
    assert seen["stages"] == [stage.name for stage in STAGES]
    # The colour of a failure, in the light or in the dark.
    assert seen["fill"] in ("rgb(194, 31, 50)", "rgb(255, 123, 134)")
    assert seen["wide"], "nothing has to be scrolled sideways"
    assert seen["filtered"] == {
        "fail": ["fail"],
        "warn": ["warn"],
        "pass": ["pass", "pass"],
        "skip": ["skip"],
    }
    assert seen["only"] == ["AWS"]
    assert seen["cards"] == ["fail"]
    assert seen["pressed"] == ["Failed 1"]


def test_a_line_on_the_console_would_be_seen(tmp_path: Path) -> None:
    """Or the test above could not fail."""
    content = html.render(sample(), "cali-default", {})
    _, console = probed(tmp_path, content, "<script>console.error('something is wrong')</script>")
    assert any("something is wrong" in line for line in console)


def test_what_is_not_in_the_file_is_not_fetched(tmp_path: Path) -> None:
    content = html.render(sample(), "cali-default", {})
    _, console = probed(tmp_path, content, "<img src='https://example.com/a.png'>")
    assert any("Content Security Policy" in line for line in console)


def test_without_script_everything_is_there(tmp_path: Path) -> None:
    content = re.sub(
        rb"<script>.*?</script>", b"", html.render(sample(), "cali-default", {}), flags=re.DOTALL
    )
    seen, _ = probed(
        tmp_path,
        content,
        "<script>document.title = JSON.stringify({rows: document.querySelectorAll('tr[data-status]:not([hidden])')"
        ".length});</script>",
    )
    assert seen == {"rows": 5}
