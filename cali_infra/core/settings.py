"""`cali.yaml`: names, region, sizes, versions, which services are on, where the state is.

It owns the keys, their defaults and what they may hold. How a mistake is told stands in
`settings_files.py`, the passwords in `secrets.py`. The names of the attributes are what the rest of cali
and the rendered variables rely on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, collapse_addresses
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from cali_infra.core import service_pods, settings_files
from cali_infra.core.settings_files import File, Section
from cali_infra.errors import PreconditionError, SettingsError, SettingsProblem

FILE = "cali.yaml"

# Source: CreateDomain of the OpenSearch service; EKS allows 100 characters.
_OWN_TAGS = frozenset({"project", "environment", "managed-by", "stack"})
_LONGEST_DOMAIN_NAME = 28
# Source: the values that PutRetentionPolicy of CloudWatch Logs accepts.
_LOG_RETENTION = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731),
    *(1096, 1827, 2192, 2557, 2922, 3288, 3653),
)
# Source: from app 1.32 on, a chart below this one installs an autoscaler that is Ready and never scales.
_FIRST_CHART_FOR_APP_1_32 = (9, 47, 0)


def _shape(pattern: str, words: str) -> Callable[[str], str]:
    compiled = re.compile(pattern, re.ASCII)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(f"{value!r} is not {words}")
        return value

    return check


def _network(value: str) -> str:
    try:
        return str(IPv4Network(value)) if "/" in value else _no_prefix(value)
    except ValueError as error:
        if "host bits" in str(error):
            raise ValueError(
                f"{value!r} has bits set after the prefix; the network is {IPv4Network(value, strict=False)}"
            ) from None
        if isinstance(error, _PlainAddressError):
            raise ValueError(str(error)) from None
        raise ValueError(f"{value!r} is not an IPv4 network in CIDR form") from None


class _PlainAddressError(ValueError):
    pass


def _no_prefix(value: str) -> str:
    IPv4Network(value)
    raise _PlainAddressError(f"{value!r} lacks its prefix; one single address is {value}/32")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.split(r"[-+]", version)[0].split("."))


def _between(first: str, end: str, why: str) -> AfterValidator:
    """A version from `first` on and before `end`; outside it would not go with `why`."""

    def check(value: str) -> str:
        if not _numbers(first) <= _numbers(value) < _numbers(end):
            raise ValueError(f"{value} does not go with {why}: it takes {first} or newer, below {end}")
        return value

    return AfterValidator(check)


Cidr = Annotated[str, AfterValidator(_network)]
Region = Annotated[
    str,
    AfterValidator(
        _shape(r"[a-z]{2,4}(-[a-z]+)+-\d{1,2}", "the name of an AWS region, such as ap-northeast-2")
    ),
]
Duration = Annotated[
    str,
    AfterValidator(_shape(r"(\d+[hms])+", "a duration in hours, minutes and seconds, such as 90m or 1h30m")),
]
Version = Annotated[
    str,
    AfterValidator(
        _shape(r"\d+\.\d+\.\d+([-+][0-9A-Za-z.+-]+)?", "a version of three numbers, such as 9.59.0")
    ),
]
InstanceType = Annotated[
    str,
    AfterValidator(_shape(r"[a-z0-9-]+\.[a-z0-9-]+", "the name of an EC2 instance type, such as m6i.xlarge")),
]
# A part of a processor that Kubernetes can count, and memory in its binary units.
Cpu = Annotated[
    str,
    # Whole ones are numbers in YAML.
    BeforeValidator(lambda value: str(value) if type(value) is int else value),
    AfterValidator(_shape(r"[1-9]\d{0,4}m|[1-9]\d{0,2}", "processors, such as 500m or 2")),
]
Memory = Annotated[
    str, AfterValidator(_shape(r"[1-9]\d{0,6}(Mi|Gi)", "memory with its unit, such as 512Mi or 2Gi"))
]
_BUCKET = AfterValidator(
    _shape(
        r"(?!\d+\.\d+\.\d+\.\d+$)(?!xn--)[a-z0-9](?!.*\.\.)[a-z0-9.-]{1,61}[a-z0-9]",
        "a bucket's name: 3 to 63 lower-case letters, digits, dots and hyphens",
    )
)
LogType = Literal["api", "audit", "authenticator", "controllerManager", "scheduler"]


class State(Section):
    """Where Terraform keeps what it knows."""

    backend: Literal["local", "s3"] = Field(
        "local",
        description="local: in the workspace on this machine; s3: in a bucket that a team shares",
        examples=["s3"],
    )
    region: Region | None = Field(
        None, description="The bucket's region; empty: the platform's own region", examples=["ap-northeast-2"]
    )
    prefix: Annotated[
        str,
        AfterValidator(
            _shape(r"[A-Za-z0-9!_.'()-]+(/[A-Za-z0-9!_.'()-]+)*", "a folder name inside a bucket")
        ),
    ] = Field("cali", description="The folder inside the bucket", examples=["cali"])
    kms_key_id: str | None = Field(
        None,
        description="The KMS key that encrypts the state; empty: the bucket's own encryption",
        examples=["alias/terraform-state"],
    )
    bucket: Annotated[str, _BUCKET] | None = Field(
        None, description="The bucket's name; needed when backend is s3", examples=["acme-terraform-state"]
    )

    @field_validator("bucket")
    @classmethod
    def _needed_for_s3(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("backend") == "s3":
            raise ValueError("is missing, and backend s3 needs it")
        return value


class Network(Section):
    """The VPC over three availability zones."""

    cidr: Cidr = Field(
        "10.40.0.0/16", description="The VPC's addresses, between a /16 and a /20", examples=["10.40.0.0/16"]
    )
    nat_per_zone: bool = Field(
        False,
        description="One NAT gateway in each zone instead of one for all: survives a zone, costs three times",
        examples=[True],
    )

    @field_validator("cidr")
    @classmethod
    def _room_for_three_zones(cls, value: str) -> str:
        if not 16 <= IPv4Network(value).prefixlen <= 20:
            raise ValueError(
                f"{value!r} is a /{IPv4Network(value).prefixlen}; subnets in three zones need a /20 or "
                "larger, and a VPC is a /16 at most"
            )
        return value


class Eks(Section):
    """The EKS cluster and its node group."""

    version: Annotated[str, AfterValidator(_shape(r"1\.[1-9]\d", "a Kubernetes version, such as 1.35"))] = (
        Field("1.35", description="Kubernetes version of the cluster", examples=["1.35"])
    )
    instance_types: Annotated[list[InstanceType], Field(min_length=1, max_length=20)] = Field(
        ["m6i.xlarge"],
        description="Instance types of the nodes, in order of preference",
        examples=[["m6i.xlarge"]],
    )
    capacity_type: Literal["ON_DEMAND", "SPOT"] = Field(
        "ON_DEMAND", description="ON_DEMAND or SPOT", examples=["ON_DEMAND"]
    )
    min_nodes: Annotated[int, Field(ge=1, le=450)] = Field(
        2, description="The autoscaler keeps at least this many nodes", examples=[2]
    )
    max_nodes: Annotated[int, Field(ge=1, le=450)] = Field(
        8, description="The autoscaler makes at most this many nodes", examples=[8]
    )
    desired_nodes: Annotated[int, Field(ge=1, le=450)] = Field(
        3, description="Nodes at the start; afterwards the autoscaler decides", examples=[3]
    )
    disk_gib: Annotated[int, Field(ge=20, le=16384)] = Field(
        80, description="Root disk of each node, in GiB", examples=[80]
    )
    log_types: list[LogType] = Field(
        ["api", "audit", "authenticator", "controllerManager", "scheduler"],
        description="Control plane logs that go to CloudWatch",
        examples=[["api", "audit"]],
    )
    log_retention_days: int = Field(
        30, description="Days that CloudWatch keeps the control plane logs", examples=[30]
    )
    support_type: Literal["STANDARD", "EXTENDED"] = Field(
        "STANDARD",
        description="STANDARD: AWS upgrades the cluster when support ends; EXTENDED: it stays and costs more",
        examples=["STANDARD"],
    )

    @field_validator("max_nodes")
    @classmethod
    def _max_is_not_below_min(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("min_nodes", value):
            raise ValueError(f"is {value}, less than min_nodes ({info.data['min_nodes']})")
        return value

    @field_validator("desired_nodes")
    @classmethod
    def _desired_is_between(cls, value: int, info: ValidationInfo) -> int:
        for name, wrong in (("min_nodes", int.__lt__), ("max_nodes", int.__gt__)):
            limit = info.data.get(name)
            if limit is not None and wrong(value, limit):
                than = "less" if name == "min_nodes" else "more"
                raise ValueError(f"is {value}, {than} than {name} ({limit})")
        return value

    @field_validator("log_retention_days")
    @classmethod
    def _days_that_cloudwatch_knows(cls, value: int) -> int:
        if value not in _LOG_RETENTION:
            near = min(_LOG_RETENTION, key=lambda days: abs(days - value))
            raise ValueError(f"{value} is not a period that CloudWatch offers; the nearest is {near}")
        return value


class Search(Section):
    """The OpenSearch domain."""

    engine_version: Annotated[
        str,
        AfterValidator(
            _shape(r"OpenSearch_[2-9]\.\d+", "an OpenSearch version of 2 or newer, such as OpenSearch_2.19")
        ),
    ] = Field("OpenSearch_2.19", description="Version of the engine", examples=["OpenSearch_2.19"])
    instance_type: Annotated[
        str,
        AfterValidator(
            _shape(
                r"(?!t2\.)[a-z0-9]+\.[a-z0-9]+\.search",
                "an instance type of OpenSearch that can encrypt its disks, such as r6g.large.search",
            )
        ),
    ] = Field(
        "r6g.large.search", description="Instance type of the data nodes", examples=["r6g.large.search"]
    )
    instance_count: Annotated[int, Field(ge=1, le=80)] = Field(
        3, description="Data nodes: 1, 2, or a multiple of 3 (they spread evenly over zones)", examples=[3]
    )
    volume_gib: Annotated[int, Field(ge=10, le=16384)] = Field(
        100, description="Disk of each data node, in GiB", examples=[100]
    )
    master_username: Annotated[
        str,
        AfterValidator(
            _shape(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", "a user name of letters, digits and . _ -")
        ),
    ] = Field("cali-admin", description="The domain's master user", examples=["cali-admin"])
    create_timeout: Duration = Field(
        "60m", description="How long making the domain may take", examples=["60m"]
    )
    update_timeout: Duration = Field(
        "120m", description="How long a change of the domain may take", examples=["120m"]
    )
    delete_timeout: Duration = Field(
        "60m", description="How long deleting the domain may take", examples=["60m"]
    )

    @field_validator("instance_count")
    @classmethod
    def _spread_evenly(cls, value: int) -> int:
        if value > 2 and value % 3:
            raise ValueError(
                f"{value} nodes do not spread evenly over three zones; use 1, 2 or a multiple of 3"
            )
        return value


class Autoscaler(Section):
    """The Cluster Autoscaler's Helm release."""

    chart_version: Version = Field("9.59.0", description="Version of the chart", examples=["9.59.0"])
    image_tag: Annotated[
        str | None,
        AfterValidator(
            lambda value: (
                value
                if value is None
                else _shape(r"v1\.\d+\.\d+", "an image tag of the Cluster Autoscaler, such as v1.35.0")(value)
            )
        ),
    ] = Field(None, description="Image tag; empty: the one of the cluster's version", examples=["v1.35.0"])


class Logging(Section):
    """Where Fluent Bit's records go."""

    index_prefix: Annotated[
        str,
        AfterValidator(
            _shape(r"[a-z][a-z0-9_-]{0,63}", "an index prefix of lower-case letters, digits, _ and -")
        ),
    ] = Field("cali-logs", description="Indices are named PREFIX-YYYY.MM.DD", examples=["cali-logs"])
    retention_days: Annotated[int, Field(ge=1, le=3650)] = Field(
        30, description="Days after which an index is deleted", examples=[30]
    )


class Services(Section):
    """Which services are on."""

    airflow: bool = Field(True, description="Airflow with GitSync", examples=[True])
    milvus: bool = Field(True, description="Milvus, the vector database", examples=[True])
    grafana: bool = Field(True, description="Grafana with the OpenSearch data source", examples=[True])


class Size(Section):
    """What one pod of a service asks for; its memory is also its limit."""

    cpu: Cpu = Field(description="Processors, or thousandths of one", examples=["500m"])
    memory: Memory = Field(description="Memory, which is also the limit", examples=["2Gi"])


def _sizes_of(service: str) -> AfterValidator:
    known = service_pods.names(service)

    def check(value: dict[str, Size]) -> dict[str, Size]:
        for name in value:
            if name not in known:
                raise ValueError(f"{name!r} is no pod of {service}; there are {', '.join(known)}")
        return value

    return AfterValidator(check)


class Airflow(Section):
    """Airflow's Helm release."""

    chart_version: Annotated[Version, _between("1.20.0", "2.0.0", "the values that cali sets")] = Field(
        "1.22.0", description="Version of the chart", examples=["1.22.0"]
    )
    version: Annotated[Version, _between("3.1.0", "4.0.0", "what the chart can run")] = Field(
        "3.2.2", description="Version of Airflow, which is its image's tag", examples=["3.2.2"]
    )
    dags_branch: Annotated[
        str, AfterValidator(_shape(r"(?!-)[\w./-]+(?<![./])", "the name of a branch or a tag"))
    ] = Field("main", description="Branch or tag of the repository with the DAGs", examples=["main"])
    dags_path: Annotated[
        str,
        AfterValidator(
            _shape(
                r"(?!/)(?!.*(^|/)\.\.?(/|$))[\w./ -]*(?<!/)",
                "a folder inside the repository, such as airflow/dags",
            )
        ),
    ] = Field(
        "", description="Folder of the DAGs in that repository; empty: its root", examples=["airflow/dags"]
    )
    sync_seconds: Annotated[int, Field(ge=5, le=3600)] = Field(
        60, description="Seconds between two looks at that repository", examples=[60]
    )
    database_gib: Annotated[int, Field(ge=1, le=16384)] = Field(
        20, description="Volume of the database inside the cluster, in GiB; it can only grow", examples=[20]
    )
    sizes: Annotated[dict[str, Size], _sizes_of("airflow")] = Field(
        {},
        description="Pods that ask for another size than cali's own",
        examples=[{"scheduler": {"cpu": "1", "memory": "2Gi"}}],
    )


class Milvus(Section):
    """Milvus' Helm release."""

    # Older ones know no `streaming.woodpecker`.
    chart_version: Annotated[Version, _between("5.0.8", "6.0.0", "the values that cali sets")] = Field(
        "5.0.19", description="Version of the chart", examples=["5.0.19"]
    )
    version: Annotated[Version, _between("2.6.0", "3.0.0", "what the chart can run")] = Field(
        "2.6.15", description="Version of Milvus, which is its image's tag without the v", examples=["2.6.15"]
    )
    mode: Literal["standalone", "cluster"] = Field(
        "standalone",
        description="standalone: one pod, data on volumes; cluster: pods by task, data in S3; data does not move",
        examples=["standalone"],
    )
    bucket: Annotated[str, _BUCKET] | None = Field(
        None,
        description="Bucket that exists and holds the data; needed when mode is cluster",
        examples=["acme-milvus"],
    )
    volume_gib: Annotated[int, Field(ge=1, le=16384)] = Field(
        50, description="Milvus' own volume in standalone mode, in GiB; it can only grow", examples=[50]
    )
    object_store_gib: Annotated[int, Field(ge=1, le=16384)] = Field(
        100, description="Volume of the object store in standalone mode, in GiB", examples=[100]
    )
    sizes: Annotated[dict[str, Size], _sizes_of("milvus")] = Field(
        {},
        description="Pods that ask for another size than cali's own",
        examples=[{"standalone": {"cpu": "2", "memory": "12Gi"}}],
    )

    @field_validator("bucket")
    @classmethod
    def _needed_for_a_cluster(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("mode") == "cluster":
            raise ValueError("is missing, and mode cluster keeps its data there")
        return value


class Grafana(Section):
    """Grafana's Helm release."""

    chart_version: Annotated[Version, _between("12.0.0", "13.0.0", "the values that cali sets")] = Field(
        "12.11.1", description="Version of the chart", examples=["12.11.1"]
    )
    version: Annotated[Version, _between("12.0.0", "14.0.0", "what the chart can run")] = Field(
        "13.2.0", description="Version of Grafana, which is its image's tag", examples=["13.2.0"]
    )
    plugin_version: Annotated[Version, _between("2.20.0", "3.0.0", "the data source that cali describes")] = (
        Field("2.34.2", description="Version of the OpenSearch data source", examples=["2.34.2"])
    )
    volume_gib: Annotated[int, Field(ge=1, le=16384)] = Field(
        10, description="Grafana's volume, in GiB; it can only grow", examples=[10]
    )
    sizes: Annotated[dict[str, Size], _sizes_of("grafana")] = Field(
        {},
        description="Pods that ask for another size than cali's own",
        examples=[{"grafana": {"cpu": "500m", "memory": "2Gi"}}],
    )


class Verify(Section):
    """What `cali verify` runs in the cluster."""

    image: Annotated[
        str,
        AfterValidator(
            _shape(
                r"[a-z0-9][a-z0-9._:/-]*(:[A-Za-z0-9_][A-Za-z0-9._-]*|@sha256:[0-9a-f]{64})",
                "an image with its tag or digest, such as public.ecr.aws/docker/library/busybox:1.37.0",
            )
        ),
    ] = Field(
        "public.ecr.aws/docker/library/busybox:1.37.0",
        description="Image with a shell, for what verify --deep and --e2e run in the cluster",
        examples=["mirror.example.com/busybox:1.37.0"],
    )


class Settings(File):
    """The whole of `cali.yaml`; every key has a default."""

    project: Annotated[
        str,
        AfterValidator(
            _shape(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", "a name of lower-case letters, digits and single hyphens")
        ),
    ] = Field(
        "cali", description="Name of the project; PROJECT-ENVIRONMENT names the cluster", examples=["cali"]
    )
    environment: Annotated[
        str,
        AfterValidator(
            _shape(r"[a-z0-9]+(-[a-z0-9]+)*", "a name of lower-case letters, digits and single hyphens")
        ),
    ] = Field("default", description="Name of the environment", examples=["default"])
    region: Region = Field("ap-northeast-2", description="AWS region", examples=["ap-northeast-2"])
    profile: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="Profile of the AWS configuration; empty: the environment's credentials",
        examples=["team"],
    )
    terraform_binary: Annotated[str, Field(min_length=1)] = Field(
        "terraform", description="Name or path of the Terraform program", examples=["terraform"]
    )
    allow_world: bool = Field(
        False, description="Needed before allowed_cidrs may hold 0.0.0.0/0", examples=[False]
    )
    allowed_cidrs: list[Cidr] = Field(
        [],
        description="Networks that may reach the cluster and the domain; empty: no public endpoint",
        examples=[["203.0.113.7/32"]],
    )
    tags: dict[str, str] = Field(
        {}, description="Tags on every resource, beside cali's own", examples=[{"team": "platform"}]
    )
    state: State = Field(State(), description="Where Terraform keeps its state")
    network: Network = Field(Network(), description="The VPC")
    eks: Eks = Field(Eks(), description="The EKS cluster and its nodes")
    search: Search = Field(Search(), description="The OpenSearch domain")
    autoscaler: Autoscaler = Field(Autoscaler(), description="The Cluster Autoscaler")
    logging: Logging = Field(Logging(), description="Where log records go and how long they stay")
    services: Services = Field(Services(), description="Which services are on")
    airflow: Airflow = Field(Airflow(), description="Airflow")
    milvus: Milvus = Field(Milvus(), description="Milvus")
    grafana: Grafana = Field(Grafana(), description="Grafana")
    verify: Verify = Field(Verify(), description="What `cali verify` runs in the cluster")

    @property
    def cluster_name(self) -> str:
        """The EKS cluster's name."""
        return f"{self.project}-{self.environment}"

    @property
    def domain_name(self) -> str:
        """The OpenSearch domain's name."""
        return self.cluster_name

    @property
    def autoscaler_image_tag(self) -> str:
        """The Cluster Autoscaler's image tag: the given one, or the cluster's minor version's first."""
        return self.autoscaler.image_tag or f"v{self.eks.version}.0"

    @field_validator("environment")
    @classmethod
    def _names_fit(cls, value: str, info: ValidationInfo) -> str:
        # `.cali/sandbox` and `.cali/sandbox-ENV` are the sandbox's own.
        if value == "sandbox" or value.startswith("sandbox-"):
            raise ValueError(f"{value!r} is kept for the sandbox's workspaces")
        project = info.data.get("project")
        if project is not None and not 3 <= len(name := f"{project}-{value}") <= _LONGEST_DOMAIN_NAME:
            raise ValueError(
                f"with the project's name it makes {name!r}, {len(name)} characters; an OpenSearch domain's "
                f"name has 3 to {_LONGEST_DOMAIN_NAME}"
            )
        return value

    @field_validator("allowed_cidrs")
    @classmethod
    def _the_world_is_asked_for(cls, value: list[str], info: ValidationInfo) -> list[str]:
        world = IPv4Network("0.0.0.0/0")
        if world in collapse_addresses(map(IPv4Network, value)) and info.data.get("allow_world") is False:
            raise ValueError("lets the whole internet in, which needs allow_world: true")
        return value

    @field_validator("tags")
    @classmethod
    def _tags_that_aws_takes(cls, value: dict[str, str]) -> dict[str, str]:
        for key, text in value.items():
            if key.lower().startswith("aws:"):
                raise ValueError(f"{key!r}: AWS keeps the prefix aws: for itself")
            if key.lower() in _OWN_TAGS:
                raise ValueError(f"{key!r} is set by cali itself, and IAM tells no capitals")
            if not 1 <= len(key) <= 128 or len(text) > 256:
                raise ValueError(f"{key[:40]!r}: a key has 1 to 128 characters, a value at most 256")
        if len(value) > 40:
            raise ValueError("are more than 40; AWS allows 50 with cali's own")
        return value

    @field_validator("autoscaler")
    @classmethod
    def _chart_and_app_fit(cls, value: Autoscaler, info: ValidationInfo) -> Autoscaler:
        eks = info.data.get("eks")
        if value.image_tag is None and eks is None:
            return value
        app = (value.image_tag or f"v{eks.version}.0") if eks is not None else str(value.image_tag)
        chart = _numbers(value.chart_version)
        if int(app.split(".")[1]) >= 32 and chart < _FIRST_CHART_FOR_APP_1_32:
            raise ValueError(
                f"chart {value.chart_version} with app {app} would run and never scale; "
                "app 1.32 and newer needs chart 9.47.0 or newer"
            )
        return value


def load_settings(project_dir: Path, environ: Mapping[str, str], environment: str | None = None) -> Settings:
    """The settings of a project folder; `environment` (of `--env`) overrides the file's.

    Raises PreconditionError when there is no `cali.yaml`, and SettingsError with every mistake of it and of
    `secrets.yaml`, where that exists.
    """
    outcome = _read(project_dir, environ, environment)
    if outcome.missing:
        raise PreconditionError(
            f"there is no {FILE} in {project_dir}",
            remedy="run `cali init`, or name the project's folder: cali --project DIR",
        )
    if outcome.model is None:
        from cali_infra.core import secrets

        raise SettingsError([*outcome.problems, *secrets.problems(project_dir, environ)])
    return outcome.model


def problems(project_dir: Path, environ: Mapping[str, str]) -> tuple[SettingsProblem, ...]:
    """The mistakes in `cali.yaml`; none when the file is not there."""
    outcome = _read(project_dir, environ, None)
    return () if outcome.missing else outcome.problems


def _read(
    project_dir: Path, environ: Mapping[str, str], environment: str | None
) -> settings_files.Outcome[Settings]:
    fixed = {} if environment is None else {"environment": environment}
    return settings_files.read(Settings, project_dir / FILE, environ, fixed)
