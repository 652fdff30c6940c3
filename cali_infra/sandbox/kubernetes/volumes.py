"""Claims and volumes: what the EBS CSI driver does, as long as the cluster has it."""

from __future__ import annotations

from collections.abc import Callable

from cali_infra.sandbox.kubernetes import quantities
from cali_infra.sandbox.kubernetes.errors import Obj
from cali_infra.sandbox.kubernetes.registry import Options
from cali_infra.sandbox.kubernetes.state import MANAGER, State, claim_names, key_of
from cali_infra.sandbox.kubernetes.store import Key

DRIVER = ("kube-system", "ebs-csi-controller")
_PROVISIONERS = ("kubernetes.io/aws-ebs", "ebs.csi.aws.com")
_WAITING = "WaitForFirstConsumer"


class Volumes:
    """The binder and the provisioner of one cluster; `mark` makes an object due to be looked at."""

    def __init__(self, state: State, mark: Callable[[str, str, Key], None]) -> None:
        self._state = state
        self._mark = mark

    def claim(self, key: Key, obj: Obj) -> None:
        """Binds a claim to the volume that was reserved or is made for it, or wakes the pods it waits for.

        One that is bound and asks for more gets it.
        """
        if obj.get("status", {}).get("phase") == "Bound":
            self._grow(key, obj)
            return
        volume = self._reserved(key, obj)
        if volume is not None:
            self._join(key, obj, volume)
            return
        if obj["spec"].get("volumeName"):
            return
        name = obj["spec"].get("storageClassName", "")
        found = self._state.find("storage.k8s.io", "storageclasses", "", name)
        if found is None:
            return
        if found.get("volumeBindingMode") != _WAITING:
            self.bind(obj)
            return
        for pod in self._state.store.all(self._state.resource("", "pods"), key[0]):
            if key[1] in claim_names(pod) and not pod["spec"].get("nodeName"):
                self._mark("", "pods", key_of(pod))

    def bind(self, claim: Obj) -> None:
        """Makes a volume for a claim, when its class names a provisioner that the cluster has."""
        metadata, spec = claim["metadata"], claim["spec"]
        name = spec.get("storageClassName", "")
        found = self._state.find("storage.k8s.io", "storageclasses", "", name)
        if found is None or found["provisioner"] not in _PROVISIONERS:
            return
        if self._state.find("apps", "deployments", *DRIVER) is None:
            self._state.event(
                claim,
                "ExternalProvisioning",
                "Waiting for a volume to be created either by the external provisioner 'ebs.csi.aws.com' or "
                "manually by the system administrator.",
            )
            return
        size = spec["resources"]["requests"]["storage"]
        volume = f"pvc-{metadata['uid']}"
        body = {
            "metadata": {
                "name": volume,
                "annotations": {"pv.kubernetes.io/provisioned-by": "ebs.csi.aws.com"},
            },
            "spec": {
                "accessModes": spec["accessModes"],
                "capacity": {"storage": size},
                "claimRef": {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "name": metadata["name"],
                    "namespace": metadata["namespace"],
                    "uid": metadata["uid"],
                },
                "csi": {
                    "driver": "ebs.csi.aws.com",
                    "volumeHandle": f"vol-{metadata['uid'].replace('-', '')[:17]}",
                },
                "persistentVolumeReclaimPolicy": found.get("reclaimPolicy", "Delete"),
                "storageClassName": name,
            },
        }
        volumes = self._state.resource("", "persistentvolumes")
        self._state.registry.create(volumes, "", body, Options(MANAGER))
        self._state.registry.write_status(volumes, ("", volume), {"phase": "Bound"}, MANAGER)
        claims, key = self._state.resource("", "persistentvolumeclaims"), key_of(claim)
        self._state.store.put(claims, key, {**claim, "spec": {**spec, "volumeName": volume}})
        status = {"phase": "Bound", "accessModes": spec["accessModes"], "capacity": {"storage": size}}
        self._state.registry.write_status(claims, key, status, MANAGER)

    def _grow(self, key: Key, claim: Obj) -> None:
        """Lets a volume grow with its claim; whether its class allows that was asked when the claim changed."""
        resource = self._state.resource("", "persistentvolumes")
        volume = self._state.store.get(resource, ("", claim["spec"].get("volumeName", "")))
        asked = claim["spec"]["resources"]["requests"]["storage"]
        if volume is None or self._state.find("apps", "deployments", *DRIVER) is None:
            return
        if quantities.value(asked) > quantities.value(volume["spec"]["capacity"]["storage"]):
            spec = {**volume["spec"], "capacity": {"storage": asked}}
            self._state.store.put(resource, key_of(volume), {**volume, "spec": spec})
            claims = self._state.resource("", "persistentvolumeclaims")
            status = {**claim["status"], "capacity": {"storage": asked}}
            self._state.registry.write_status(claims, key, status, MANAGER)

    def _reserved(self, key: Key, claim: Obj) -> Obj | None:
        """The volume that somebody made for this very claim: one of them names the other, and neither a third."""
        wanted = claim["spec"].get("volumeName")
        for volume in self._state.store.all(self._state.resource("", "persistentvolumes")):
            spec, ref = volume["spec"], volume["spec"].get("claimRef")
            if wanted not in (None, "", volume["metadata"]["name"]) or not (wanted or ref):
                continue
            if spec.get("storageClassName", "") != claim["spec"].get("storageClassName", ""):
                continue
            if ref is None or (
                (ref.get("namespace"), ref.get("name")) == key
                and ref.get("uid") in (None, claim["metadata"]["uid"])
            ):
                return volume
        return None

    def _join(self, key: Key, claim: Obj, volume: Obj) -> None:
        """Writes into a volume and a claim that they belong to each other."""
        claims, volumes = (
            self._state.resource("", plural) for plural in ("persistentvolumeclaims", "persistentvolumes")
        )
        metadata, name = claim["metadata"], volume["metadata"]["name"]
        ref = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": key[0],
            "name": key[1],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        }
        self._state.store.put(volumes, ("", name), {**volume, "spec": {**volume["spec"], "claimRef": ref}})
        self._state.registry.write_status(volumes, ("", name), {"phase": "Bound"}, MANAGER)
        annotations = {**(metadata.get("annotations") or {}), "pv.kubernetes.io/bind-completed": "yes"}
        spec = {**claim["spec"], "volumeName": name}
        bound = {**claim, "metadata": {**metadata, "annotations": annotations}, "spec": spec}
        self._state.store.put(claims, key, bound)
        status = {
            "phase": "Bound",
            "accessModes": volume["spec"]["accessModes"],
            "capacity": volume["spec"]["capacity"],
        }
        self._state.registry.write_status(claims, key, status, MANAGER)

    def reclaim(self, claim: Obj) -> None:
        """A claim is gone: its volume goes too, or is released, as its class said."""
        resource = self._state.resource("", "persistentvolumes")
        volume = self._state.store.get(resource, ("", claim["spec"].get("volumeName", "")))
        if volume is None:
            return
        if volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete":
            self._state.store.drop(resource, key_of(volume))
        else:
            self._state.registry.write_status(resource, key_of(volume), {"phase": "Released"}, MANAGER)
