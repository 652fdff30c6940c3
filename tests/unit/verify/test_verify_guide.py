"""docs/verify.md is what the checks say, and every check says enough."""

from __future__ import annotations

from pathlib import Path

import pytest

from cali_infra.core.stages import BY_NAME
from cali_infra.verify.aws import ADDON_ACCOUNTS, ADDONS
from cali_infra.verify.checks import Check
from cali_infra.verify.families import CHECKS
from cali_infra.verify.guide import render
from cali_infra.verify.selection import choose

ROOT = Path(__file__).resolve().parents[3]


def test_the_document_is_current() -> None:
    written = (ROOT / "docs" / "verify.md").read_text("utf-8")
    assert written == render(CHECKS), "run: make guide"


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_a_check_says_what_it_proves_and_what_to_type(check: Check) -> None:
    assert check.title[0].isupper() and not check.title.endswith(".")
    assert check.proves.endswith(".")
    last = check.remedy.splitlines()[-1]
    assert last.split()[0] in ("aws", "cali", "curl", "helm", "kubectl"), "a command to copy"
    assert check.stage in ("", "services", *BY_NAME)
    assert check.timeout > 0


def test_ids_are_one_each_and_needs_lead_somewhere() -> None:
    names = [check.id for check in CHECKS]
    assert len(set(names)) == len(names)
    for number, check in enumerate(CHECKS):
        assert set(check.needs) <= set(names)
        # A table reads from the cause to what hangs on it, within a family.
        before = {other.id for other in CHECKS[:number]}
        same = {other.id for other in CHECKS if other.family is check.family}
        assert {need for need in check.needs if need in same} <= before


def test_every_part_can_be_asked_for() -> None:
    for check in CHECKS:
        assert check in choose(CHECKS, [check.id])
        assert check in choose(CHECKS, [check.id.split(".")[0]])
        assert check in choose(CHECKS, [check.family.value])


def test_the_addons_and_accounts_are_those_of_the_stack() -> None:
    addons = (ROOT / "terraform/eks/addons.tf").read_text("utf-8")
    for addon in ADDONS:
        assert f'"{addon}"' in addons
    assert addons.count('"aws-ebs-csi-driver", "coredns"') == 1
    identities = (ROOT / "terraform/eks/identities.tf").read_text("utf-8")
    for account in ADDON_ACCOUNTS:
        assert f'service_account = "{account}"' in identities
    assert identities.count("service_account =") == len(ADDON_ACCOUNTS)
