"""What the stand-in for `hashicorp/helm` does with configurations, plans, states and releases.

It works on plain values (`codec.py`) and says what goes wrong as diagnostics with the provider's own
headings; how they travel is `standin.py`'s. As with the provider, a plan does not need the cluster, while
read and apply do. What the stand-in does not model it refuses with a diagnostic of its own. One difference
is on purpose: the provider (3.1.2) drops a release from the state when the cluster cannot be reached at
read or at delete, the stand-in reports the error.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cali_infra.sandbox.helm import values
from cali_infra.sandbox.helm.charts import ChartNotFoundError, ChartVersion, locate
from cali_infra.sandbox.helm.cluster import Access, Cluster, ClusterError, Credentials, Exec
from cali_infra.sandbox.helm.codec import UNKNOWN, conform, is_unknown, wholly_known
from cali_infra.sandbox.helm.releases import (
    DEPLOYED,
    FailedReleaseError,
    Mishaps,
    Release,
    ReleaseError,
    Releases,
    Upgrade,
)
from cali_infra.sandbox.helm.schema import PROVIDER, RELEASE_ATTRIBUTES, RELEASE_VERSION, Attribute

State = dict[str, Any]

# A change of one of these makes a new revision, so everything that the revision says is open.
_REVISION = ("chart", "repository", "version", "values", "set", "set_sensitive", "set_list")
_DURATION = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)([\d.]+(ns|us|µs|ms|s|m|h))*|0")

_NOT_MODELLED_BY_PROVIDER = (
    "config_path",
    "config_paths",
    "config_context",
    "config_context_auth_info",
    "config_context_cluster",
    "proxy_url",
)
_NOT_MODELLED_BY_RELEASE = (
    "dependency_update",
    "keyring",
    "lint",
    "pass_credentials",
    "postrender",
    "repository_ca_file",
    "repository_cert_file",
    "repository_key_file",
    "repository_password",
    "repository_username",
    "verify",
)


@dataclass(frozen=True)
class Problem:
    """A diagnostic: an error, at an attribute path of names and indexes where it has one."""

    summary: str
    detail: str
    path: tuple[str | int, ...] = ()


class ProblemError(Exception):
    """The call ends with this diagnostic; `state` is what it left nevertheless."""

    def __init__(self, problem: Problem, state: State | None = None) -> None:
        super().__init__(problem.summary)
        self.problem = problem
        self.state = state


@dataclass(frozen=True)
class Planned:
    """A planned state (None: the release goes) and the paths whose change replaces the release."""

    state: State | None
    replaces: tuple[str, ...] = ()


def validate_provider(config: State) -> list[Problem]:
    """What is wrong with a provider block, as `terraform validate` reports it."""
    problems = list(_invalid(config, PROVIDER, ()))
    kubernetes = config.get("kubernetes")
    if isinstance(kubernetes, Mapping) and kubernetes.get("config_path") and kubernetes.get("config_paths"):
        problems.append(
            Problem(
                "Invalid Attribute Combination",
                'Attribute "kubernetes.config_paths" cannot be specified when "kubernetes.config_path" is'
                " specified",
                ("kubernetes", "config_path"),
            )
        )
    return problems


def validate_release(config: State) -> list[Problem]:
    """What is wrong with a `helm_release`, as `terraform validate` reports it."""
    problems = list(_invalid(config, RELEASE_ATTRIBUTES, ()))
    name = config.get("name")
    if isinstance(name, str) and not 1 <= len(name) <= 53:
        problems.append(
            Problem(
                "Invalid Attribute Value Length",
                f"Attribute name string length must be between 1 and 53, got: {len(name)}",
                ("name",),
            )
        )
    revision = config.get("set_wo_revision")
    if isinstance(revision, int | float) and revision < 1:
        problems.append(
            Problem(
                "Invalid Attribute Value",
                f"Attribute set_wo_revision value must be at least 1, got: {revision}",
                ("set_wo_revision",),
            )
        )
    timeouts = config.get("timeouts")
    for key, duration in (timeouts if isinstance(timeouts, Mapping) else {}).items():
        if isinstance(duration, str) and not _DURATION.fullmatch(duration):
            problems.append(
                Problem(
                    "Invalid Attribute Value Time Duration",
                    f'"{duration}" must be a string containing a sequence of decimal numbers with a unit'
                    " suffix, such as 20m",
                    ("timeouts", key),
                )
            )
    return problems


def refused_configuration(config: State) -> list[Problem]:
    """What a provider block asks for that the stand-in does not model."""
    kubernetes = config.get("kubernetes")
    kubernetes = kubernetes if isinstance(kubernetes, Mapping) else {}
    wanted = [f"kubernetes.{name}" for name in _NOT_MODELLED_BY_PROVIDER if kubernetes.get(name)]
    if config.get("registries"):
        wanted.append("registries")
    experiments = config.get("experiments")
    if isinstance(experiments, Mapping) and experiments.get("manifest"):
        wanted.append("experiments.manifest")
    if config.get("helm_driver") not in (None, "secret"):
        wanted.append("helm_driver")
    return [_not_modelled(name) for name in wanted]


class HelmProvider:
    """One configured provider: a cluster, and what may be done to releases on it."""

    def __init__(
        self,
        config: State,
        credentials: Credentials,
        clock: Callable[[], datetime],
        mishaps: Mishaps | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._cluster = Cluster(_access(config), credentials)
        self._clock = clock
        self._mishaps = mishaps
        self._changed = changed

    def plan(self, prior: State | None, proposed: State | None, config: State) -> Planned:
        """The state that an apply would lead to. Raises ProblemError."""
        if proposed is None:
            return Planned(None)
        planned = copy.deepcopy(proposed)
        _fill_defaults(planned, config, RELEASE_ATTRIBUTES)
        planned["set_wo"] = None
        _refuse_release(planned, config)
        if prior is None or planned != prior:
            for name, attribute in RELEASE_ATTRIBUTES.items():
                if attribute.computed and not attribute.has_default and config.get(name) is None:
                    planned[name] = UNKNOWN
        if config.get("description") is None:
            planned["description"] = prior["description"] if prior else None
        planned.update(status=DEPLOYED, manifest=None, resources=None)
        if wholly_known([planned["repository"], planned["chart"], config.get("version")]):
            planned["version"] = _planned_version(planned, config)
        if prior is None or any(planned[name] != prior[name] for name in _REVISION):
            planned["metadata"] = UNKNOWN
        if prior is None:
            return Planned(planned)
        return Planned(planned, tuple(name for name in ("name", "namespace") if planned[name] != prior[name]))

    def apply(self, prior: State | None, planned: State | None, config: State) -> State | None:
        """Record what a plan says; the new state, None when the release is gone. Raises ProblemError."""
        state = None
        if planned is None:
            if prior is not None:
                self._uninstall(prior)
        elif prior is None:
            state = self._install(planned, config)
        else:
            state = self._upgrade(prior, planned, config)
        self._changed()
        return state

    def read(self, state: State) -> State | None:
        """The state as it is on the cluster now, None when the release is gone. Raises ProblemError."""
        name, namespace = state["name"], state["namespace"]
        with _failing(
            "Error checking release existence", f"Error checking release {name} in namespace {namespace}: "
        ):
            release = self._releases(namespace).last(name)
        return None if release is None else _recorded(state, release)

    def imported(self, identifier: str) -> State:
        """The state of a release that Terraform does not know yet. Raises ProblemError."""
        parts = identifier.split("/")
        if len(parts) != 2:
            raise ProblemError(
                Problem(
                    "Unable to parse import identifier",
                    f'Unexpected ID format ("{identifier}"), expected namespace/name',
                )
            )
        namespace, name = parts
        with _failing("Error getting release", f"Unable to get Helm release {name}: "):
            release = self._releases(namespace).last(name)
            if release is None:
                raise ReleaseError("release: not found")
        defaults = {
            key: attribute.default for key, attribute in RELEASE_ATTRIBUTES.items() if attribute.has_default
        }
        state = conform(
            {**defaults, "chart": release.chart.name, "description": release.description}, RELEASE_ATTRIBUTES
        )
        return _recorded(state, release)

    def _releases(self, namespace: str) -> Releases:
        return Releases(self._cluster, namespace, self._clock, self._mishaps)

    def _install(self, planned: State, config: State) -> State:
        chart = _chart(planned)
        wanted = _config(planned, config, written=planned.get("set_wo_revision") is not None)
        releases = self._releases(planned["namespace"])
        with _failing("installation failed", left=lambda release: _recorded(planned, release)):
            if planned["upgrade_install"] and releases.last(planned["name"]) is not None:
                release = releases.upgrade(
                    planned["name"],
                    chart,
                    wanted,
                    Upgrade(atomic=planned["atomic"]),
                    description=planned["description"] or "",
                )
            else:
                release = releases.install(
                    planned["name"],
                    chart,
                    wanted,
                    description=planned["description"] or "",
                    create_namespace=planned["create_namespace"],
                    replace_failed=planned["replace"],
                    atomic=planned["atomic"],
                )
        return _recorded(planned, release)

    def _upgrade(self, prior: State, planned: State, config: State) -> State:
        chart = _chart(planned)
        written = (planned.get("set_wo_revision") or 0) > (prior.get("set_wo_revision") or 0)
        how = Upgrade(
            planned["reuse_values"],
            planned["reset_values"],
            int(planned["max_history"] or 0),
            planned["atomic"],
        )
        with _failing("Error upgrading chart", "Upgrade failed: "):
            release = self._releases(planned["namespace"]).upgrade(
                planned["name"],
                chart,
                _config(planned, config, written=written),
                how,
                description=planned["description"] or "",
            )
        return _recorded(planned, release)

    def _uninstall(self, prior: State) -> None:
        name = prior["name"]
        with _failing("Error uninstalling release", f"Unable to uninstall Helm release {name}: "):
            self._releases(prior["namespace"]).uninstall(name)


def upgraded_state(version: int, state: Mapping[str, Any]) -> State:
    """A saved state in the form of the schema at hand. Raises ProblemError for an older schema."""
    if version != RELEASE_VERSION:
        raise ProblemError(
            Problem(
                "Unsupported state version",
                f"the state of this helm_release has schema version {version}; the sandbox reads"
                f" {RELEASE_VERSION} only, the one of provider 3.x",
            )
        )
    return conform(state, RELEASE_ATTRIBUTES)


@contextmanager
def _failing(summary: str, lead: str = "", left: Callable[[Release], State] | None = None) -> Iterator[None]:
    try:
        yield
    except FailedReleaseError as error:
        # As the provider does it: what is there is in the state, and Terraform calls it tainted.
        raise ProblemError(
            Problem(summary, f"{lead}{error}"), left(error.release) if left else None
        ) from None
    except (ClusterError, ReleaseError) as error:
        raise ProblemError(Problem(summary, f"{lead}{error}")) from None


def _invalid(
    value: Mapping[str, Any], attributes: Mapping[str, Attribute], path: tuple[str | int, ...]
) -> Iterator[Problem]:
    for name, attribute in attributes.items():
        given, here = value.get(name), (*path, name)
        # The default "" of `set.type` is not one that a configuration may spell out.
        if attribute.one_of and isinstance(given, str) and given not in attribute.one_of:
            allowed = ", ".join(f'"{choice}"' for choice in attribute.one_of)
            yield Problem(
                "Invalid Attribute Value Match",
                f'Attribute {_dotted(here)} value must be one of: [{allowed}], got: "{given}"',
                here,
            )
        if isinstance(given, Mapping) and attribute.nesting:
            yield from _invalid(given, attribute.attributes, here)
        elif isinstance(given, list) and attribute.nesting:
            for index, part in enumerate(given):
                if isinstance(part, Mapping):
                    yield from _invalid(part, attribute.attributes, (*here, index))


def _dotted(path: Sequence[str | int]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def _not_modelled(what: str) -> Problem:
    return Problem(
        "Not modelled by the sandbox",
        f"cali's stand-in for the Helm provider does not model {what}, so it refuses it",
    )


def _refuse_release(planned: State, config: State) -> None:
    wanted = [name for name in _NOT_MODELLED_BY_RELEASE if planned.get(name) not in (None, False)]
    if planned.get("devel") and not config.get("version"):
        wanted.append("devel without a version")
    if wanted:
        raise ProblemError(_not_modelled(", ".join(wanted)))


def _fill_defaults(planned: State, config: Mapping[str, Any], attributes: Mapping[str, Attribute]) -> None:
    for name, attribute in attributes.items():
        given = config.get(name)
        if given is None:
            if attribute.has_default:
                planned[name] = attribute.default
        elif attribute.nesting == "list" and isinstance(given, list):
            parts = planned.get(name)
            if isinstance(parts, list) and len(parts) == len(given):
                for part, source in zip(parts, given, strict=True):
                    if isinstance(part, dict) and isinstance(source, Mapping):
                        _fill_defaults(part, source, attribute.attributes)


def _planned_version(planned: State, config: State) -> str:
    wanted = config.get("version")
    located = _chart({**planned, "version": wanted})
    return wanted or located.version


def _chart(planned: State) -> ChartVersion:
    name, version = planned["chart"], planned["version"]
    try:
        return locate(planned["repository"], name, None if is_unknown(version) else version)
    except ChartNotFoundError as error:
        raise ProblemError(
            Problem("Error locating chart", f"Unable to locate chart {name}: {error}", ("chart",))
        ) from None


def _config(planned: State, config: State, *, written: bool) -> dict[str, Any]:
    """The values to record: what is secret is covered, here and not in clear anywhere after."""
    try:
        document = values.document(planned)
        written_only = values.sensitive(config.get("set_wo")) if written else {}
        shown = values.cloak(
            values.merge(document, written_only), values.sensitive(planned.get("set_sensitive"))
        )
        return values.cloak(shown, written_only)
    except values.ValuesError as error:
        raise ProblemError(Problem(error.summary, error.detail)) from None


def _recorded(state: State, release: Release) -> State:
    """The state with everything that the record of the release says."""
    recorded = copy.deepcopy(state)
    version = state.get("version")
    same = isinstance(version, str) and version.removeprefix("v") == release.chart.version
    recorded.update(
        id=release.name,
        name=release.name,
        namespace=release.namespace,
        status=release.status,
        version=version if same else release.chart.version,
        manifest=None,
        resources=None,
        set_wo=None,
        metadata={
            "app_version": release.chart.app_version,
            "chart": release.chart.name,
            "first_deployed": int(release.first_deployed.timestamp()),
            "last_deployed": int(release.last_deployed.timestamp()),
            "name": release.name,
            "namespace": release.namespace,
            "notes": release.notes,
            "revision": release.revision,
            "values": "{}" if state.get("set_wo_revision") else values.as_json(release.config),
            "version": release.chart.version,
        },
    )
    return recorded


def _access(config: State) -> Access:
    given = config.get("kubernetes")
    kubernetes: Mapping[str, Any] = given if isinstance(given, Mapping) else {}

    def text(name: str) -> str:
        value = kubernetes.get(name)
        return "" if value is None or is_unknown(value) else str(value)

    command = kubernetes.get("exec")
    run: Exec | None = None
    if isinstance(command, Mapping) and wholly_known(command):
        run = Exec(
            command["api_version"],
            command["command"],
            tuple(command.get("args") or ()),
            tuple(sorted((command.get("env") or {}).items())),
        )
    return Access(
        host=text("host"),
        ca_pem=text("cluster_ca_certificate"),
        insecure=kubernetes.get("insecure") is True,
        tls_server_name=text("tls_server_name"),
        token=text("token"),
        username=text("username"),
        password=text("password"),
        client_certificate=text("client_certificate"),
        client_key=text("client_key"),
        exec=run,
    )
