"""What the provider `hashicorp/helm` 3.1 accepts: its attributes, their types, defaults and allowed values.

Pure data; `wire_type` gives an attribute's type as Terraform spells it. Source: the schema of the provider
(3.1.2), the resource's schema version 2. A test holds the names against a configuration that uses them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Type = str | list[object]
Nesting = Literal["single", "list", "set"]

STRING: Type = "string"
BOOL: Type = "bool"
NUMBER: Type = "number"
STRINGS: Type = ["list", "string"]
STRING_MAP: Type = ["map", "string"]

RELEASE = "helm_release"
TEMPLATE = "helm_template"
RELEASE_VERSION = 2


class _Missing:
    """An attribute without a default; None is a default like any other."""


MISSING = _Missing()


@dataclass(frozen=True)
class Attribute:
    """One attribute: a plain one has a `type`, a nested one `nesting` and `attributes`."""

    type: Type | None = None
    nesting: Nesting | None = None
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    required: bool = False
    optional: bool = False
    computed: bool = False
    sensitive: bool = False
    write_only: bool = False
    default: object = MISSING
    one_of: tuple[str, ...] = ()

    @property
    def has_default(self) -> bool:
        """The provider fills it in when the configuration leaves it out."""
        return not isinstance(self.default, _Missing)


def wire_type(attribute: Attribute) -> Type:
    """The attribute's type in Terraform's JSON notation, such as `["list", "string"]`."""
    if attribute.type is not None:
        return attribute.type
    inner: Type = ["object", {name: wire_type(part) for name, part in attribute.attributes.items()}]
    return inner if attribute.nesting == "single" else [str(attribute.nesting), inner]


def _optional(type_: Type, *, one_of: tuple[str, ...] = (), sensitive: bool = False) -> Attribute:
    return Attribute(type_, optional=True, one_of=one_of, sensitive=sensitive)


def _defaulted(type_: Type, default: object) -> Attribute:
    return Attribute(type_, optional=True, computed=True, default=default)


def _computed(type_: Type) -> Attribute:
    return Attribute(type_, computed=True)


_SET_TYPES = ("auto", "string", "literal")

_EXEC = {
    "api_version": Attribute(STRING, required=True),
    "command": Attribute(STRING, required=True),
    "env": _optional(STRING_MAP),
    "args": _optional(STRINGS),
}

_KUBERNETES = {
    **{
        name: _optional(STRING)
        for name in (
            "host",
            "username",
            "password",
            "tls_server_name",
            "client_certificate",
            "client_key",
            "cluster_ca_certificate",
            "config_path",
            "config_context",
            "config_context_auth_info",
            "config_context_cluster",
            "token",
            "proxy_url",
        )
    },
    "insecure": _optional(BOOL),
    "config_paths": _optional(STRINGS),
    "exec": Attribute(nesting="single", attributes=_EXEC, optional=True),
}

PROVIDER: Mapping[str, Attribute] = {
    "debug": _optional(BOOL),
    "plugins_path": _optional(STRING),
    "registry_config_path": _optional(STRING),
    "repository_config_path": _optional(STRING),
    "repository_cache": _optional(STRING),
    "helm_driver": _optional(STRING, one_of=("memory", "configmap", "secret", "sql")),
    "burst_limit": _optional(NUMBER),
    "qps": _optional(NUMBER),
    "kubernetes": Attribute(nesting="single", attributes=_KUBERNETES, optional=True),
    "registries": Attribute(
        nesting="list",
        attributes={name: Attribute(STRING, required=True) for name in ("url", "username", "password")},
        optional=True,
    ),
    "experiments": Attribute(nesting="single", attributes={"manifest": _optional(BOOL)}, optional=True),
}

METADATA: Mapping[str, Attribute] = {
    "app_version": _computed(STRING),
    "chart": _computed(STRING),
    "first_deployed": _computed(NUMBER),
    "last_deployed": _computed(NUMBER),
    "name": _computed(STRING),
    "namespace": _computed(STRING),
    "notes": _computed(STRING),
    "revision": _computed(NUMBER),
    "values": _computed(STRING),
    "version": _computed(STRING),
}

_POSTRENDER = Attribute(
    nesting="single",
    attributes={"args": _optional(STRINGS), "binary_path": Attribute(STRING, required=True)},
    optional=True,
)

_SWITCHES = {
    "atomic": False,
    "cleanup_on_fail": False,
    "create_namespace": False,
    "dependency_update": False,
    "disable_crd_hooks": False,
    "disable_openapi_validation": False,
    "disable_webhooks": False,
    "force_update": False,
    "lint": False,
    "pass_credentials": False,
    "recreate_pods": False,
    "render_subchart_notes": True,
    "replace": False,
    "reset_values": False,
    "reuse_values": False,
    "skip_crds": False,
    "take_ownership": False,
    "upgrade_install": False,
    "verify": False,
    "wait": True,
    "wait_for_jobs": False,
}

RELEASE_ATTRIBUTES: Mapping[str, Attribute] = {
    **{name: _defaulted(BOOL, default) for name, default in _SWITCHES.items()},
    "chart": Attribute(STRING, required=True),
    "description": Attribute(STRING, optional=True, computed=True),
    "devel": _optional(BOOL),
    "id": _computed(STRING),
    "keyring": _optional(STRING),
    "manifest": _computed(STRING),
    "max_history": _defaulted(NUMBER, 0),
    "metadata": Attribute(nesting="single", attributes=METADATA, computed=True),
    "name": Attribute(STRING, required=True),
    "namespace": _defaulted(STRING, "default"),
    "postrender": _POSTRENDER,
    "repository": _optional(STRING),
    "repository_ca_file": _optional(STRING),
    "repository_cert_file": _optional(STRING),
    "repository_key_file": _optional(STRING),
    "repository_password": _optional(STRING, sensitive=True),
    "repository_username": _optional(STRING),
    "resources": _computed(STRING_MAP),
    "set": Attribute(
        nesting="list",
        attributes={
            "name": Attribute(STRING, required=True),
            "value": _optional(STRING),
            "type": Attribute(STRING, optional=True, computed=True, default="", one_of=_SET_TYPES),
        },
        optional=True,
    ),
    "set_list": Attribute(
        nesting="list",
        attributes={"name": Attribute(STRING, required=True), "value": Attribute(STRINGS, required=True)},
        optional=True,
    ),
    "set_sensitive": Attribute(
        nesting="list",
        attributes={
            "name": Attribute(STRING, required=True),
            "value": Attribute(STRING, required=True, sensitive=True),
            "type": _optional(STRING, one_of=_SET_TYPES),
        },
        optional=True,
    ),
    "set_wo": Attribute(
        nesting="list",
        attributes={
            "name": Attribute(STRING, required=True, write_only=True),
            "value": Attribute(STRING, required=True, write_only=True),
            "type": Attribute(STRING, optional=True, write_only=True, one_of=("auto", "string")),
        },
        optional=True,
        write_only=True,
    ),
    "set_wo_revision": _optional(NUMBER),
    "status": _computed(STRING),
    "timeout": _defaulted(NUMBER, 300),
    "timeouts": Attribute(
        nesting="single",
        attributes={name: _optional(STRING) for name in ("create", "read", "update", "delete")},
        optional=True,
    ),
    "values": _optional(STRINGS),
    "version": Attribute(STRING, optional=True, computed=True),
}

TEMPLATE_ATTRIBUTES: Mapping[str, Attribute] = {
    **{
        name: _optional(BOOL)
        for name in (
            "atomic",
            "create_namespace",
            "dependency_update",
            "devel",
            "disable_openapi_validation",
            "disable_webhooks",
            "include_crds",
            "is_upgrade",
            "pass_credentials",
            "render_subchart_notes",
            "replace",
            "reset_values",
            "reuse_values",
            "skip_crds",
            "skip_tests",
            "validate",
            "verify",
            "wait",
        )
    },
    **{
        name: _optional(STRING)
        for name in (
            "description",
            "keyring",
            "kube_version",
            "namespace",
            "repository",
            "repository_ca_file",
            "repository_cert_file",
            "repository_key_file",
            "repository_username",
        )
    },
    "repository_password": _optional(STRING, sensitive=True),
    "api_versions": _optional(STRINGS),
    "chart": Attribute(STRING, required=True),
    "crds": Attribute(STRINGS, optional=True, computed=True),
    "id": _computed(STRING),
    "manifest": Attribute(STRING, optional=True, computed=True),
    "manifests": Attribute(STRING_MAP, optional=True, computed=True),
    "name": Attribute(STRING, required=True),
    "notes": Attribute(STRING, optional=True, computed=True),
    "postrender": _POSTRENDER,
    "set": Attribute(
        nesting="set",
        attributes={
            "name": Attribute(STRING, required=True),
            "value": _optional(STRING),
            "type": Attribute(STRING, optional=True, computed=True, one_of=_SET_TYPES),
        },
        optional=True,
    ),
    "set_list": Attribute(
        nesting="list",
        attributes={"name": _optional(STRING), "value": Attribute(STRINGS, required=True)},
        optional=True,
    ),
    "set_sensitive": Attribute(
        nesting="set",
        attributes={
            "name": Attribute(STRING, required=True),
            "value": Attribute(STRING, required=True, sensitive=True),
            "type": _optional(STRING, one_of=_SET_TYPES),
        },
        optional=True,
    ),
    "set_wo": Attribute(
        nesting="list",
        attributes={
            "name": Attribute(STRING, required=True),
            "value": Attribute(STRING, required=True),
            "type": _optional(STRING, one_of=("auto", "string")),
        },
        optional=True,
    ),
    "show_only": _optional(STRINGS),
    "timeout": _optional(NUMBER),
    "timeouts": Attribute(nesting="single", attributes={"read": _optional(STRING)}, optional=True),
    "values": _optional(STRINGS),
    "version": Attribute(STRING, optional=True, computed=True),
}
