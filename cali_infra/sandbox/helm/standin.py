"""The gRPC server that Terraform speaks to instead of starting the provider `hashicorp/helm`.

Plugin protocol 6 as Terraform 1.11 uses it, handed over by `TF_REATTACH_PROVIDERS`. One server serves every
Terraform on this machine at once, and each of them configures the provider for a cluster of its own. They
are told apart by the connection: Terraform opens a new one for every instance of a provider and configures
the instance on it, so a configuration belongs to the connection that it came by and ends with it.

The messages are those of `tfplugin-proto-all`, protocol 6.5. What 6.8 adds and Terraform asks of this
provider is one field, `write_only`, which is written by its number.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import grpc
from tfplugin_proto import tfplugin6_5_pb2 as pb

from cali_infra.sandbox.helm import codec, provider, schema
from cali_infra.sandbox.helm.cluster import Credentials
from cali_infra.sandbox.helm.door import Door
from cali_infra.sandbox.helm.provider import HelmProvider, Problem, ProblemError, State
from cali_infra.sandbox.helm.releases import Mishaps

SOURCE = "registry.terraform.io/hashicorp/helm"
WORKERS = 16
# `Schema.Attribute.write_only`, field 11 of protocol 6.8: a varint 1 behind its tag.
_WRITE_ONLY = bytes([11 << 3, 1])


class HelmStandIn:
    """The stand-in as a server on a private Unix socket.

    `environ` is the whole environment of the credential commands that provider blocks name; `mishaps` is what goes
    wrong, where a test wants something to. `changed` is called when a release has been installed, changed or taken
    away, and the call of Terraform waits for it, as it does for Helm's `wait`.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        clock: Callable[[], datetime],
        mishaps: Mishaps | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._mishaps = mishaps
        self._changed = changed
        self._credentials = Credentials(environ, clock)
        self._clock = clock
        self._configured: dict[str, HelmProvider] = {}
        self._guard = threading.Lock()
        self._door: Door | None = None
        self._server: grpc.Server | None = None

    def start(self) -> str:
        """Serve, and return the JSON for `TF_REATTACH_PROVIDERS`."""
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        server = grpc.server(ThreadPoolExecutor(WORKERS, thread_name_prefix="helm"), options=options)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("tfplugin6.Provider", self._handlers()),)
        )
        self._door = Door(self._forget)
        server.add_insecure_port(self._door.server_address)
        server.start()
        self._server = server
        address = {"Network": "unix", "String": self._door.open()}
        reattach = {
            "Protocol": "grpc",
            "ProtocolVersion": 6,
            "Pid": os.getpid(),
            "Test": True,
            "Addr": address,
        }
        return json.dumps({SOURCE: reattach}, separators=(",", ":"))

    def stop(self, grace: float = 0.5) -> None:
        """End the server and every credential command; calls under way get `grace` seconds."""
        self._credentials.close()
        if self._door is not None:
            self._door.close()
            self._door = None
        if self._server is not None:
            self._server.stop(grace).wait(grace + 1.0)
            self._server = None

    # -- the calls of the protocol --------------------------------------------------------------------

    def _handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        described = _schemas()

        def schemas(request: Any, context: grpc.ServicerContext) -> Any:
            return described

        calls: dict[str, Callable[[Any, grpc.ServicerContext], Any]] = {
            "GetMetadata": self._metadata,
            "GetProviderSchema": schemas,
            "GetFunctions": lambda request, context: pb.GetFunctions.Response(),
            "ValidateProviderConfig": self._validate_provider,
            "ValidateResourceConfig": self._validate_resource,
            "ValidateDataResourceConfig": self._validate_data,
            "UpgradeResourceState": self._upgrade_state,
            "ConfigureProvider": self._configure,
            "ReadResource": self._read,
            "PlanResourceChange": self._plan,
            "ApplyResourceChange": self._apply,
            "ImportResourceState": self._import,
            "ReadDataSource": self._read_data,
            "StopProvider": lambda request, context: pb.StopProvider.Response(),
        }
        return {
            name: grpc.unary_unary_rpc_method_handler(
                call,
                request_deserializer=getattr(pb, name).Request.FromString,
                response_serializer=getattr(pb, name).Response.SerializeToString,
            )
            for name, call in calls.items()
        }

    def _metadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        return pb.GetMetadata.Response(
            server_capabilities=_capabilities(),
            resources=[pb.GetMetadata.ResourceMetadata(type_name=schema.RELEASE)],
            data_sources=[pb.GetMetadata.DataSourceMetadata(type_name=schema.TEMPLATE)],
        )

    def _validate_provider(self, request: Any, context: grpc.ServicerContext) -> Any:
        problems = provider.validate_provider(_object(request.config))
        return pb.ValidateProviderConfig.Response(diagnostics=_diagnostics(problems))

    def _validate_resource(self, request: Any, context: grpc.ServicerContext) -> Any:
        problems = provider.validate_release(_object(request.config))
        return pb.ValidateResourceConfig.Response(diagnostics=_diagnostics(problems))

    def _validate_data(self, request: Any, context: grpc.ServicerContext) -> Any:
        return pb.ValidateDataResourceConfig.Response(diagnostics=_diagnostics([_NO_TEMPLATE]))

    def _read_data(self, request: Any, context: grpc.ServicerContext) -> Any:
        return pb.ReadDataSource.Response(diagnostics=_diagnostics([_NO_TEMPLATE]))

    def _configure(self, request: Any, context: grpc.ServicerContext) -> Any:
        config = _object(request.config)
        if problems := provider.refused_configuration(config):
            return pb.ConfigureProvider.Response(diagnostics=_diagnostics(problems))
        with self._guard:
            self._configured[context.peer()] = HelmProvider(
                config, self._credentials, self._clock, self._mishaps, self._changed
            )
        return pb.ConfigureProvider.Response()

    def _upgrade_state(self, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            state = provider.upgraded_state(request.version, json.loads(request.raw_state.json))
        except ProblemError as error:
            return pb.UpgradeResourceState.Response(diagnostics=_diagnostics([error.problem]))
        return pb.UpgradeResourceState.Response(upgraded_state=_dynamic(state))

    def _read(self, request: Any, context: grpc.ServicerContext) -> Any:
        state = _object(request.current_state)
        try:
            found = self._provider(context).read(state)
        except ProblemError as error:
            return pb.ReadResource.Response(
                new_state=request.current_state,
                private=request.private,
                diagnostics=_diagnostics([error.problem]),
            )
        return pb.ReadResource.Response(new_state=_dynamic(found), private=request.private)

    def _plan(self, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            planned = self._provider(context).plan(
                _decode(request.prior_state), _decode(request.proposed_new_state), _object(request.config)
            )
        except ProblemError as error:
            return pb.PlanResourceChange.Response(
                planned_state=request.prior_state,
                planned_private=request.prior_private,
                diagnostics=_diagnostics([error.problem]),
            )
        return pb.PlanResourceChange.Response(
            planned_state=_dynamic(planned.state),
            requires_replace=[_path([name]) for name in planned.replaces],
            planned_private=request.prior_private,
        )

    def _apply(self, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            state = self._provider(context).apply(
                _decode(request.prior_state), _decode(request.planned_state), _object(request.config)
            )
        except ProblemError as error:
            return pb.ApplyResourceChange.Response(
                new_state=request.prior_state if error.state is None else _dynamic(error.state),
                private=request.planned_private,
                diagnostics=_diagnostics([error.problem]),
            )
        return pb.ApplyResourceChange.Response(new_state=_dynamic(state), private=request.planned_private)

    def _import(self, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            state = self._provider(context).imported(request.id)
        except ProblemError as error:
            return pb.ImportResourceState.Response(diagnostics=_diagnostics([error.problem]))
        resource = pb.ImportResourceState.ImportedResource(type_name=schema.RELEASE, state=_dynamic(state))
        return pb.ImportResourceState.Response(imported_resources=[resource])

    def _forget(self, peer: str) -> None:
        with self._guard:
            self._configured.pop(peer, None)

    def _provider(self, context: grpc.ServicerContext) -> HelmProvider:
        with self._guard:
            configured = self._configured.get(context.peer())
        if configured is None:
            raise ProblemError(
                Problem("Provider not configured", "this connection has not configured the Helm provider")
            )
        return configured


_NO_TEMPLATE = Problem(
    "Not modelled by the sandbox",
    "cali's stand-in for the Helm provider renders no charts, so it refuses the data source helm_template",
)


def _capabilities() -> Any:
    return pb.ServerCapabilities(plan_destroy=True, get_provider_schema_optional=True)


def _schemas() -> Any:
    return pb.GetProviderSchema.Response(
        provider=_schema(schema.PROVIDER, 0),
        resource_schemas={schema.RELEASE: _schema(schema.RELEASE_ATTRIBUTES, schema.RELEASE_VERSION)},
        data_source_schemas={schema.TEMPLATE: _schema(schema.TEMPLATE_ATTRIBUTES, 0)},
        server_capabilities=_capabilities(),
    )


def _schema(attributes: Mapping[str, schema.Attribute], version: int) -> Any:
    return pb.Schema(
        version=version, block=pb.Schema.Block(version=version, attributes=_attributes(attributes))
    )


def _attributes(attributes: Mapping[str, schema.Attribute]) -> list[Any]:
    return [_attribute(name, attribute) for name, attribute in sorted(attributes.items())]


def _attribute(name: str, attribute: schema.Attribute) -> Any:
    message = pb.Schema.Attribute(
        name=name,
        required=attribute.required,
        optional=attribute.optional,
        computed=attribute.computed,
        sensitive=attribute.sensitive,
    )
    if attribute.nesting is None:
        message.type = json.dumps(attribute.type).encode()
    else:
        nested = pb.Schema.Object(
            attributes=_attributes(attribute.attributes), nesting=attribute.nesting.upper()
        )
        message.nested_type.CopyFrom(nested)
    if attribute.write_only:
        message.MergeFromString(_WRITE_ONLY)
    return message


def _decode(value: Any) -> Any:
    """A DynamicValue, which Terraform sends as msgpack."""
    return codec.decode(value.msgpack) if value.msgpack or not value.json else json.loads(value.json)


def _object(value: Any) -> State:
    decoded = _decode(value)
    return decoded if isinstance(decoded, dict) else {}


def _dynamic(state: State | None) -> Any:
    return pb.DynamicValue(msgpack=codec.encode(state))


def _diagnostics(problems: Iterable[Problem]) -> list[Any]:
    return [
        pb.Diagnostic(
            severity=pb.Diagnostic.ERROR,
            summary=problem.summary,
            detail=problem.detail,
            attribute=_path(problem.path) if problem.path else None,
        )
        for problem in problems
    ]


def _path(path: Iterable[str | int]) -> Any:
    return pb.AttributePath(
        steps=[
            pb.AttributePath.Step(element_key_int=step)
            if isinstance(step, int)
            else pb.AttributePath.Step(attribute_name=step)
            for step in path
        ]
    )
