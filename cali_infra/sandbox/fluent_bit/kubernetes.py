"""The processor `kubernetes`: what the API server knows of a record's pod, and pods that want no logs kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cali_infra.sandbox.fluent_bit.records import Record
from cali_infra.sandbox.fluent_bit.sections import Section
from cali_infra.sandbox.fluent_bit.tail import LogFile

_TAG = re.compile(
    r"(?P<pod_name>[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*)"
    r"_(?P<namespace_name>[^_]+)_(?P<container_name>.+)-(?P<docker_id>[a-z0-9]{64})\.log$"
)
_EXCLUDE = re.compile(r"fluentbit\.io/exclude(?:_(stdout|stderr))?(?:-(.+))?")
_STREAMS = ("stdout", "stderr")


@dataclass(frozen=True)
class Kubernetes:
    """`kubernetes`: adds a map of that name to the records of a pod that the API server knows."""

    tag_prefix: str
    exclude: bool
    labels: bool
    annotations: bool

    def run(self, file: LogFile, tag: str, records: list[Record]) -> list[Record]:
        """Add it to each record, and drop those that the pod's annotations exclude."""
        said = self._said(tag)
        pod = file.pod
        if said is None or pod is None or not _is(pod, said):
            return records
        about = self._about(pod, said)
        dropped = _excluded(pod, said["container_name"]) if self.exclude else frozenset()
        return [
            record.having((*record.fields, ("kubernetes", about)))
            for record in records
            if not self._drops(record, dropped)
        ]

    def _said(self, tag: str) -> Mapping[str, str] | None:
        """What the tag says of the container; the prefix is taken off by its length alone."""
        found = _TAG.search(tag[len(self.tag_prefix) :])
        return found.groupdict() if found else None

    @staticmethod
    def _drops(record: Record, dropped: frozenset[str]) -> bool:
        stream = record.get("stream")
        return stream in dropped if stream in _STREAMS else len(dropped) == len(_STREAMS)

    def _about(self, pod: Mapping[str, Any], said: Mapping[str, str]) -> dict[str, Any]:
        meta, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
        about: dict[str, Any] = {key: said[key] for key in ("pod_name", "namespace_name")}
        about["pod_id"] = meta.get("uid")
        if self.labels:
            about["labels"] = meta.get("labels")
        if self.annotations:
            about["annotations"] = meta.get("annotations")
        about["host"], about["pod_ip"] = spec.get("nodeName"), status.get("podIP")
        about |= {key: said[key] for key in ("container_name", "docker_id")}
        for one in status.get("containerStatuses") or ():
            if one.get("name") == said["container_name"]:
                about["container_hash"] = _hash(one.get("imageID") or "")
                about["container_image"] = one.get("image")
        return {key: value for key, value in about.items() if value}


def read(section: Section) -> Kubernetes:
    """`kubernetes` from its section. Raises ConfigurationError."""
    section.ignore("buffer_size", "cache_use_docker_id")
    # With it the application's own keys and time would come into the record here.
    section.must_be("merge_log", wanted=False, default=False)
    section.must_be("k8s-logging.parser", wanted=False, default=False)
    return Kubernetes(
        tag_prefix=section.text("kube_tag_prefix", "kube.var.log.containers."),
        exclude=section.flag("k8s-logging.exclude", default=False),
        labels=section.flag("labels", default=True),
        annotations=section.flag("annotations", default=True),
    )


def _is(pod: Mapping[str, Any], said: Mapping[str, str]) -> bool:
    meta = pod["metadata"]
    return (meta["name"], meta["namespace"]) == (said["pod_name"], said["namespace_name"])


def _excluded(pod: Mapping[str, Any], container: str) -> frozenset[str]:
    """The streams that the annotations exclude; one that names the container wins."""
    own: dict[str, bool] = {}
    every: dict[str, bool] = {}
    for key, value in sorted((pod["metadata"].get("annotations") or {}).items()):
        found = _EXCLUDE.fullmatch(key)
        if found is None or found[2] not in (None, container):
            continue
        for stream in [found[1]] if found[1] else _STREAMS:
            wanted = value.lower() in ("true", "on", "yes")
            if found[2]:
                own[stream] = wanted
            else:
                every.setdefault(stream, wanted)
    return frozenset(stream for stream, wanted in {**every, **own}.items() if wanted)


def _hash(image: str) -> str:
    """An image's identifier without the scheme before it."""
    return image.partition("://")[2] or image if ":" in image else ""
