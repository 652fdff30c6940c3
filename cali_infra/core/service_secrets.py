"""The objects of the stage `service-secrets`: a namespace for each service that is on, and the Secrets that its
chart takes by name.

`SECRETS` is the one place that says which Secret holds which keys, from which setting, and which values of which
chart name it: the releases are built on it, and no password is ever a value of Terraform's. What differs in the
cluster, how it is written and what stays when a service is switched off is `manifests.py`'s.

Sources of the keys: the charts' templates. Grafana 12.11.1: `_pod.tpl`. Milvus 5.0.19: `standalone-deployment.yaml`
and the bundled MinIO's `deployment.yaml`; Milvus reads any setting from a variable of its name in capitals, without
the dots, before the file that the chart writes (`pkg/config`: env_source.go, file_source.go). Airflow 1.22.0:
`_helpers.yaml`, `create-user-job.yaml`, `templates/secrets/`, and the bundled PostgreSQL's `statefulset.yaml`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

from cali_infra.core.index import READER
from cali_infra.core.secrets import ssh_host, ssh_key_text

if TYPE_CHECKING:
    from cali_infra.core.secrets import Secrets
    from cali_infra.core.settings import Settings

Object = dict[str, Any]

STAGE = "service-secrets"
# Each is a switch in `cali.yaml`, and names its namespace and its release.
SERVICES = ("airflow", "milvus", "grafana")

_LABELS = {"app.kubernetes.io/managed-by": "cali", "app.kubernetes.io/part-of": "cali"}

ADMIN = "admin"
# The bundled PostgreSQL: the user, who owns the database of the same name, and the Service that its chart makes.
DATABASE_USER = "airflow"
DATABASE_HOST = "airflow-postgresql.airflow"
# The Service that Milvus' chart makes, and its one user at the start.
MILVUS_HOST, MILVUS_PORT, MILVUS_USER = "milvus.milvus", 19530, "root"


@dataclass(frozen=True)
class Given:
    """What the values are made from; `endpoint` is the domain's `host` or `host:port`."""

    settings: Settings
    secrets: Secrets
    endpoint: str

    def on(self, service: str) -> bool:
        """Whether a service is switched on."""
        return bool(getattr(self.settings.services, service))

    @property
    def bundled_database(self) -> bool:
        """Whether Airflow's database is the chart's own."""
        return self.secrets.airflow.database_url is None

    def setting(self, path: str) -> str:
        """A key of `secrets.yaml` by its dotted path, in clear."""
        value = attrgetter(path)(self.secrets)
        return str(getattr(value, "get_secret_value", lambda: value)())


@dataclass(frozen=True)
class Key:
    """One key of a Secret.

    `setting` is the key of `secrets.yaml` that it holds, empty where it is no secret; `make` gives the value where
    that is more than the setting itself. `env` is the variable that a container reads, where the chart leaves its
    name to us (`valueFrom.secretKeyRef`).
    """

    name: str
    setting: str = ""
    make: Callable[[Given], str] | None = None
    env: str = ""
    wanted: Callable[[Given], bool] = lambda given: True

    def value(self, given: Given) -> str:
        return self.make(given) if self.make else given.setting(self.setting)


@dataclass(frozen=True)
class ServiceSecret:
    """One Secret in the namespace of a service; `values` are the chart's values that name it."""

    service: str
    name: str
    values: tuple[str, ...]
    keys: tuple[Key, ...]
    wanted: Callable[[Given], bool] = lambda given: True


def _database(given: Given) -> str:
    """SQLAlchemy's URL of Airflow's database: the one that is given, or that of the bundled one.

    The latter without `sslmode`, which the chart's own URL has: Airflow opens it with asyncpg too, which refuses
    that.
    """
    if not given.bundled_database:
        return given.setting("airflow.database_url")
    password = quote(given.setting("airflow.database_password"), safe="")
    return f"postgresql://{DATABASE_USER}:{password}@{DATABASE_HOST}:5432/{DATABASE_USER}"


def _database_async(given: Given) -> str:
    """The same database for asyncpg, which knows `sslmode` by the name of `ssl`."""
    parts = urlsplit(given.setting("airflow.database_url"))
    return urlunsplit(
        parts._replace(scheme="postgresql+asyncpg", query=parts.query.replace("sslmode=", "ssl="))
    )


def _names_sslmode(given: Given) -> bool:
    # Airflow makes the URL for asyncpg out of the other one by itself where nothing has to be translated.
    return not given.bundled_database and "sslmode=" in urlsplit(given.setting("airflow.database_url")).query


def _opensearch(given: Given) -> str:
    host, _, port = given.endpoint.partition(":")
    return _connection(
        conn_type="opensearch",
        host=host,
        port=int(port or 443),
        login=READER,
        password=given.setting("opensearch.reader_password"),
        extra={"use_ssl": True, "verify_certs": True},
    )


def _milvus(given: Given) -> str:
    return _connection(
        conn_type="generic",
        host=MILVUS_HOST,
        port=MILVUS_PORT,
        login=MILVUS_USER,
        password=given.setting("milvus.root_password"),
        extra={"uri": f"http://{MILVUS_HOST}:{MILVUS_PORT}"},
    )


def _connection(**fields: Any) -> str:
    """A connection in Airflow's JSON form, in which no character needs quoting of its own."""
    return json.dumps(fields, ensure_ascii=False)


def _ssh_key(given: Given) -> str:
    return ssh_key_text(given.setting("gitsync.ssh_key"))


def _over_ssh(given: Given) -> bool:
    return ssh_host(given.secrets.gitsync.url) is not None


def _by_token(given: Given) -> bool:
    gitsync = given.secrets.gitsync
    return bool(gitsync.url and gitsync.token) and not _over_ssh(given)


SECRETS: tuple[ServiceSecret, ...] = (
    ServiceSecret(
        "airflow",
        "airflow-keys",
        ("fernetKeySecretName", "apiSecretKeySecretName", "jwtSecretName"),
        (
            Key("fernet-key", "airflow.fernet_key"),
            Key("api-secret-key", "airflow.api_secret_key"),
            Key("jwt-secret", "airflow.jwt_secret"),
        ),
    ),
    ServiceSecret(
        "airflow",
        "airflow-database",
        ("postgresql.auth.existingSecret",),
        (
            Key("password", "airflow.database_password"),
            # The superuser's, which the chart asks for as long as `postgresql.auth.enablePostgresUser` is true.
            Key("postgres-password", "airflow.database_password"),
        ),
        wanted=lambda given: given.bundled_database,
    ),
    ServiceSecret(
        "airflow",
        "airflow-database-connection",
        ("data.metadataSecretName",),
        (Key("connection", "airflow.database_password", _database),),
    ),
    ServiceSecret(
        "airflow",
        "airflow-admin",
        # The chart's own `args` take the password from a value: they are to read this variable instead.
        ("createUserJob.env",),
        (Key("password", "airflow.admin_password", env="AIRFLOW_ADMIN_PASSWORD"),),
    ),
    ServiceSecret(
        "airflow",
        "airflow-connections",
        # Whole, as variables of every part of Airflow, the workers' pods included.
        ("extraEnvFrom",),
        (
            Key("AIRFLOW_CONN_OPENSEARCH_DEFAULT", "opensearch.reader_password", _opensearch),
            Key(
                "AIRFLOW_CONN_MILVUS_DEFAULT",
                "milvus.root_password",
                _milvus,
                wanted=lambda given: given.on("milvus"),
            ),
            Key(
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC",
                "airflow.database_url",
                _database_async,
                wanted=_names_sslmode,
            ),
        ),
    ),
    ServiceSecret(
        "airflow",
        "airflow-git-ssh",
        # `gitsync.known_hosts` is no secret: it is the value `dags.gitSync.knownHosts`.
        ("dags.gitSync.sshKeySecret",),
        (Key("gitSshKey", "gitsync.ssh_key", _ssh_key),),
        wanted=_over_ssh,
    ),
    ServiceSecret(
        "airflow",
        "airflow-git-credentials",
        ("dags.gitSync.credentialsSecret",),
        (
            # By these names git-sync 3 and git-sync 4 know them; the chart refers to all four.
            Key("GIT_SYNC_USERNAME", "gitsync.username"),
            Key("GIT_SYNC_PASSWORD", "gitsync.token"),
            Key("GITSYNC_USERNAME", "gitsync.username"),
            Key("GITSYNC_PASSWORD", "gitsync.token"),
        ),
        wanted=_by_token,
    ),
    ServiceSecret(
        "milvus",
        "milvus-object-store",
        # The store takes it by name; Milvus itself would go on with the chart's default keys.
        ("minio.existingSecret", "standalone.extraEnv"),
        (
            Key("accesskey", "milvus.minio_access_key", env="MINIO_ACCESS_KEY_ID"),
            Key("secretkey", "milvus.minio_secret_key", env="MINIO_SECRET_ACCESS_KEY"),
        ),
        wanted=lambda given: given.settings.milvus.mode == "standalone",
    ),
    ServiceSecret(
        "milvus",
        "milvus-root",
        # Asked for only with `common.security.authorizationEnabled` in `extraConfigFiles`.
        ("standalone.extraEnv", "mixCoordinator.extraEnv"),
        (Key("password", "milvus.root_password", env="COMMON_SECURITY_DEFAULTROOTPASSWORD"),),
    ),
    ServiceSecret(
        "grafana",
        "grafana-admin",
        # `admin.userKey` and `admin.passwordKey` have these keys for their defaults.
        ("admin.existingSecret",),
        (Key("admin-user", make=lambda given: ADMIN), Key("admin-password", "grafana.admin_password")),
    ),
    ServiceSecret(
        "grafana",
        "grafana-opensearch",
        # A data source reads it as $OPENSEARCH_READER_PASSWORD. Not as ${...} or $__env{...}: what comes of those
        # is expanded once more, and a password with a $ is lost.
        ("envFromSecrets",),
        (Key("OPENSEARCH_READER_PASSWORD", "opensearch.reader_password"),),
    ),
)


def objects(settings: Settings, secrets: Secrets, endpoint: str) -> list[Object]:
    """A Namespace for each service that is on, and its Secrets, those that its settings call for.

    `endpoint` is the domain's `host` or `host:port`.
    """
    given = Given(settings, secrets, endpoint)
    return [
        *(_namespace(service) for service in SERVICES if given.on(service)),
        *(_secret(one, given) for one in SECRETS if given.on(one.service) and one.wanted(given)),
    ]


def revisions(settings: Settings, secrets: Secrets, endpoint: str) -> dict[str, str]:
    """A keyed hash of what each Secret holds, by the Secret's name; 16 hexadecimal digits.

    A pod that carries it starts anew when its Secret has changed, and no other does. A plain digest, where every
    reader of pods sees it, could be guessed at. `endpoint` is the domain's `host` or `host:port`.
    """
    key = secrets.hashing_key.get_secret_value().encode()
    return {
        obj["metadata"]["name"]: hmac.new(
            key, json.dumps(obj["data"], sort_keys=True).encode(), hashlib.sha256
        ).hexdigest()[:16]
        for obj in objects(settings, secrets, endpoint)
        if obj["kind"] == "Secret"
    }


def _namespace(service: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": service,
            "labels": {
                **_LABELS,
                # The strictest level that the charts' pods fit: Grafana's first container is root and changes
                # owners, Milvus names no user.
                "pod-security.kubernetes.io/enforce": "baseline",
            },
        },
    }


def _secret(secret: ServiceSecret, given: Given) -> Object:
    values = {key.name: key.value(given) for key in secret.keys if key.wanted(given)}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret.name, "namespace": secret.service, "labels": _LABELS},
        "type": "Opaque",
        "data": {name: base64.b64encode(value.encode()).decode() for name, value in values.items()},
    }
