"""`cali logs`: the platform's logs, from OpenSearch."""

from __future__ import annotations

import json
import re
import signal
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cali_infra.cli.context import Options
from cali_infra.errors import OpenSearchError, UsageError

if TYPE_CHECKING:
    from pydantic import SecretStr

    from cali_infra.core.logs import Line, LogSearch
    from cali_infra.core.secrets import Secrets
    from cali_infra.core.settings import Settings

# Seconds for which one look is tried again: the next one comes by itself.
_PATIENCE_FOLLOWING = 10.0
_VARIABLE = "CALI_OPENSEARCH__READER_PASSWORD"
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
# Of a terminal's own colours those that are read on light and on dark.
_COLOURS = ("cyan", "green", "yellow", "blue", "magenta", "bright_cyan", "bright_green", "bright_magenta")


def logs(
    ctx: typer.Context,
    since: Annotated[
        str, typer.Option(help="From so long ago on, or from a time on.", metavar="DURATION|TIME")
    ] = "15m",
    until: Annotated[
        str | None, typer.Option(help="Up to so long ago, or up to a time.", metavar="DURATION|TIME")
    ] = None,
    namespace: Annotated[
        list[str] | None, typer.Option(help="Only this namespace; may be repeated.", metavar="NS")
    ] = None,
    pod: Annotated[
        list[str] | None,
        typer.Option(help="Only pods whose name begins so; may be repeated.", metavar="NAME"),
    ] = None,
    container: Annotated[
        list[str] | None, typer.Option(help="Only this container; may be repeated.", metavar="NAME")
    ] = None,
    grep: Annotated[
        str | None,
        typer.Option(help="Only lines with this word or phrase, in any case.", metavar="TEXT"),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")
    ] = False,
    limit: Annotated[int, typer.Option(help="The newest lines, so many at most.", min=1, max=100_000)] = 1000,
    utc: Annotated[bool, typer.Option("--utc", help="Times in UTC instead of this machine's zone.")] = False,
    user: Annotated[
        str | None, typer.Option(help="Your user of the domain.", show_default="cali-reader")
    ] = None,
) -> None:
    """Search the platform's logs in OpenSearch, and follow them."""
    from cali_infra.adapters.aws import Aws
    from cali_infra.adapters.opensearch import PATIENCE, OpenSearch
    from cali_infra.cli.context import open_target
    from cali_infra.core import domain_access
    from cali_infra.core.logs import LogSearch, Wanted, check_phrase
    from cali_infra.core.redaction import redactor
    from cali_infra.core.secrets import FILE, load_secrets
    from cali_infra.core.settings import load_settings

    options: Options = ctx.obj
    if follow and options.json_output:
        raise UsageError(
            "--follow has no end, and --output json is one document",
            remedy="leave one of them out; a program can ask again and again with --since",
        )
    if follow and until is not None:
        raise UsageError("--follow has no end, and --until is one", remedy="leave one of them out")
    wanted = Wanted(
        tuple(_named(namespace, "--namespace")),
        tuple(_named(pod, "--pod")),
        tuple(_named(container, "--container")),
        None if grep is None else check_phrase(grep, "--grep"),
    )
    start, end = _span(since, until, utc)
    settings = load_settings(options.project, options.environ, options.environment)
    secrets = None
    if (options.project / FILE).is_file() and not options.environ.get(_VARIABLE):
        secrets = load_secrets(options.project, options.environ)
    given = _given(options, user, secrets)
    target = open_target(options, settings.environment)
    options.ui.hide(redactor(secrets, target.environ))
    aws = Aws(settings.region, target.environ, None if target.rehearsal else settings.profile)
    endpoint = domain_access.find(aws, settings.domain_name)
    name, password = given or _asked(options, user)
    options.ui.hide(redactor([secrets, password], target.environ))
    patience = _PATIENCE_FOLLOWING if follow else PATIENCE
    domain = OpenSearch(endpoint, name, password, target.search_ca, patience=patience)
    search = LogSearch(domain, f"{settings.logging.index_prefix}-*", wanted, options.ui.warn)
    try:
        if follow:
            _follow(options, search, settings, start, limit, utc=utc)
        else:
            _once(options, search, settings, start, end, limit, utc=utc)
    except OpenSearchError as error:
        raise _explained(error, name, options) from error


# -- what was asked for -----------------------------------------------------------------------------------------


def _named(names: list[str] | None, option: str) -> Iterator[str]:
    for name in names or ():
        if not _NAME.fullmatch(name.removesuffix("-") if option == "--pod" else name):
            raise UsageError(
                f"{option}: {name!r} is no name that Kubernetes gives",
                remedy=f"it has lower-case letters, digits, dots and hyphens: {option} airflow",
            )
        yield name


def _span(since: str, until: str | None, utc: bool) -> tuple[int, int | None]:
    """The two times in milliseconds since 1970."""
    now = datetime.now(UTC)
    start, end = (
        _moment(since, "--since", now, utc),
        None if until is None else _moment(until, "--until", now, utc),
    )
    if end is not None and end <= start:
        raise UsageError(
            "--until is not after --since", remedy="--since 2h --until 1h: from two hours ago to one"
        )
    return start, end


def _moment(text: str, option: str, now: datetime, utc: bool) -> int:
    from cali_infra.core import durations

    if re.match(r"\d{4}-\d\d", text):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise UsageError(
                f"{option}: {text!r} is no time", remedy=f"write it so: {option} 2026-03-01T09:00"
            ) from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC) if utc else moment.astimezone()
    else:
        moment = now - durations.parse(text, option)
    return int(moment.timestamp() * 1000)


def _given(options: Options, user: str | None, secrets: Secrets | None) -> tuple[str, SecretStr] | None:
    """The user and the password from the environment or from secrets.yaml; None where somebody can be asked."""
    from pydantic import SecretStr

    from cali_infra.core.index import READER

    if given := options.environ.get(_VARIABLE):
        return user or READER, SecretStr(given)
    if secrets is not None and user in (None, READER):
        return READER, secrets.opensearch.reader_password
    if not options.ui.interactive:
        raise UsageError(
            f"there is no password for {user or 'the OpenSearch domain'}, and no terminal to ask for it",
            remedy=f"put it into {_VARIABLE}, with --user NAME for a user of your own",
        )
    return None


def _asked(options: Options, user: str | None) -> tuple[str, SecretStr]:
    from pydantic import SecretStr

    if user is None:
        options.ui.info("your user of the OpenSearch domain was handed over with your access")
        user = options.ui.prompt("User")
    password = options.ui.secret(f"Password of {user}") if user else ""
    if not password:
        raise UsageError("without a user and a password the domain lets nobody in", remedy="run it again")
    return user, SecretStr(password)


def _explained(error: OpenSearchError, user: str, options: Options) -> OpenSearchError:
    """The same error, with what to do about it here."""
    from cali_infra.core.index import READER

    if error.status == 401 and user == READER:
        error.remedy = (
            f"opensearch.reader_password of secrets.yaml, or {_VARIABLE}, is not what the domain has: put the "
            "right one there, or give the domain this one: cali up index"
        )
    elif error.status == 401:
        error.remedy = (
            "check the user (--user) and type the password again; who has forgotten it needs a new one"
        )
    elif error.status == 403:
        error.remedy = (
            "check that your address is in allowed_cidrs of cali.yaml (then run `cali up search`), and that "
            f"{user} may read the logs' indices (`cali up index` gives {READER} that right)"
        )
    return error


# -- what is shown ----------------------------------------------------------------------------------------------


def _once(
    options: Options,
    search: LogSearch,
    settings: Settings,
    start: int,
    end: int | None,
    limit: int,
    *,
    utc: bool,
) -> None:
    found = search.newest(start, end, limit)
    pattern = f"{settings.logging.index_prefix}-*"
    if options.json_output:
        options.ui.json(
            {
                "ok": True,
                "index": pattern,
                "since": _stamp(start),
                "until": None if end is None else _stamp(end),
                "more": found.more,
                "lines": [_document(line) for line in found.lines],
            }
        )
    _print(options, found.lines, utc=utc)
    if not found.indices:
        options.ui.warn(f"there is no index {pattern} yet: nothing was ever logged (cali up logging)")
    elif not found.lines:
        options.ui.info("no line fits")
    elif found.more:
        options.ui.warn(f"these are the newest {len(found.lines)} lines; --limit shows more of them")


def _follow(
    options: Options, search: LogSearch, settings: Settings, start: int, limit: int, *, utc: bool
) -> None:
    from cali_infra.core.logs import Follower

    def tell(text: str, bad: bool) -> None:
        (options.ui.warn if bad else options.ui.info)(text)

    follower = Follower(search, start, lambda: int(time.time() * 1000))
    found = follower.start(limit)
    if not found.indices:
        options.ui.warn(
            f"there is no index {settings.logging.index_prefix}-* yet: nothing was ever logged (cali up logging)"
        )
    if found.more:
        options.ui.warn(f"these are the newest {len(found.lines)} lines; --limit shows more of them")
    _print(options, found.lines, utc=utc)
    options.ui.info("lines show some 20 seconds after they are written; Ctrl-C ends it")
    with _ends_with_ctrl_c():
        for lines in follower.follow(time.sleep, tell):
            _print(options, lines, utc=utc)


@contextmanager
def _ends_with_ctrl_c() -> Iterator[None]:
    """Ctrl-C and SIGTERM are the ordinary end of the block, whatever it is doing."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)


def _print(options: Options, lines: Iterable[Line], *, utc: bool) -> None:
    if options.json_output:
        return
    for line in lines:
        where = f"{line.namespace}/{line.pod}"
        parts = [
            (_time(line, utc=utc), "dim"),
            (" ", ""),
            (where, _COLOURS[zlib.crc32(where.encode()) % len(_COLOURS)]),
            (f" {line.container}", "dim"),
        ]
        if line.text:
            parts.append((f" {line.text}", ""))
        if line.rest:
            parts.append((f" {json.dumps(line.rest, ensure_ascii=False)}", "dim" if line.text else ""))
        options.ui.record(parts)


def _time(line: Line, *, utc: bool) -> str:
    moment = line.moment if utc else line.moment.astimezone()
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _stamp(milliseconds: int) -> str:
    return (
        datetime.fromtimestamp(milliseconds / 1000, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )


def _document(line: Line) -> dict[str, Any]:
    return {
        "time": line.moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "namespace": line.namespace,
        "pod": line.pod,
        "container": line.container,
        "text": line.text,
        "record": line.record,
    }
