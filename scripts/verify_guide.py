"""Writes docs/verify.md from the checks: `make guide`."""

from __future__ import annotations

from pathlib import Path

from cali_infra.verify.families import CHECKS
from cali_infra.verify.guide import render

if __name__ == "__main__":
    (Path(__file__).resolve().parent.parent / "docs" / "verify.md").write_text(render(CHECKS), "utf-8")
