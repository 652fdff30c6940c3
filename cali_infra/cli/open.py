"""`cali open`: the services' pages, by ports of this machine that lead into the cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cali_infra.cli.context import Options
from cali_infra.errors import PreconditionError, UnreachableError, UsageError

if TYPE_CHECKING:
    from socket import socket

    from cali_infra.adapters.aws import Aws
    from cali_infra.adapters.kubernetes import Kubernetes
    from cali_infra.core.pod_targets import PodPort
    from cali_infra.core.service_doors import Door, Port
    from cali_infra.core.settings import Settings
    from cali_infra.core.target import Target

# For so many seconds one request to the API is tried again: a forward asks again by itself.
_PATIENCE = 5.0
# Seconds to connect, and between two bytes.
_TIMEOUT = (5.0, 15.0)


@dataclass(frozen=True)
class _Open:
    """One port of one service, and the socket on this machine that leads there."""

    door: Door
    port: Port
    listener: socket

    @property
    def local(self) -> int:
        number: int = self.listener.getsockname()[1]
        return number

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.local}{self.port.path or ''}"


@dataclass(frozen=True)
class _Page:
    """What is said of one service."""

    name: str
    url: str
    user: str | None
    password: str
    opened: tuple[_Open, ...] = ()
    pod: str | None = None


def open(  # noqa: A001 - the command's own name
    ctx: typer.Context,
    services: Annotated[
        list[str], typer.Argument(help="grafana, airflow, milvus or opensearch; several at once.")
    ],
    port: Annotated[
        int | None,
        typer.Option(
            help="The port on this machine, for one service.",
            min=1,
            max=65535,
            show_default="3000, 8080, 19530 or the next that is free",
        ),
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page as well.")] = True,
) -> None:
    """Reach Grafana, Airflow, Milvus or OpenSearch Dashboards from this machine, until Ctrl-C."""
    from cali_infra.adapters.aws import Aws
    from cali_infra.cli.context import open_target
    from cali_infra.core import cluster_access
    from cali_infra.core.redaction import redactor
    from cali_infra.core.service_doors import DOORS, OPENSEARCH
    from cali_infra.core.settings import load_settings

    options: Options = ctx.obj
    names = _known(services)
    doors = [DOORS[name] for name in names if name in DOORS]
    if port is not None and len(names) > 1:
        raise UsageError("--port is for one service", remedy="leave it out, or open one service at a time")
    if port is not None and not doors:
        raise UsageError(f"{OPENSEARCH} has an address of its own", remedy="leave --port out")
    settings = load_settings(options.project, options.environ, options.environment)
    with ExitStack() as sockets:
        opened = _listen(sockets, doors, port)
        target = open_target(options, settings.environment)
        options.ui.hide(redactor(None, target.environ))
        aws = Aws(settings.region, target.environ, None if target.rehearsal else settings.profile)
        page = _dashboards(options, target, settings, aws) if OPENSEARCH in names else None

        def show(pods: Sequence[PodPort]) -> None:
            pages = {door.name: _page(options, door, opened, pods) for door in doors}
            if page is not None:
                pages[OPENSEARCH] = page
            _show(options, [pages[name] for name in names], browse=browser)

        if not doors:
            show(())
            return
        kubernetes = cluster_access.connect(target, settings, aws, patience=_PATIENCE, timeout=_TIMEOUT)
        try:
            asyncio.run(_serve(options, kubernetes, opened, show))
        except PreconditionError as error:
            raise _not_there(error, settings, doors) from error
        except UnreachableError as error:
            if target.kubeconfig is None:
                error.remedy = cluster_access.way_in(cluster_access.find(aws, settings.cluster_name))
            raise
        finally:
            kubernetes.close()


def _known(names: Sequence[str]) -> list[str]:
    from difflib import get_close_matches

    from cali_infra.core.service_doors import NAMES

    for name in names:
        if name not in NAMES:
            near = get_close_matches(name, NAMES, n=1)
            raise UsageError(
                f"there is no service {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
                remedy=f"cali open {'|'.join(NAMES)}",
            )
    return list(dict.fromkeys(names))


def _listen(sockets: ExitStack, doors: Sequence[Door], port: int | None) -> list[_Open]:
    from cali_infra.core.forwarding import listen

    opened = []
    for door in doors:
        for index, one in enumerate(door.ports):
            exactly = port if index == 0 else None
            listener = sockets.enter_context(listen(exactly or one.local, exactly=exactly is not None))
            opened.append(_Open(door, one, listener))
    return opened


def _dashboards(options: Options, target: Target, settings: Settings, aws: Aws) -> _Page:
    from cali_infra.core import domain_access, secrets
    from cali_infra.core.service_doors import DASHBOARDS, OPENSEARCH, password_place

    url = f"https://{domain_access.find(aws, settings.domain_name)}{DASHBOARDS}"
    if target.rehearsal:
        options.ui.warn("the sandbox's OpenSearch answers to programs only: it has no Dashboards to show")
    setting = "opensearch.master_password"
    if (options.project / secrets.FILE).is_file():
        user, password = (
            settings.search.master_username,
            password_place(setting, options.project, options.environ),
        )
    else:
        # A teammate has a user of his own there.
        user, password = None, "handed over with your access; ask whoever runs the platform"
    return _Page(OPENSEARCH, url, user, password)


def _page(options: Options, door: Door, opened: Sequence[_Open], pods: Sequence[PodPort]) -> _Page:
    from cali_infra.core.service_doors import password_place

    own = tuple(one for one in opened if one.door is door)
    first = next(one for one in own if one.port.path is not None)
    return _Page(
        door.name,
        first.url,
        door.user,
        password_place(door.setting, options.project, options.environ),
        own,
        pods[opened.index(own[0])].pod,
    )


async def _serve(
    options: Options,
    kubernetes: Kubernetes,
    opened: Sequence[_Open],
    show: Callable[[Sequence[PodPort]], None],
) -> None:
    from cali_infra.adapters.pod_ports import PodPorts
    from cali_infra.cli.interrupts import stopping
    from cali_infra.core import forwarding, pod_targets

    def find(one: _Open, before: PodPort | None) -> PodPort:
        return pod_targets.find(kubernetes, one.door.namespace, one.door.service, one.port.number, before)

    def tell(text: str, bad: bool) -> None:
        (options.ui.warn if bad else options.ui.info)(text)

    ports, stop = PodPorts(kubernetes), asyncio.Event()
    forwards = [
        forwarding.Forward(one.door.name, one.listener, partial(find, one), ports, tell) for one in opened
    ]
    try:
        with stopping(stop):
            await forwarding.serve(forwards, show, stop)
    finally:
        await ports.close()
    options.ui.info("closed")


def _not_there(error: PreconditionError, settings: Settings, doors: Sequence[Door]) -> PreconditionError:
    """The same error, with what to do about it here."""
    off = [door.name for door in doors if not getattr(settings.services, door.name)]
    if off:
        error.remedy = (
            f"it is switched off by services.{off[0]} in cali.yaml: switch it on, then run: cali up"
        )
    return error


def _show(options: Options, pages: Sequence[_Page], *, browse: bool) -> None:
    if options.json_output:
        options.ui.json({"ok": True, "services": [_document(page) for page in pages]})
    else:
        options.ui.table(("SERVICE", "ADDRESS", "USER", "PASSWORD"), _rows(pages))
    if browse:
        for page in pages:
            options.ui.browse(page.url)
    if any(page.opened for page in pages):
        options.ui.info("Ctrl-C ends it")


def _rows(pages: Sequence[_Page]) -> Iterator[tuple[str, str, str, str]]:
    for page in pages:
        user = page.user or "your own"
        if not page.opened:
            yield page.name, page.url, user, page.password
        for index, one in enumerate(page.opened):
            words = f"{one.url} ({one.port.words})" if one.port.words else one.url
            yield (page.name, words, user, page.password) if index == 0 else ("", words, "", "")


def _document(page: _Page) -> dict[str, Any]:
    return {
        "name": page.name,
        "url": page.url,
        "user": page.user,
        "password_in": page.password,
        "pod": page.pod,
        "ports": [{"port": one.port.number, "local_port": one.local, "url": one.url} for one in page.opened],
    }
