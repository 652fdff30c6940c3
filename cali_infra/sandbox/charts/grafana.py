"""Grafana's chart, version 12: one Deployment with a volume. Sources: `_pod.tpl`, `_config.tpl`, `service.yaml`,
`pvc.yaml`, `dashboards-json-configmap.yaml`."""

from __future__ import annotations

import json

from cali_infra.sandbox.charts.objects import (
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
)

# The chart's own.
_TAG, _PORT = "13.2.0", 3000


def render(release: Release) -> list[Obj]:
    """The chart's objects. Provisioned files are JSON, which is YAML."""
    name = release.name
    labels = {"app.kubernetes.io/name": "grafana", "app.kubernetes.io/instance": release.name}
    data = {key: json.dumps(value) for key, value in release.value("datasources", {}).items()}
    data |= {key: json.dumps(value) for key, value in release.value("dashboardProviders", {}).items()}
    data["grafana.ini"] = json.dumps(release.value("grafana.ini", {}))
    if plugins := release.value("plugins", []):
        data["plugins"] = ",".join(plugins)
    objects = [
        service_account(release, name, labels),
        config_map(release, name, labels, data),
        service(release, name, labels, {"service": (80, "grafana")}),
    ]
    volumes = [config_volume("config", name)]
    for provider, dashboards in release.value("dashboards", {}).items():
        files = {f"{key}.json": str(one["json"]) for key, one in dashboards.items() if "json" in one}
        objects.append(config_map(release, f"{name}-dashboards-{provider}", labels, files))
        volumes.append(config_volume(f"dashboards-{provider}", f"{name}-dashboards-{provider}"))
    if release.value("persistence.enabled", False):
        spec = claim_spec(
            release.value("persistence.size", "10Gi"), release.value("persistence.storageClassName")
        )
        objects.append(claim(release, name, labels, spec, release.value("persistence.annotations")))
        volumes.append(claim_volume("storage", name))
    else:
        volumes.append({"name": "storage", "emptyDir": {}})
    admin = release.value("admin.existingSecret", name)
    main = container(
        "grafana",
        f"docker.io/grafana/grafana:{release.value('image.tag', _TAG)}",
        ports={"grafana": _PORT},
        env=[
            secret_env("GF_SECURITY_ADMIN_USER", admin, release.value("admin.userKey", "admin-user")),
            secret_env(
                "GF_SECURITY_ADMIN_PASSWORD", admin, release.value("admin.passwordKey", "admin-password")
            ),
        ],
        env_from=[{"secretRef": {"name": one["name"]}} for one in release.value("envFromSecrets", [])],
        resources=release.value("resources"),
        mounts={"config": "/etc/grafana", "storage": "/var/lib/grafana"},
    )
    annotations = {
        "checksum/config": checksum(data),
        "checksum/dashboards-json-config": checksum(release.value("dashboards", {})),
        **release.value("podAnnotations", {}),
    }
    pods = PodShape(labels, [main], name, annotations, volumes)
    recreate = release.value("deploymentStrategy.type") == "Recreate"
    return [*objects, deployment(release, name, pods, release.value("replicas", 1), recreate=recreate)]
