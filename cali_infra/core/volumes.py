"""The services' volumes: what `cali.yaml` asks for, held against the claims that are there.

A claim can grow and never shrink, and a StatefulSet keeps the size that it was made with: Helm would meet either
only when the release is half applied. `VOLUMES` is the one place that says which key is which claim; the names are
those that the pinned charts make.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from cali_infra.adapters.kubernetes import ObjectRef
from cali_infra.errors import SettingsProblem

if TYPE_CHECKING:
    from cali_infra.core.settings import Settings

# Gives an object of the cluster, or None; `adapters.kubernetes.Kubernetes.get` is one.
Get = Callable[[ObjectRef], Mapping[str, Any] | None]

_GIB = 1024**3
# Source: apimachinery's `resource.Quantity`.
_UNITS: Mapping[str, int] = {
    "": 1,
    **{f"{unit}i": 1024**power for power, unit in enumerate("KMGTPE", start=1)},
    **{unit: 1000**power for power, unit in enumerate("kMGTPE", start=1)},
}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)([A-Za-z]*)\Z")


@dataclass(frozen=True)
class Volume:
    """One volume: the key of `cali.yaml` with its size in GiB, and its claim.

    `stateful_set` names the StatefulSet that makes the claim, where one does. `mode` is the value of `milvus.mode`
    in which it is there.
    """

    setting: str
    claim: str
    stateful_set: str | None = None
    mode: str | None = None

    @property
    def service(self) -> str:
        """The service that it belongs to, which is also its namespace."""
        return self.setting.partition(".")[0]


VOLUMES: Sequence[Volume] = (
    Volume("airflow.database_gib", "data-airflow-postgresql-0", "airflow-postgresql"),
    Volume("milvus.volume_gib", "milvus", mode="standalone"),
    Volume("milvus.object_store_gib", "milvus-minio", mode="standalone"),
    Volume("grafana.volume_gib", "grafana"),
)


@dataclass(frozen=True)
class Mistake:
    """A size that the cluster would refuse, and what is typed first where that is a way out."""

    problem: SettingsProblem
    commands: tuple[str, ...] = ()


def mistakes(settings: Settings, get: Get, *, bundled_database: bool) -> tuple[Mistake, ...]:
    """The sizes of the services that are on which their claims cannot be given. Raises what `get` raises."""
    return tuple(_mistakes(settings, get, bundled_database))


def _mistakes(settings: Settings, get: Get, bundled_database: bool) -> Iterator[Mistake]:
    for volume in VOLUMES:
        if not getattr(settings.services, volume.service):
            continue
        if volume.mode not in (None, settings.milvus.mode):
            continue
        if volume.stateful_set and not bundled_database:
            continue
        wanted = int(attrgetter(volume.setting)(settings))
        claim = get(ObjectRef("v1", "PersistentVolumeClaim", volume.service, volume.claim))
        has = _gib((claim or {}).get("spec"))
        if volume.stateful_set is None:
            # The release owns the claim, and lets it grow by itself.
            if has is not None and wanted < has:
                yield _smaller(volume, wanted, has)
            continue
        found = _of_stateful_set(volume, wanted, has, get)
        if found:
            yield found


def _of_stateful_set(volume: Volume, wanted: int, has: Fraction | None, get: Get) -> Mistake | None:
    assert volume.stateful_set
    live = get(ObjectRef("apps/v1", "StatefulSet", volume.service, volume.stateful_set))
    templates = ((live or {}).get("spec") or {}).get("volumeClaimTemplates") or ()
    made_with = next((_gib(template.get("spec")) for template in templates), None)
    if live is not None and made_with == wanted:
        # Whatever was done to the claim since: the release changes nothing about it.
        return None
    if has is not None and wanted < has:
        return _smaller(volume, wanted, has)
    kubectl, commands = f"kubectl -n {volume.service}", []
    known, whose = has, f"claim {volume.service}/{volume.claim}"
    if has is not None and wanted > has:
        size = f'{{"spec": {{"resources": {{"requests": {{"storage": "{wanted}Gi"}}}}}}}}'
        commands.append(f"{kubectl} patch pvc {volume.claim} --patch '{size}'")
    if live is not None:
        known, whose = made_with, f"StatefulSet {volume.service}/{volume.stateful_set}"
        commands.append(f"{kubectl} delete statefulset {volume.stateful_set} --cascade=orphan")
    if not commands:
        return None
    words = f"{wanted} GiB is not the {_brief(known)} GiB of the {whose}, which Helm cannot change"
    return Mistake(SettingsProblem("cali.yaml", volume.setting, words), tuple(commands))


def _smaller(volume: Volume, wanted: int, has: Fraction) -> Mistake:
    return Mistake(
        SettingsProblem(
            "cali.yaml",
            volume.setting,
            f"{wanted} GiB is less than the {_brief(has)} GiB of the claim {volume.service}/{volume.claim}, and a "
            "volume only grows",
            str(-(-has // 1)),
        )
    )


def _gib(spec: Mapping[str, Any] | None) -> Fraction | None:
    """The size that a claim, or a template of one, asks for; None where that cannot be read."""
    requests = ((spec or {}).get("resources") or {}).get("requests") or {}
    found = _QUANTITY.match(str(requests.get("storage", "")))
    if not found or found[2] not in _UNITS:
        return None
    return Fraction(found[1]) * Fraction(_UNITS[found[2]], _GIB)


def _brief(size: Fraction | None) -> str:
    return "?" if size is None else f"{float(size):g}"
