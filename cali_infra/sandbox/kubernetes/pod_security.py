"""Pod Security admission: what a namespace's labels forbid its pods.

Modelled are the checks of the latest version that a manifest of ours could break, in the real order and words. Not
modelled: audit, exemptions, the warnings about pods that are there when a namespace becomes stricter, pods for
Windows or with user namespaces, and the checks of AppArmor, SELinux, sysctls, procMount and the hosts of probes.
Sources: k8s.io/pod-security-admission, `admission/admission.go`, `api/helpers.go`, `policy/check_*.go`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cali_infra.sandbox.kubernetes.errors import Cause, Obj, invalid_value, not_modelled

PRIVILEGED, BASELINE, RESTRICTED = "privileged", "baseline", "restricted"
_LEVELS = (PRIVILEGED, BASELINE, RESTRICTED)
_LABEL = "pod-security.kubernetes.io/"
_LATEST = "latest"
_CAPABILITIES = frozenset(
    (
        "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE",
        "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
    )
)  # fmt: skip
_VOLUMES = frozenset(
    (
        "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim",
        "projected", "secret",
    )
)  # fmt: skip
_PROFILES = ("Localhost", "RuntimeDefault")


@dataclass(frozen=True)
class Policy:
    """The level that a namespace enforces, and the one of which it warns."""

    enforce: str
    warn: str

    @classmethod
    def of(cls, namespace: Obj) -> Policy:
        """A namespace's. Raises ApiError 501 for another version than the latest."""
        labels = namespace["metadata"].get("labels") or {}
        for mode in ("enforce", "warn"):
            version = labels.get(f"{_LABEL}{mode}-version", _LATEST)
            if version != _LATEST:
                raise not_modelled(f"Pod Security of the version {version}")
        enforce = labels.get(f"{_LABEL}enforce", PRIVILEGED)
        return cls(enforce, labels.get(f"{_LABEL}warn", enforce))


def label_causes(namespace: Obj) -> list[Cause]:
    """What is wrong with a namespace's own labels."""
    labels = namespace["metadata"].get("labels") or {}
    return [
        invalid_value(f"metadata.labels[{name}]", labels[name], f"must be one of {', '.join(_LEVELS)}")
        for name in (f"{_LABEL}{mode}" for mode in ("enforce", "audit", "warn"))
        if name in labels and labels[name] not in _LEVELS
    ]


def violations(level: str, spec: Obj) -> str:
    """What of a pod's spec a level forbids, as the refusal says it behind `violates`; empty is consent."""
    if level == PRIVILEGED:
        return ""
    checks = _BASELINE if level == BASELINE else _RESTRICTED
    found = [f"{reason} ({detail})" for reason, check in checks if (detail := check(spec))]
    return f'PodSecurity "{level}:{_LATEST}": {", ".join(found)}' if found else ""


def _containers(spec: Obj) -> Iterator[Obj]:
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(kind) or ()


def _security(obj: Obj) -> Mapping[str, Any]:
    return obj.get("securityContext") or {}


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _counted(what: str, names: list[str]) -> str:
    return f"{what}{'' if len(names) == 1 else 's'} {_quoted(names)}"


def _privileged(spec: Obj) -> str:
    bad = [one["name"] for one in _containers(spec) if _security(one).get("privileged")]
    return f"{_counted('container', bad)} must not set securityContext.privileged=true" if bad else ""


def _host_namespaces(spec: Obj) -> str:
    return ", ".join(f"{name}=true" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name))


def _host_ports(spec: Obj) -> str:
    ports = {
        one["name"]: {str(port["hostPort"]) for port in one.get("ports") or () if port.get("hostPort")}
        for one in _containers(spec)
    }
    bad = [name for name, numbers in ports.items() if numbers]
    if not bad:
        return ""
    numbers = sorted(set().union(*ports.values()))
    uses, plural = "uses" if len(bad) == 1 else "use", "" if len(numbers) == 1 else "s"
    return f"{_counted('container', bad)} {uses} hostPort{plural} {', '.join(numbers)}"


def _host_paths(spec: Obj) -> str:
    bad = [volume["name"] for volume in spec.get("volumes") or () if "hostPath" in volume]
    return _counted("volume", bad) if bad else ""


def _added(spec: Obj, allowed: frozenset[str]) -> str:
    added = {
        one["name"]: set((_security(one).get("capabilities") or {}).get("add") or ()) - allowed
        for one in _containers(spec)
    }
    bad = [name for name, capabilities in added.items() if capabilities]
    if not bad:
        return ""
    what = _quoted(sorted(set().union(*added.values())))
    return f"{_counted('container', bad)} must not include {what} in securityContext.capabilities.add"


def _capabilities(spec: Obj) -> str:
    return _added(spec, _CAPABILITIES)


def _restricted_capabilities(spec: Obj) -> str:
    keeping = [
        one["name"]
        for one in _containers(spec)
        if "ALL" not in ((_security(one).get("capabilities") or {}).get("drop") or ())
    ]
    details = [_added(spec, frozenset(("NET_BIND_SERVICE",)))]
    if keeping:
        words = f'{_counted("container", keeping)} must set securityContext.capabilities.drop=["ALL"]'
        details.insert(0, words)
    return "; ".join(detail for detail in details if detail)


def _escalation(spec: Obj) -> str:
    bad = [
        one["name"]
        for one in _containers(spec)
        if _security(one).get("allowPrivilegeEscalation") is not False
    ]
    words = "must set securityContext.allowPrivilegeEscalation=false"
    return f"{_counted('container', bad)} {words}" if bad else ""


def _volume_types(spec: Obj) -> str:
    types = {
        volume["name"]: sorted(set(volume) - {"name"})
        for volume in spec.get("volumes") or ()
        if not _VOLUMES & volume.keys()
    }
    if not types:
        return ""
    kinds = sorted({found[0] if found else "unknown" for found in types.values()})
    uses = "uses" if len(types) == 1 else "use"
    return f"{_counted('volume', list(types))} {uses} {_counted('restricted volume type', kinds)}"


def _setters(spec: Obj, is_bad: Callable[[Mapping[str, Any]], bool]) -> str:
    """Who sets a bad value: the pod, some containers, or both."""
    bad = [one["name"] for one in _containers(spec) if is_bad(_security(one))]
    named = ["pod"] if is_bad(_security(spec)) else []
    return " and ".join([*named, *([_counted("container", bad)] if bad else [])])


def _non_root(spec: Obj) -> str:
    if setters := _setters(spec, lambda security: security.get("runAsNonRoot") is False):
        return f"{setters} must not set securityContext.runAsNonRoot=false"
    return _unset(spec, "runAsNonRoot", "securityContext.runAsNonRoot=true")


def _user(spec: Obj) -> str:
    setters = _setters(spec, lambda security: security.get("runAsUser") == 0)
    return f"{setters} must not set runAsUser=0" if setters else ""


def _profile(spec: Obj) -> str:
    """A seccomp profile that is set to what no level but privileged allows."""

    def is_bad(security: Mapping[str, Any]) -> bool:
        profile = security.get("seccompProfile")
        return profile is not None and profile.get("type") not in _PROFILES

    setters = _setters(spec, is_bad)
    values = sorted(
        {
            str(_security(one)["seccompProfile"].get("type", ""))
            for one in (spec, *_containers(spec))
            if is_bad(_security(one))
        }
    )
    words = "must not set securityContext.seccompProfile.type to"
    return f"{setters} {words} {_quoted(values)}" if setters else ""


def _restricted_profile(spec: Obj) -> str:
    what = 'securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    return _profile(spec) or _unset(spec, "seccompProfile", what)


def _unset(spec: Obj, field: str, what: str) -> str:
    """The containers for which neither they nor the pod set a field."""
    if _security(spec).get(field):
        return ""
    bad = [one["name"] for one in _containers(spec) if _security(one).get(field) is None]
    return f"pod or {_counted('container', bad)} must set {what}" if bad else ""


_Check = tuple[str, Callable[[Obj], str]]
# In the order of the real ones' names, those of the baseline first.
_BASELINE: tuple[_Check, ...] = (
    ("non-default capabilities", _capabilities),
    ("host namespaces", _host_namespaces),
    ("hostPath volumes", _host_paths),
    ("hostPort", _host_ports),
    ("privileged", _privileged),
    ("seccompProfile", _profile),
)
# Where a check of its own says more, that of the baseline is left out.
_RESTRICTED: tuple[_Check, ...] = (
    ("host namespaces", _host_namespaces),
    ("hostPort", _host_ports),
    ("privileged", _privileged),
    ("allowPrivilegeEscalation != false", _escalation),
    ("unrestricted capabilities", _restricted_capabilities),
    ("restricted volume types", _volume_types),
    ("runAsNonRoot != true", _non_root),
    ("runAsUser=0", _user),
    ("seccompProfile", _restricted_profile),
)
