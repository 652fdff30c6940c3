"""The pods of cali's own checks, really run: `cali verify --deep` and `--e2e` prove something by what they do.

Only pods of Jobs with the label that those checks put on, in a namespace in which those checks work, are run, and
nothing else: a sandbox is for trying out, and no place where any manifest that somebody applies may start programs
on this machine. The label is no secret, though: whoever may write such Jobs in a sandbox's cluster may run programs
as the user to whom the sandbox belongs.

The image is not looked at: `command` and `args` run as processes of this machine, with the environment that the
pod's spec gives and nothing of the sandbox's own. A volume is a folder, and where a mount's path stands in a
command or an environment, the folder stands instead. What cannot be run so is refused in the pod's status.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from cali_infra.sandbox.agents import pod_files
from cali_infra.sandbox.agents.pod_run import Command, Doors, PodRun, Status
from cali_infra.sandbox.agents.watcher import Watcher
from cali_infra.sandbox.kubernetes.pods import REFUSED, is_due, is_run
from cali_infra.sandbox.kubernetes.standin import KubernetesStandIn
from cali_infra.sandbox.pod_environment import Find, MissingError, NotModelledError, environment, expanded

Obj = Mapping[str, Any]
# What a process in a cluster finds beside what its pod says, such as a proxy that leads to the cluster's Services.
Network = Callable[[str], Mapping[str, str]]
_PATH = "/usr/local/bin:/usr/bin:/bin"
_PYTHONS = ("python", "python3")
# A path that means the same in a shell's script, in a program's text and in PATH.
_PLAIN = re.compile(r"[\w./+-]+")


def no_network(cluster: str) -> Mapping[str, str]:
    """Nothing beside what the pod says."""
    return {}


class Jobs:
    """The kubelet of those pods, in every cluster of a stand-in; `close` ends what runs.

    What they find lies in a folder of their own below `folder`, Secrets among it.
    """

    def __init__(
        self,
        clusters: KubernetesStandIn,
        folder: Path,
        now: Callable[[], datetime],
        network: Network = no_network,
        nanoseconds: Callable[[], int] = time.time_ns,
    ) -> None:
        self._clusters = clusters
        self._within = folder
        self._now = now
        self._network = network
        self._nanoseconds = nanoseconds
        self._lock = threading.Lock()
        self._closed = False
        self._base: tuple[Path, Watcher] | None = None
        self._runs: dict[tuple[str, str], PodRun] = {}
        self._claims: dict[tuple[str, str], Path] = {}

    def tick(self, cluster: str) -> None:
        """Start what is due, end what is gone; nothing is waited for."""
        with self._lock:
            if self._closed:
                return
            jobs = {
                (job["metadata"]["namespace"], job["metadata"]["name"]): job
                for job in self._clusters.objects(cluster, "jobs", "batch")
            }
            pods = {
                pod["metadata"]["uid"]: pod
                for pod in self._clusters.objects(cluster, "pods")
                if is_run(pod, lambda namespace, name: jobs.get((namespace, name)))
                and "deletionTimestamp" not in pod["metadata"]
            }
            for key in [key for key in self._runs if key[0] == cluster and key[1] not in pods]:
                self._end(key)
            for uid, pod in pods.items():
                if is_due(pod) and (cluster, uid) not in self._runs:
                    self._start(cluster, uid, pod)
            self._forget_claims(cluster)

    def forget(self, cluster: str) -> None:
        """A cluster is gone."""
        with self._lock:
            for key in [key for key in self._runs if key[0] == cluster]:
                self._end(key)
            for key in [key for key in self._claims if key[0] == cluster]:
                shutil.rmtree(self._claims.pop(key), ignore_errors=True)

    def close(self) -> None:
        """End whatever runs and take its folders away; nothing is started any more."""
        with self._lock:
            self._closed = True
            for key in list(self._runs):
                self._end(key)
            self._claims.clear()
            if self._base is not None:
                self._base[1].close()

    def _end(self, key: tuple[str, str]) -> None:
        self._runs.pop(key).kill()
        shutil.rmtree(self._folder("pods", key[1]), ignore_errors=True)

    def _forget_claims(self, cluster: str) -> None:
        if not any(key[0] == cluster for key in self._claims):
            return
        there = {claim["metadata"]["uid"] for claim in self._objects(cluster, "persistentvolumeclaims")}
        for key in [key for key in self._claims if key[0] == cluster and key[1] not in there]:
            shutil.rmtree(self._claims.pop(key), ignore_errors=True)

    def _start(self, cluster: str, uid: str, pod: Obj) -> None:
        folder = self._folder("pods", uid)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            commands = self._commands(cluster, pod, folder)
        except MissingError:
            # It went away a moment ago; the kubelet's part sees it, too, and says so.
            return
        except NotModelledError as error:
            message = f"the sandbox does not model {error}"
            self._clusters.write_status(cluster, "pods", dict(pod), partial(_refused, message=message))
            return
        meta = pod["metadata"]
        doors = Doors(
            log=partial(self._clusters.write_log, cluster, meta["namespace"], meta["name"]),
            status=partial(self._clusters.write_status, cluster, "pods", dict(pod)),
            now=self._now,
            nanoseconds=self._nanoseconds,
        )
        run = self._runs[cluster, uid] = PodRun(uid, commands, folder, doors, self._made()[1])
        run.start()

    def _commands(self, cluster: str, pod: Obj, folder: Path) -> list[Command]:
        spec = pod["spec"]
        if spec.get("initContainers"):
            raise NotModelledError("init containers")
        if spec.get("restartPolicy") != "Never":
            raise NotModelledError(f"restartPolicy {spec.get('restartPolicy')}")
        find = partial(self._find, cluster, pod["metadata"]["namespace"])
        claim = partial(self._claim, cluster, pod["metadata"]["namespace"])
        found = pod_files.volumes(pod, folder / "volumes", claim, find)
        return [self._command(cluster, pod, container, found, find) for container in spec["containers"]]

    def _command(
        self,
        cluster: str,
        pod: Obj,
        container: Obj,
        found: Mapping[str, Path],
        find: Find,
    ) -> Command:
        own = environment(container, find, pod)
        places = pod_files.mounts(container, found)
        words = [*(container.get("command") or ()), *(container.get("args") or ())]
        if not container.get("command"):
            raise NotModelledError(f"what the image {container['image']} runs by itself")
        argv = [places(expanded(word, own)) for word in words]
        if argv[0] in _PYTHONS:
            argv[0] = sys.executable
        environ = {
            "PATH": f"{self._programs()}:{_PATH}",
            **self._network(cluster),
            **{name: places(value) for name, value in own.items()},
        }
        return Command(container["name"], argv, environ)

    def _programs(self) -> Path:
        """A folder in which `python` is the one that runs here, for commands in a shell."""
        folder = self._folder("bin")
        if not folder.exists():
            folder.mkdir(parents=True)
            for name in _PYTHONS:
                # No link: an interpreter tells its packages by where it was started.
                (folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
                (folder / name).chmod(0o700)
        return folder

    def _claim(self, cluster: str, namespace: str, name: str) -> Path:
        found = self._find(cluster, namespace, "persistentvolumeclaims", name)
        if found is None:
            raise MissingError(name)
        uid = found["metadata"]["uid"]
        path = self._claims.setdefault((cluster, uid), self._folder("claims", uid))
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _find(self, cluster: str, namespace: str, plural: str, name: str) -> Obj | None:
        for obj in self._objects(cluster, plural):
            if (obj["metadata"].get("namespace"), obj["metadata"]["name"]) == (namespace, name):
                return obj
        return None

    def _objects(self, cluster: str, plural: str) -> list[dict[str, Any]]:
        return self._clusters.objects(cluster, plural)

    def _folder(self, *parts: str) -> Path:
        return self._made()[0].joinpath(*parts)

    def _made(self) -> tuple[Path, Watcher]:
        """The folder of all that runs, and who removes it when this process is killed."""
        if self._base is None:
            self._within.mkdir(mode=0o700, exist_ok=True)
            folders = [Path(tempfile.mkdtemp(prefix="jobs-", dir=self._within))]
            if not _PLAIN.fullmatch(str(folders[0])):
                # Mounts are named in scripts, whose words such a path would change: they see it through a link.
                folders.append(Path(tempfile.mkdtemp(prefix="cali-sandbox-")))
                (folders[1] / "jobs").symlink_to(folders[0])
                self._base = folders[1] / "jobs", Watcher(folders)
            else:
                self._base = folders[0], Watcher(folders)
        return self._base


def _refused(status: Status, message: str) -> Status:
    """The status of a pod whose containers the runtime cannot make."""
    waiting = {"waiting": {"reason": REFUSED, "message": message}}
    return {
        **status,
        "containerStatuses": [{**item, "state": waiting} for item in status.get("containerStatuses") or ()],
    }
