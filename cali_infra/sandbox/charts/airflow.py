"""Airflow's chart, version 1.20 and newer, with the KubernetesExecutor: the four parts that always run, and the
bundled PostgreSQL where it is on. Sources: `api-server-deployment.yaml`, `scheduler-deployment.yaml`,
`dag-processor-deployment.yaml`, `triggerer-deployment.yaml`, `_helpers.yaml`; the chart postgresql 13.2 for the
database.
"""

from __future__ import annotations

from typing import Any

from cali_infra.sandbox.charts.objects import (
    Obj,
    PodShape,
    Release,
    checksum,
    claim_spec,
    config_map,
    config_volume,
    container,
    deployment,
    secret_env,
    service,
    service_account,
    stateful_set,
)

# The chart's own.
_TAG, _GIT_SYNC = "3.2.2", "registry.k8s.io/git-sync/git-sync:v4.4.2"
_DATABASE_IMAGE = {
    "registry": "docker.io",
    "repository": "bitnamilegacy/postgresql",
    "tag": "16.1.0-debian-11-r15",
}
# Each part that runs, and the values that speak of it.
_PARTS = {
    "api-server": "apiServer",
    "scheduler": "scheduler",
    "dag-processor": "dagProcessor",
    "triggerer": "triggerer",
}
_ACCOUNTS = (*_PARTS, "worker", "migrate-database-job", "create-user-job")
_API_PORT = 8080


def render(release: Release) -> list[Obj]:
    """The chart's objects."""
    objects = [
        service_account(release, f"{release.name}-{part}", _labels(release, part)) for part in _ACCOUNTS
    ]
    config = {
        "airflow.cfg": _configuration(release.value("config", {})),
        "known_hosts": str(release.value("dags.gitSync.knownHosts", "")),
    }
    objects.append(config_map(release, f"{release.name}-config", _labels(release, "config"), config))
    objects.append(
        service(
            release,
            f"{release.name}-api-server",
            _labels(release, "api-server"),
            {"api-server": (_API_PORT, "api-server")},
        )
    )
    objects += [_part(release, part, values) for part, values in _PARTS.items()]
    if release.value("postgresql.enabled", True):
        objects += _database(release)
    return objects


def _labels(release: Release, component: str) -> dict[str, str]:
    return {"tier": "airflow", "component": component, "release": release.name}


def _configuration(sections: dict[str, Any]) -> str:
    lines = []
    for name, keys in sections.items():
        lines += [f"[{name}]", *(f"{key} = {value}" for key, value in keys.items())]
    return "\n".join(lines)


def _environment(release: Release) -> list[Obj]:
    connection = release.value("data.metadataSecretName", f"{release.name}-metadata")
    keys = (
        ("AIRFLOW__CORE__FERNET_KEY", "fernetKeySecretName", "fernet-key"),
        ("AIRFLOW__API__SECRET_KEY", "apiSecretKeySecretName", "api-secret-key"),
        ("AIRFLOW__API_AUTH__JWT_SECRET", "jwtSecretName", "jwt-secret"),
    )
    return [
        *(
            secret_env(variable, release.value(name, f"{release.name}-{key}"), key)
            for variable, name, key in keys
        ),
        secret_env("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", connection, "connection"),
        secret_env("AIRFLOW_CONN_AIRFLOW_DB", connection, "connection"),
    ]


def _part(release: Release, part: str, values: str) -> Obj:
    import yaml

    image = f"apache/airflow:{release.value('defaultAirflowTag', _TAG)}"
    shared = yaml.safe_load(release.value("extraEnvFrom", "[]")) or []
    main = container(
        part,
        image,
        ports={"api-server": _API_PORT} if part == "api-server" else None,
        env=_environment(release),
        env_from=shared,
        resources=release.value(f"{values}.resources"),
        mounts={"config": "/opt/airflow/airflow.cfg"},
    )
    containers, volumes = [main], [config_volume("config", f"{release.name}-config")]
    if part != "api-server":
        sidecar = f"{values}.logGroomerSidecar"
        if release.value(f"{sidecar}.enabled", True):
            resources = release.value(f"{sidecar}.resources")
            containers.append(container(f"{part}-log-groomer", image, resources=resources))
    if part in ("dag-processor", "triggerer") and release.value("dags.gitSync.enabled", False):
        containers.append(_git_sync(release))
        volumes.append({"name": "dags", "emptyDir": {}})
        main["volumeMounts"].append({"name": "dags", "mountPath": "/opt/airflow/dags", "readOnly": True})
        if secret := release.value("dags.gitSync.sshKeySecret"):
            volumes.append({"name": "git-sync-ssh-key", "secret": {"secretName": secret}})
    annotations = {
        "checksum/airflow-config": checksum(release.value("config", {})),
        **release.value("airflowPodAnnotations", {}),
        **release.value(f"{values}.podAnnotations", {}),
    }
    pods = PodShape(_labels(release, part), containers, f"{release.name}-{part}", annotations, volumes)
    return deployment(release, f"{release.name}-{part}", pods, release.value(f"{values}.replicas", 1))


def _git_sync(release: Release) -> Obj:
    env: list[Obj] = [
        {"name": "GITSYNC_REPO", "value": str(release.value("dags.gitSync.repo", ""))},
        {"name": "GITSYNC_REF", "value": str(release.value("dags.gitSync.ref", ""))},
        {"name": "GITSYNC_ROOT", "value": "/git"},
        {"name": "GITSYNC_LINK", "value": "repo"},
        {"name": "GITSYNC_PERIOD", "value": str(release.value("dags.gitSync.period", "5s"))},
    ]
    mounts = {"dags": "/git"}
    if release.value("dags.gitSync.sshKeySecret"):
        mounts["git-sync-ssh-key"] = "/etc/git-secret/ssh"
    elif secret := release.value("dags.gitSync.credentialsSecret"):
        env += [secret_env(key, secret, key) for key in ("GITSYNC_USERNAME", "GITSYNC_PASSWORD")]
    resources = release.value("dags.gitSync.resources")
    return container("git-sync", _GIT_SYNC, env=env, resources=resources, mounts=mounts)


def _database(release: Release) -> list[Obj]:
    name = f"{release.name}-postgresql"
    labels = {
        "app.kubernetes.io/instance": release.name,
        "app.kubernetes.io/name": "postgresql",
        "app.kubernetes.io/component": "primary",
    }
    image = {**_DATABASE_IMAGE, **release.value("postgresql.image", {})}
    secret = release.value("postgresql.auth.existingSecret", name)
    volume = "postgresql.primary.persistence"
    spec = claim_spec(release.value(f"{volume}.size", "8Gi"), release.value(f"{volume}.storageClass"))
    main = container(
        "postgresql",
        f"{image['registry']}/{image['repository']}:{image['tag']}",
        ports={"tcp-postgresql": 5432},
        env=[
            {"name": "POSTGRES_USER", "value": str(release.value("postgresql.auth.username", "postgres"))},
            secret_env("POSTGRES_PASSWORD", secret, "password"),
            secret_env("POSTGRES_POSTGRES_PASSWORD", secret, "postgres-password"),
        ],
        resources=release.value("postgresql.primary.resources"),
        mounts={"data": "/bitnami/postgresql"},
    )
    pods = PodShape(
        labels,
        [main],
        annotations=release.value("postgresql.primary.podAnnotations", {}),
        claims={"data": spec},
    )
    reached = {"tcp-postgresql": (5432, "tcp-postgresql")}
    return [
        service(release, name, labels, reached),
        service(release, f"{name}-hl", labels, reached),
        stateful_set(release, name, pods, f"{name}-hl"),
    ]
