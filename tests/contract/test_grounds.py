"""Which clusters these tests may use, and that they leave one as they found it."""

from __future__ import annotations

import pytest

from contract.grounds import CONSENT, PREFIX, Corner, Ground, corner, objection
from contract.manifests import config_map, named, space


@pytest.mark.parametrize("server", ["https://127.0.0.1:6443", "https://localhost:6443", "https://[::1]:6443"])
def test_a_cluster_of_this_machine_is_used_without_further_ado(server: str) -> None:
    assert objection({}, server) == ""


def test_a_cluster_elsewhere_is_used_only_when_it_is_named() -> None:
    server = "https://ABC.gr7.ap-northeast-2.eks.amazonaws.com"
    assert "NOT RUN" in objection({}, server)
    assert f"export {CONSENT}={server}" in objection({}, server)
    # A permission for one cluster is none for the next.
    assert "NOT RUN" in objection({CONSENT: "1"}, server)
    assert "NOT RUN" in objection({CONSENT: "https://another.example.com"}, server)
    assert objection({CONSENT: server}, server) == ""


def test_a_corner_is_taken_away_also_after_a_failure(ground: Ground, place: Corner) -> None:
    with pytest.raises(ZeroDivisionError), corner(ground) as other:
        assert other.name.startswith(PREFIX) and other.name != place.name
        other.somebody.create(space(other))
        other.somebody.create(config_map(other))
        other.somebody.create(named("scheduling.k8s.io/v1", "PriorityClass", f"{other.name}-high", value=1))
        record = named("v1", "ConfigMap", f"cali-inventory-{other.stage}", "kube-system")
        other.somebody.create(record)
        raise ZeroDivisionError
    assert place.somebody.get("PriorityClass", f"{other.name}-high", group="scheduling.k8s.io/v1") is None
    assert place.somebody.get("ConfigMap", f"cali-inventory-{other.stage}", "kube-system") is None
    left = place.somebody.get("Namespace", other.name)
    assert left is None or left["status"]["phase"] == "Terminating"
