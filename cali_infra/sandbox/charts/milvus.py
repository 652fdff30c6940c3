"""Milvus' chart, version 5: standalone with its etcd and its object store, or a cluster of parts with etcd.

Sources: `standalone-deployment.yaml`, `proxy-deployment.yaml` and its like, `service.yaml`, `pvc.yaml`,
`serviceaccount.yaml`; the chart etcd 8.12, `statefulset.yaml`; the chart minio 8.0, `deployment.yaml`, `pvc.yaml`.
"""

from __future__ import annotations

from cali_infra.sandbox.charts.objects import (
    KEEP,
    POLICY,
    Obj,
    PodShape,
    Release,
    checksum,
    claim,
    claim_spec,
    claim_volume,
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
_TAG, _ETCD, _MINIO = "v2.6.15", "milvusdb/etcd:3.5.25-r1", "minio/minio:RELEASE.2024-12-18T13-15-44Z"
_PORTS = {"milvus": 19530, "metrics": 9091}
# Each part of a cluster, and the values that speak of it.
_PARTS = {
    "proxy": "proxy",
    "mixcoord": "mixCoordinator",
    "querynode": "queryNode",
    "datanode": "dataNode",
    "streamingnode": "streamingNode",
}


def render(release: Release) -> list[Obj]:
    """The chart's objects."""
    cluster = release.value("cluster.enabled", True)
    return [
        *_common(release, "proxy" if cluster else "standalone"),
        *(_cluster if cluster else _standalone)(release),
    ]


def _labels(release: Release, component: str = "") -> dict[str, str]:
    labels = {"app.kubernetes.io/instance": release.name, "app.kubernetes.io/name": "milvus"}
    return labels | ({"component": component} if component else {})


def _account(release: Release) -> str:
    return str(release.value("serviceAccount.name", "milvus")) if _has_account(release) else "default"


def _has_account(release: Release) -> bool:
    return bool(release.value("serviceAccount.create", False))


def _common(release: Release, front: str) -> list[Obj]:
    config = {key: str(value) for key, value in release.value("extraConfigFiles", {}).items()}
    objects = [
        config_map(release, release.name, _labels(release), {"default.yaml": "", "user.yaml": "", **config}),
        service(
            release,
            release.name,
            _labels(release, front),
            {"milvus": (19530, "milvus"), "metrics": (9091, "metrics")},
        ),
        *_etcd(release),
    ]
    if _has_account(release):
        annotations = release.value("serviceAccount.annotations")
        objects.insert(0, service_account(release, _account(release), _labels(release), annotations))
    return objects


def _image(release: Release) -> str:
    return f"milvusdb/milvus:{release.value('image.all.tag', _TAG)}"


def _standalone(release: Release) -> list[Obj]:
    volume = "standalone.persistence.persistentVolumeClaim"
    spec = claim_spec(release.value(f"{volume}.size", "50Gi"), release.value(f"{volume}.storageClass"))
    keep = release.value("standalone.persistence.annotations", {POLICY: KEEP})
    main = container(
        "standalone",
        _image(release),
        ports=_PORTS,
        env=release.value("standalone.extraEnv", []),
        resources=release.value("standalone.resources"),
        mounts={"milvus-data-disk": "/var/lib/milvus", "milvus-config": "/milvus/configs"},
    )
    pods = PodShape(
        _labels(release, "standalone"),
        [main],
        _account(release),
        _checked(release, release.value("annotations", {})),
        [config_volume("milvus-config", release.name), claim_volume("milvus-data-disk", release.name)],
    )
    return [
        claim(release, release.name, _labels(release), spec, keep),
        deployment(release, f"{release.name}-standalone", pods, recreate=True),
        *_minio(release),
    ]


def _checked(release: Release, annotations: dict[str, str]) -> dict[str, str]:
    """A change of the configuration starts the pods anew."""
    return {"checksum/config": checksum(release.value("extraConfigFiles", {})), **annotations}


def _cluster(release: Release) -> list[Obj]:
    objects = []
    for part, values in _PARTS.items():
        main = container(
            part,
            _image(release),
            ports=_PORTS if part == "proxy" else {"metrics": 9091},
            env=release.value(f"{values}.extraEnv", []),
            resources=release.value(f"{values}.resources"),
            mounts={"milvus-config": "/milvus/configs"},
        )
        annotations = {**release.value("annotations", {}), **release.value(f"{values}.annotations", {})}
        pods = PodShape(
            _labels(release, part),
            [main],
            _account(release),
            _checked(release, annotations),
            [config_volume("milvus-config", release.name)],
        )
        replicas = release.value(f"{values}.replicas", 1)
        objects.append(deployment(release, f"{release.name}-{part}", pods, replicas))
    return objects


def _etcd(release: Release) -> list[Obj]:
    name = f"{release.name}-etcd"
    labels = {"app.kubernetes.io/instance": release.name, "app.kubernetes.io/name": "etcd"}
    ports = {"client": 2379, "peer": 2380}
    reached = {port: (number, port) for port, number in ports.items()}
    spec = claim_spec(
        release.value("etcd.persistence.size", "10Gi"), release.value("etcd.persistence.storageClass")
    )
    main = container(
        "etcd",
        _ETCD,
        ports=ports,
        resources=release.value("etcd.resources"),
        mounts={"data": "/bitnami/etcd"},
    )
    return [
        service(release, name, labels, reached),
        service(release, f"{name}-headless", labels, reached),
        stateful_set(
            release,
            name,
            PodShape(labels, [main], claims={"data": spec}),
            f"{name}-headless",
            release.value("etcd.replicaCount", 3),
        ),
    ]


def _minio(release: Release) -> list[Obj]:
    if not release.value("minio.enabled", True):
        return []
    name = f"{release.name}-minio"
    labels = {"app": "minio", "release": release.name}
    secret = release.value("minio.existingSecret") or name
    spec = claim_spec(
        release.value("minio.persistence.size", "500Gi"), release.value("minio.persistence.storageClass")
    )
    keys = (("MINIO_ACCESS_KEY", "accesskey"), ("MINIO_SECRET_KEY", "secretkey"))
    main = container(
        "minio",
        _MINIO,
        ports={"http": 9000},
        env=[secret_env(variable, secret, key) for variable, key in keys],
        resources=release.value("minio.resources"),
        mounts={"export": "/export"},
    )
    volumes = [claim_volume("export", name), {"name": "minio-user", "secret": {"secretName": secret}}]
    pods = PodShape(labels, [main], annotations=release.value("minio.podAnnotations", {}), volumes=volumes)
    recreate = release.value("minio.DeploymentUpdate.type") == "Recreate"
    return [
        claim(release, name, labels, spec, release.value("minio.persistence.annotations")),
        service(release, name, labels, {"http": (9000, 9000)}),
        deployment(release, name, pods, recreate=recreate),
    ]
