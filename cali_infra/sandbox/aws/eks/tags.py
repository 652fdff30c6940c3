"""Tags of everything in EKS, by ARN."""

from __future__ import annotations

from dataclasses import replace

from cali_infra.sandbox.aws.calls import Call, Operation, Result, operation
from cali_infra.sandbox.aws.eks.state import World
from cali_infra.sandbox.aws.errors import ServiceError


class Tags:
    """The operations on tags."""

    def __init__(self, world: World) -> None:
        self._world = world

    def operations(self) -> dict[str, Operation]:
        """What is modelled here."""
        return {
            "TagResource": operation(self.tag, "resourceArn tags"),
            "UntagResource": operation(self.untag, "resourceArn tagKeys"),
            "ListTagsForResource": operation(self.list_all, "resourceArn"),
        }

    def tag(self, call: Call) -> Result:
        self._set(call, {**self._get(call), **call["tags"]})
        return {}

    def untag(self, call: Call) -> Result:
        gone = set(call["tagKeys"])
        self._set(call, {key: value for key, value in self._get(call).items() if key not in gone})
        return {}

    def list_all(self, call: Call) -> Result:
        return {"tags": self._get(call)}

    def _get(self, call: Call) -> dict[str, str]:
        for cluster in self._world.clusters.values():
            for entry in cluster.entries.values():
                if entry.arn == call["resourceArn"]:
                    return dict(entry.tags)
            for arn, tags in cluster.taggable():
                if arn == call["resourceArn"]:
                    return tags
        raise ServiceError("NotFoundException", f"Resource {call['resourceArn']} is not found")

    def _set(self, call: Call, tags: dict[str, str]) -> None:
        for cluster in self._world.clusters.values():
            for principal, entry in cluster.entries.items():
                if entry.arn == call["resourceArn"]:
                    cluster.entries[principal] = replace(entry, tags=tags)
                    return
            for arn, kept in cluster.taggable():
                if arn == call["resourceArn"]:
                    kept.clear()
                    kept.update(tags)
                    return
