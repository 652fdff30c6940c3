"""A service's door held open for the time of a block: what has to be asked over HTTP from here.

`forwarding.py` does the work, in an event loop and a thread of its own, so that the caller needs neither.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from cali_infra.core import forwarding, pod_targets

if TYPE_CHECKING:
    from cali_infra.adapters.kubernetes import Kubernetes
    from cali_infra.core.pod_targets import PodPort
    from cali_infra.core.service_doors import Door

# For so many seconds a connection waits for a pod that takes it.
_PATIENCE = 5.0
# Seconds that the thread may take to put everything down; what it holds ends with the process at the latest.
_FAREWELL = 5.0


@contextmanager
def reach(kubernetes: Kubernetes, door: Door) -> Iterator[str]:
    """Have a port of this machine lead to the first port of a service, and give the base URL,
    `http://127.0.0.1:PORT`.

    Raises PreconditionError where the cluster has no such Service, and KubernetesError, with the pods' own reasons,
    where nobody answers.
    """
    find = partial(_find, kubernetes, door, door.ports[0].number)
    with forwarding.listen(0, exactly=True) as listener:
        local = int(listener.getsockname()[1])
        open_, closed = Future[Callable[[], object]](), threading.Event()

        async def run() -> None:
            from cali_infra.adapters.pod_ports import PodPorts

            loop, stop = asyncio.get_running_loop(), asyncio.Event()
            ports = PodPorts(kubernetes)
            forward = forwarding.Forward(
                door.name, listener, find, ports, _say_nothing, forwarding.Timing(patience=_PATIENCE)
            )
            try:
                await forwarding.serve(
                    [forward],
                    lambda pods: open_.set_result(partial(loop.call_soon_threadsafe, stop.set)),
                    stop,
                )
            finally:
                await ports.close()

        def work() -> None:
            try:
                asyncio.run(run())
            except BaseException as error:
                if not open_.done():
                    open_.set_exception(error)
            finally:
                closed.set()

        threading.Thread(target=work, name=f"door of {door.name}", daemon=True).start()
        stop = open_.result()
        try:
            yield f"http://{forwarding.HOST}:{local}"
        finally:
            # The loop may have ended by itself.
            with suppress(RuntimeError):
                stop()
            closed.wait(_FAREWELL)


def _find(kubernetes: Kubernetes, door: Door, port: int, before: PodPort | None) -> PodPort:
    return pod_targets.find(kubernetes, door.namespace, door.service, port, before)


def _say_nothing(text: str, bad: bool) -> None:
    """Whoever asks through the door sees in the answer what has become of it."""
