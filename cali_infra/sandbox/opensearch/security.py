"""Users, roles and role mappings of one domain, and the REST API that manages them.

It owns who a request is from and what that user may do. Passwords are kept as salted hashes and never given
back. Source: the chapter "Access control / API" of the OpenSearch documentation and the security plugin 2.19.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cali_infra.sandbox.opensearch import permissions
from cali_infra.sandbox.opensearch.errors import Obj, PlainError, not_modelled, security

_ROUNDS = 1000
# The rule of Amazon OpenSearch Service for users of the internal database.
_STRONG = re.compile(r"(?=.*[A-Z])(?=.*[^a-zA-Z\d])(?=.*[0-9])(?=.*[a-z]).{8,}\Z", re.DOTALL)
_WEAK = (
    "Password must be minimum 8 characters long and must contain at least one uppercase letter, one lowercase "
    "letter, one digit, and one special character."
)
_USER_KEYS = {
    "password", "hash", "backend_roles", "attributes", "description", "opendistro_security_roles", "enabled",
    "service",
}  # fmt: skip
_ROLE_KEYS = {"cluster_permissions", "index_permissions", "tenant_permissions", "description", "reserved"}
_MAPPING_KEYS = {"backend_roles", "and_backend_roles", "hosts", "users", "description", "reserved"}
_NAMES = {"internalusers": "user", "roles": "role", "rolesmapping": "rolesmapping"}
ADMIN_ROLES = ("all_access", "security_manager")


@dataclass(frozen=True)
class Principal:
    """Who a request is from, with the roles that apply."""

    name: str
    backend_roles: tuple[str, ...]
    roles: Mapping[str, Obj]

    @property
    def is_admin(self) -> bool:
        """May use the security API."""
        return any(name in self.roles for name in ADMIN_ROLES)

    def _refused(self, action: str) -> Exception:
        roles = ", ".join(self.backend_roles)
        return security(
            f"no permissions for [{action}] and User [name={self.name}, backend_roles=[{roles}], "
            "requestedTenant=null]"
        )

    def demand(self, action: str) -> None:
        """Raises SearchError 403 unless the action on the cluster is allowed."""
        if not permissions.allows_cluster(self.roles.values(), action):
            raise self._refused(action)

    def may(self, action: str, index: str) -> bool:
        """True when the action on the index is allowed."""
        return permissions.allows_index(self.roles.values(), action, index, self.name)

    def demand_index(self, action: str, index: str) -> None:
        """Raises SearchError 403 unless the action on the index is allowed."""
        if not self.may(action, index):
            raise self._refused(action)


@dataclass
class _User:
    salt: bytes
    digest: bytes = field(repr=False)
    body: Obj = field(default_factory=dict)
    reserved: bool = False


class Security:
    """The security configuration of one domain."""

    def __init__(
        self, username: str, password: str, salt: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        self._salt = salt
        self._users: dict[str, _User] = {}
        self._roles: dict[str, Obj] = {}
        self._mappings: dict[str, Obj] = {name: {} for name in ADMIN_ROLES}
        self._master = ""
        # What a test may leave open: `any-password`, `no-password`.
        self.holes: frozenset[str] = frozenset()
        self.set_master(username, password)

    def set_master(self, username: str, password: str) -> None:
        """Makes this the master user; the one before it is gone."""
        self._users.pop(self._master, None)
        self._master = username
        salt = self._salt(16)
        self._users[username] = _User(salt, _digest(salt, password), {}, reserved=False)
        for name in ADMIN_ROLES:
            self._mappings[name] = {**self._mappings[name], "users": [username]}

    def authenticate(self, header: str) -> Principal:
        """Who an `Authorization` header is from. Raises PlainError 401."""
        scheme, _, encoded = header.partition(" ")
        refused = PlainError(
            401, "Unauthorized", {"WWW-Authenticate": 'Basic realm="OpenSearch Security", charset="UTF-8"'}
        )
        if not header and "no-password" in self.holes:
            return Principal("anonymous", (), {"all_access": permissions.STATIC_ROLES["all_access"]})
        if scheme.lower() != "basic":
            raise refused
        try:
            name, separator, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise refused from error
        user = self._users.get(name)
        if (
            not separator
            or user is None
            or not (
                "any-password" in self.holes or hmac.compare_digest(user.digest, _digest(user.salt, password))
            )
        ):
            raise refused
        backend = tuple(user.body.get("backend_roles") or ())
        return Principal(name, backend, self._roles_of(name, user, backend))

    def _roles_of(self, name: str, user: _User, backend: tuple[str, ...]) -> dict[str, Obj]:
        names = set(user.body.get("opendistro_security_roles") or ())
        for role, mapping in self._mappings.items():
            both = mapping.get("and_backend_roles") or ()
            if (
                name in (mapping.get("users") or ())
                or "*" in (mapping.get("users") or ())
                or set(backend) & set(mapping.get("backend_roles") or ())
                or (both and set(both) <= set(backend))
            ):
                names.add(role)
        found = {role: self._role(role) for role in sorted(names)}
        return {role: body for role, body in found.items() if body is not None}

    def _role(self, name: str) -> Obj | None:
        return self._roles.get(name) or permissions.STATIC_ROLES.get(name)

    def account(self, principal: Principal) -> Obj:
        """`/_plugins/_security/api/account`."""
        return {
            "user_name": principal.name,
            "is_reserved": False,
            "is_hidden": False,
            "is_internal_user": True,
            "user_requested_tenant": None,
            "backend_roles": list(principal.backend_roles),
            "custom_attribute_names": [],
            "tenants": {},
            "roles": list(principal.roles),
        }

    def handle(self, principal: Principal, method: str, parts: list[str], body: Any) -> tuple[int, Obj]:
        """A request below `/_plugins/_security/api/`; raises PlainError or SearchError 501."""
        kind, name = parts[0], parts[1] if len(parts) > 1 else ""
        if kind == "account" and method == "GET":
            return 200, self.account(principal)
        if kind not in _NAMES or len(parts) > 2:
            raise not_modelled(f"{method} /_plugins/_security/api/{'/'.join(parts)}")
        if not principal.is_admin:
            roles = ", ".join(principal.roles)
            raise PlainError(
                403,
                {
                    "status": "FORBIDDEN",
                    "message": f"No permission to access REST API: User {principal.name} with Security roles "
                    f"[{roles}] does not have any role privileged for admin access. No client TLS certificate "
                    "found in request",
                },
            )
        if method == "GET":
            return 200, self._shown(kind, name)
        if method == "PUT" and name:
            return self._put(kind, name, body)
        if method == "DELETE" and name:
            return self._delete(kind, name)
        if method == "PATCH":
            return self._patch(kind, name, body)
        raise PlainError(405, {"error": f"Incorrect HTTP method for uri and method [{method}]"})

    def _table(self, kind: str) -> dict[str, Obj]:
        if kind == "internalusers":
            return {name: user.body for name, user in self._users.items()}
        if kind == "roles":
            return {**permissions.STATIC_ROLES, **self._roles}
        return self._mappings

    def _shown(self, kind: str, name: str) -> Obj:
        found = {key: self._render(kind, key, body) for key, body in self._table(kind).items()}
        if not name:
            return found
        if name not in found:
            raise PlainError(404, {"status": "NOT_FOUND", "message": f"{_NAMES[kind]} '{name}' not found."})
        return {name: found[name]}

    def _render(self, kind: str, name: str, body: Obj) -> Obj:
        description = {"description": body["description"]} if body.get("description") else {}
        if kind == "internalusers":
            return {
                "hash": "",
                "reserved": self._users[name].reserved,
                "hidden": False,
                "backend_roles": list(body.get("backend_roles") or ()),
                "attributes": dict(body.get("attributes") or {}),
                **description,
                "opendistro_security_roles": list(body.get("opendistro_security_roles") or ()),
                "static": False,
            }
        if kind == "roles":
            static = name in permissions.STATIC_ROLES
            return {
                "reserved": static,
                "hidden": False,
                **description,
                "cluster_permissions": list(body.get("cluster_permissions") or ()),
                "index_permissions": [
                    {
                        "index_patterns": list(item.get("index_patterns") or ()),
                        "dls": item.get("dls"),
                        "fls": list(item.get("fls") or ()),
                        "masked_fields": list(item.get("masked_fields") or ()),
                        "allowed_actions": list(item.get("allowed_actions") or ()),
                    }
                    for item in body.get("index_permissions") or ()
                ],
                "tenant_permissions": list(body.get("tenant_permissions") or ()),
                "static": static,
            }
        return {
            "hosts": list(body.get("hosts") or ()),
            "users": list(body.get("users") or ()),
            "reserved": False,
            "hidden": False,
            **description,
            "backend_roles": list(body.get("backend_roles") or ()),
            "and_backend_roles": list(body.get("and_backend_roles") or ()),
        }

    def _put(self, kind: str, name: str, body: Any) -> tuple[int, Obj]:
        if not isinstance(body, dict):
            raise PlainError(400, {"status": "error", "reason": "Could not parse content of request."})
        known = {"internalusers": _USER_KEYS, "roles": _ROLE_KEYS, "rolesmapping": _MAPPING_KEYS}[kind]
        unknown = sorted(set(body) - known)
        if unknown:
            raise PlainError(
                400,
                {
                    "status": "error",
                    "reason": "Invalid configuration",
                    "invalid_keys": {"keys": ",".join(unknown)},
                },
            )
        existed = name in self._table(kind)
        if kind == "internalusers":
            self._put_user(name, body)
        elif kind == "roles":
            self._guard(kind, name)
            self._check_role(body)
            self._roles[name] = body
        else:
            if self._role(name) is None:
                raise PlainError(404, {"status": "NOT_FOUND", "message": f"role '{name}' not found."})
            self._mappings[name] = body
        if existed:
            return 200, {"status": "OK", "message": f"'{name}' updated."}
        return 201, {"status": "CREATED", "message": f"'{name}' created."}

    def _put_user(self, name: str, body: Obj) -> None:
        if "hash" in body:
            raise not_modelled("an internal user with a hash instead of a password")
        for key, wanted in (("backend_roles", list), ("attributes", dict)):
            if not isinstance(body.get(key, wanted()), wanted):
                raise PlainError(
                    400,
                    {
                        "status": "error",
                        "reason": "Wrong datatype",
                        key: f"{'Array' if wanted is list else 'Object'} expected",
                    },
                )
        unknown = [role for role in body.get("opendistro_security_roles") or () if self._role(role) is None]
        if unknown:
            raise PlainError(404, {"status": "NOT_FOUND", "message": f"role '{unknown[0]}' not found."})
        kept = {key: value for key, value in body.items() if key != "password"}
        password = body.get("password")
        if not password:
            user = self._users.get(name)
            if user is None:
                raise PlainError(
                    400,
                    {
                        "status": "BAD_REQUEST",
                        "message": "Please specify either 'hash' or 'password' when creating a new internal user.",
                    },
                )
            user.body = kept
            return
        if not _STRONG.match(password):
            raise PlainError(400, {"status": "error", "reason": _WEAK})
        if name.lower() in password.lower():
            raise PlainError(400, {"status": "error", "reason": "Password is similar to user name"})
        salt = self._salt(16)
        self._users[name] = _User(salt, _digest(salt, password), kept)

    @staticmethod
    def _check_role(body: Obj) -> None:
        for item in body.get("index_permissions") or ():
            for key in ("dls", "fls", "masked_fields"):
                if item.get(key):
                    raise not_modelled(f"a role with {key}")
            unknown = permissions.unknown_actions(item.get("allowed_actions") or ())
            if unknown:
                raise not_modelled(f"the action group [{unknown[0]}]")
        unknown = permissions.unknown_actions(body.get("cluster_permissions") or ())
        if unknown:
            raise not_modelled(f"the action group [{unknown[0]}]")

    def _guard(self, kind: str, name: str) -> None:
        if kind == "roles" and name in permissions.STATIC_ROLES:
            raise PlainError(403, {"status": "FORBIDDEN", "message": f"Resource '{name}' is reserved."})

    def _delete(self, kind: str, name: str) -> tuple[int, Obj]:
        if name not in self._table(kind):
            raise PlainError(404, {"status": "NOT_FOUND", "message": f"{_NAMES[kind]} '{name}' not found."})
        self._guard(kind, name)
        tables: Mapping[str, dict[str, Any]] = {
            "internalusers": self._users,
            "roles": self._roles,
            "rolesmapping": self._mappings,
        }
        del tables[kind][name]
        return 200, {"status": "OK", "message": f"'{name}' deleted."}

    def _patch(self, kind: str, name: str, operations: Any) -> tuple[int, Obj]:
        """JSON patch of one entry, or of several with the name as the first part of each path."""
        import jsonpatch
        import jsonpointer

        table = self._table(kind)
        if name and name not in table:
            raise PlainError(404, {"status": "NOT_FOUND", "message": f"{_NAMES[kind]} '{name}' not found."})
        before: Any = table[name] if name else table
        try:
            after = jsonpatch.apply_patch(before, operations)
        except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, TypeError) as error:
            raise PlainError(400, {"status": "error", "reason": str(error)}) from error
        changed = (
            {name: after} if name else {key: item for key, item in after.items() if item != before.get(key)}
        )
        for key, item in changed.items():
            self._put(kind, key, item)
        for key in [] if name else set(before) - set(after):
            self._delete(kind, key)
        return 200, {"status": "OK", "message": f"'{name}' updated." if name else "Resource updated."}


def _digest(salt: bytes, password: str) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ROUNDS)
