"""What roles allow: action groups, patterns of indices, and the roles that every domain has.

Source: the security plugin's default action groups and roles, as far as a log platform uses them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from cali_infra.sandbox.opensearch.errors import Obj

ACTION_GROUPS: Mapping[str, Sequence[str]] = {
    "unlimited": ("*",),
    "indices_all": ("indices:*",),
    "cluster_all": ("cluster:*",),
    "cluster_monitor": ("cluster:monitor/*",),
    "cluster_composite_ops_ro": (
        "indices:data/read/mget", "indices:data/read/msearch", "indices:data/read/mtv",
        "indices:admin/aliases/exists*", "indices:admin/aliases/get*", "indices:data/read/scroll",
        "indices:admin/resolve/index",
    ),
    "cluster_composite_ops": (
        "indices:data/write/bulk", "indices:admin/aliases*", "indices:data/write/reindex",
        "cluster_composite_ops_ro",
    ),
    "cluster_manage_index_templates": (
        "indices:admin/template/*", "indices:admin/index_template/*", "cluster:admin/component_template/*",
    ),
    "manage_snapshots": ("cluster:admin/snapshot/*", "cluster:admin/repository/*"),
    "read": (
        "indices:data/read*", "indices:admin/mappings/fields/get*", "indices:admin/resolve/index",
    ),
    "write": ("indices:data/write*", "indices:admin/mapping/put"),
    "index": (
        "indices:data/write/index*", "indices:data/write/update*", "indices:admin/mapping/put",
        "indices:data/write/bulk*",
    ),
    "delete": ("indices:data/write/delete*",),
    "crud": ("read", "write"),
    "data_access": ("indices:data/*", "crud"),
    "get": ("indices:data/read/get*", "indices:data/read/mget*"),
    "search": ("indices:data/read/search*", "indices:data/read/msearch*", "suggest"),
    "suggest": ("indices:data/read/suggest*",),
    "create_index": ("indices:admin/create", "indices:admin/mapping/put"),
    "manage": ("indices:monitor/*", "indices:admin/*"),
    "manage_aliases": ("indices:admin/aliases*",),
    "indices_monitor": ("indices:monitor/*",),
}  # fmt: skip


def _role(cluster: Sequence[str], patterns: Sequence[str], actions: Sequence[str]) -> Obj:
    permissions = [{"index_patterns": list(patterns), "allowed_actions": list(actions)}] if patterns else []
    return {"cluster_permissions": list(cluster), "index_permissions": permissions, "tenant_permissions": []}


STATIC_ROLES: Mapping[str, Obj] = {
    "all_access": _role(["*"], ["*"], ["*"]),
    "security_manager": _role(["cluster_monitor"], [], []),
    "readall": _role(["cluster_composite_ops_ro"], ["*"], ["read"]),
    "readall_and_monitor": _role(["cluster_monitor", "cluster_composite_ops_ro"], ["*"], ["read"]),
    "manage_snapshots": _role(
        ["manage_snapshots"], ["*"], ["indices:data/write/index", "indices:admin/create"]
    ),
    "logstash": _role(
        [
            "cluster_monitor",
            "cluster_composite_ops",
            "indices:admin/template/get",
            "indices:admin/template/put",
        ],
        ["logstash-*", "*beat*"],
        ["crud", "create_index"],
    ),
    # What Dashboards keeps of a person lies in indices of its own.
    "opensearch_dashboards_user": _role(
        ["cluster_composite_ops"],
        [".kibana", ".kibana_*", ".opensearch_dashboards", ".opensearch_dashboards_*"],
        ["read", "delete", "manage", "index"],
    ),
    "own_index": _role(["cluster_composite_ops"], ["${user_name}"], ["indices_all"]),
}


def grants(actions: Iterable[str], action: str) -> bool:
    """True when one of a role's actions, action groups or patterns covers `action`."""
    for pattern in actions:
        group = ACTION_GROUPS.get(pattern)
        if group is not None:
            if grants(group, action):
                return True
        elif fnmatchcase(action, pattern):
            return True
    return False


def allows_cluster(roles: Iterable[Obj], action: str) -> bool:
    """True when one of the roles allows an action on the whole cluster."""
    return any(grants(role.get("cluster_permissions") or (), action) for role in roles)


def allows_index(roles: Iterable[Obj], action: str, index: str, user: str) -> bool:
    """True when one of the roles allows an action on this index."""
    for role in roles:
        for permission in role.get("index_permissions") or ():
            patterns = [item.replace("${user_name}", user) for item in permission.get("index_patterns") or ()]
            if any(fnmatchcase(index, pattern) for pattern in patterns) and grants(
                permission.get("allowed_actions") or (), action
            ):
                return True
    return False


def unknown_actions(actions: Iterable[str]) -> list[str]:
    """What is neither a known action group nor looks like an action; such a role would give less than meant."""
    prefixes = ("indices:", "cluster:", "restapi:", "system:")
    return [
        item
        for item in actions
        if item not in ACTION_GROUPS and not item.startswith(prefixes) and "*" not in item
    ]
