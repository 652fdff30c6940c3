"""The operations guide: its keys, ways, rules for passwords and messages are those of the code."""

from __future__ import annotations

import ast
import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any, get_args

import pytest
import yaml
from pydantic import AfterValidator, BaseModel, SecretStr

from cali_infra.core import fluent_bit, service_secrets, tfvars
from cali_infra.core.index import WRITER, IndexWork
from cali_infra.core.inputs import Inputs
from cali_infra.core.progress import Silent
from cali_infra.core.rotation import INSIDE, ROTATIONS, Way
from cali_infra.core.secrets import Secrets
from cali_infra.core.service_secrets import SERVICES
from cali_infra.core.settings import Settings, load_settings
from cali_infra.core.stages import STAGES, Kind
from tests.unit.guides import OPERATIONS, ROOT, Guide, Row, guide, hcl, spans

STACKS = {stage.name for stage in STAGES if stage.kind is Kind.TERRAFORM}


@pytest.fixture(params=OPERATIONS)
def each(request: pytest.FixtureRequest) -> Guide:
    return guide(request.param)


# -- the shortest way to bring a change in --------------------------------------------------------------------


# Another valid value for each key of the table.
CHANGES: Mapping[str, Mapping[str, Any]] = {
    "allowed_cidrs": {"allowed_cidrs": ["203.0.113.7/32"]},
    "network.nat_per_zone": {"network": {"nat_per_zone": True}},
    "eks.version": {"eks": {"version": "1.36"}},
    "eks": {
        "eks": {"max_nodes": 9, "instance_types": ["m6i.2xlarge"], "disk_gib": 99, "support_type": "EXTENDED"}
    },
    "search.instance_count": {"search": {"instance_count": 1}},
    "search.engine_version": {"search": {"engine_version": "OpenSearch_2.17"}},
    "search": {"search": {"instance_type": "r6g.xlarge.search", "volume_gib": 200, "update_timeout": "150m"}},
    "autoscaler.chart_version": {"autoscaler": {"chart_version": "9.60.0"}},
    "autoscaler.image_tag": {"autoscaler": {"image_tag": "v1.35.1"}},
    "logging.retention_days": {"logging": {"retention_days": 60}},
    "logging.index_prefix": {"logging": {"index_prefix": "other-logs"}},
    "services": {"services": {"milvus": False}},
    "airflow": {"airflow": {"version": "3.2.3"}},
    "milvus": {"milvus": {"volume_gib": 60}},
    "grafana": {"grafana": {"version": "13.2.1"}},
}
# What the stacks below have given out.
OUTPUTS: Mapping[str, Mapping[str, Any]] = {
    "network": {"vpc_id": "vpc-1", "private_subnet_ids": ["subnet-1"], "nat_public_ips": ["192.0.2.1"]},
    "eks": {
        "cluster_endpoint": "https://cluster.example",
        "cluster_ca": "LS0t",
        "cluster_version": "1.35",
        "creator_arn": "arn:aws:iam::111122223333:role/lead",
    },
    "search": {"opensearch_endpoint": "search.example.com"},
}


def secrets_of(**changes: Mapping[str, Any]) -> Secrets:
    """Valid secrets; `changes` are merged into their sections."""
    document: dict[str, dict[str, Any]] = {
        "opensearch": {f"{user}_password": f"Example-{user}-1" for user in ("master", "writer", "reader")},
        "grafana": {"admin_password": "example-grafana"},
        "airflow": {
            "fernet_key": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
            "api_secret_key": "example-api-secret-key",
            "jwt_secret": "example-jwt-secret-key",
            "admin_password": "example-airflow",
            "database_password": "example-database",
        },
        "milvus": {
            "root_password": "example-root",
            "minio_access_key": "example-access",
            "minio_secret_key": "example-secret",
        },
        "gitsync": {},
    }
    for section, keys in changes.items():
        document[section] = {**document[section], **keys}
    return Secrets(**document, hash_key="0123456789abcdef0123456789abcdef")


class EmptyDomain:
    """A domain that has nothing yet, and remembers what is written."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("put_"):
            return lambda *body: self.written.append(f"{name} {body}")
        return lambda *_: {} if name == "renew_policy" else None


def told(settings: Settings) -> dict[str, object]:
    """What each stage is told by these settings, by its name."""
    secrets = secrets_of()
    inputs = Inputs(
        settings,
        secrets,
        "111122223333",
        "arn:aws:iam::111122223333:user/lead",
        datetime(2026, 1, 27, tzinfo=UTC),
        lambda stack: OUTPUTS.get(stack, {}),
    )
    stages: dict[str, object] = {
        stack: tfvars.encode(tfvars.render(ROOT / "terraform" / stack, inputs.variables(stack)))
        for stack in STACKS
    }
    domain = EmptyDomain()
    index = IndexWork(lambda user, password: domain, settings, secrets)
    index.apply(index.plan(Silent()), Silent(), Event())
    stages["index"] = domain.written
    endpoint = OUTPUTS["search"]["opensearch_endpoint"]
    stages["service-secrets"] = service_secrets.objects(settings, secrets, endpoint)
    stages["logging"] = fluent_bit.FluentBit(
        cluster_name=settings.cluster_name,
        endpoint=endpoint,
        index_prefix=settings.logging.index_prefix,
        user=WRITER,
        password=secrets.opensearch.writer_password,
        revision_key=secrets.hashing_key,
    ).settings()
    return stages


class TestTheShortestWay:
    def rows(self, of: Guide) -> list[Row]:
        return next(table for table in of.tables if "`cali up eks search`" in table[0][1])

    def test_each_way_reaches_every_stage_that_is_told_something_else_and_no_other(self, each: Guide) -> None:
        before = told(Settings())
        seen = set()
        for row in self.rows(each):
            keys = [key for key in spans(row[0]) if key in CHANGES]
            reached: set[str] = set()
            for key in keys:
                after = told(Settings.model_validate(CHANGES[key]))
                reached |= {stage for stage in before if before[stage] != after[stage]}
                # A stack's outputs change with it: the domain's policy names the NAT's addresses.
                reached |= {"search"} if key == "network.nat_per_zone" else set()
            seen |= set(keys)
            if keys:
                assert set(spans(row[1])[0].removeprefix("cali up ").split()) == reached, keys
        assert seen == CHANGES.keys()


# -- keys, versions and numbers -------------------------------------------------------------------------------


def model_at(model: type[BaseModel], path: Sequence[str]) -> bool:
    """Whether a model has a key of this path."""
    if path[0] not in model.model_fields:
        return False
    inner = model.model_fields[path[0]].annotation
    if len(path) == 1:
        return True
    return isinstance(inner, type) and issubclass(inner, BaseModel) and model_at(inner, path[1:])


class TestSettings:
    def test_every_key_that_is_named_is_one_of_cali_yaml_or_secrets_yaml(self, each: Guide) -> None:
        sections = {
            name
            for model in (Settings, Secrets)
            for name, field in model.model_fields.items()
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        }
        keys = [
            key.split(":")[0]
            for key in each.spans
            if re.match(rf"({'|'.join(sections)})\.[a-z_]+(\.|:|$)", key)
        ]
        assert len(keys) > 40
        for key in keys:
            if key not in ("grafana.com",):
                path = key.split(".")
                assert model_at(Settings, path) or model_at(Secrets, path), key

    def test_every_piece_of_cali_yaml_is_valid(self, each: Guide, tmp_path: Path) -> None:
        pieces = [code for kind, code in each.blocks if kind == "yaml"]
        assert len(pieces) > 4
        for piece in pieces:
            (tmp_path / "cali.yaml").write_text(piece)
            load_settings(tmp_path, {})
        inline = [span for span in each.spans if re.fullmatch(r"[\w.]+: [\w.]+", span)]
        assert "eks.support_type: STANDARD" in inline
        for span in inline:
            key, value = span.split(": ")
            document: Any = yaml.safe_load(value)
            for part in reversed(key.split(".")):
                document = {part: document}
            if value != "NEW" and not ("milvus" in document and value == "cluster"):
                Settings.model_validate(document)

    def test_the_versions_in_the_table_are_the_defaults(self, each: Guide) -> None:
        rows = next(table for table in each.tables if "`services.airflow`" in table[0][1])
        settings = Settings()
        named: set[str] = set()
        for row in rows:
            for key, version in re.findall(r"`([a-z_.]+)` \(`([\d.]+)`\)", " ".join(row)):
                section, name = key.split(".")
                assert getattr(getattr(settings, section), name) == version
            named |= {span for span in spans(" ".join(row)) if "." in span and not span[0].isdigit()}
        # Every key of the three is in the table, so that a new one is not forgotten.
        keys = {f"{name}.{key}" for name in SERVICES for key in type(getattr(settings, name)).model_fields}
        assert named == keys | {f"services.{name}" for name in SERVICES}

    def test_kubectl_fits_the_default_version(self, each: Guide) -> None:
        minor = int(Settings().eks.version.split(".")[1])
        row = next(line for line in each.prose.splitlines() if line.startswith("| kubectl"))
        assert re.findall(r"1\.(\d+)", row) == [str(n) for n in (minor - 1, minor, minor + 1, minor)]
        assert f'version: "1.{minor + 1}"' in "".join(code for _, code in each.blocks)

    def test_what_is_said_of_fluent_bit_is_in_its_configuration(self, each: Guide) -> None:
        folder = ROOT / "k8s" / "fluent-bit"
        configuration = yaml.safe_load((folder / "fluent-bit.yaml").read_text())
        service, (output,) = configuration["service"], configuration["pipeline"]["outputs"]
        assert {service[f"hc_{of}_count"] for of in ("errors", "retry_failure")} == {5}
        assert (service["hc_period"], service["http_port"]) == (60, 2020)
        assert (output["retry_limit"], output["storage.total_limit_size"]) == (60, "5G")
        pod = yaml.safe_load((folder / "daemonset.yaml").read_text())["spec"]["template"]["spec"]
        (on_node,) = [one["hostPath"]["path"] for one in pod["volumes"] if one["name"] == "state"]
        mounts = pod["containers"][0]["volumeMounts"]
        (in_pod,) = [one["mountPath"] for one in mounts if one["name"] == "state"]
        rejected = posixpath.normpath(f"{service['storage.path']}/{service['storage.rejected.path']}")
        there = rejected.replace(in_pod, on_node)
        assert any(line.endswith(f" ls -l /host{there}") for line in each.commands)
        assert {"fluentbit.io/exclude", "source_timestamp", "@timestamp"} <= set(each.spans)

    def test_the_python_is_python(self, each: Guide) -> None:
        (code,) = [code for kind, code in each.blocks if kind == "python"]
        ast.parse(code)
        assert f":{service_secrets.MILVUS_PORT}" in code
        assert f'user="{service_secrets.MILVUS_USER}"' in code

    def test_the_key_that_is_made_is_a_fernet_key(self, each: Guide) -> None:
        (line,) = [line for line in each.commands if line.startswith("python3 -c ")]
        printed: list[str] = []
        exec(shlex.split(line)[2], {"print": printed.append})
        secrets_of(airflow={"fernet_key": printed[0]})
        secrets_of(airflow={"fernet_key": f"{printed[0]},{printed[0]}"})


# -- how each password is changed -----------------------------------------------------------------------------

OVER_SSH = {
    "url": "git@example.com:acme/dags.git",
    "ssh_key": "-----BEGIN OPENSSH PRIVATE KEY-----\nZXhhbXBsZQ\n-----END OPENSSH PRIVATE KEY-----",
    "known_hosts": "example.com ssh-ed25519 AAAAC3Nz",
}
# Two values for each, where it takes more than another text.
VALUES: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "airflow.fernet_key": (
        {},
        {"airflow": {"fernet_key": "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="}},
    ),
    "airflow.database_url": (
        {"airflow": {"database_url": "postgresql://air:example@db.example.com/x?sslmode=require"}},
        {"airflow": {"database_url": "postgresql://air:another@db.example.com/x?sslmode=require"}},
    ),
    "gitsync.ssh_key": (
        {"gitsync": OVER_SSH},
        {"gitsync": {**OVER_SSH, "ssh_key": OVER_SSH["ssh_key"].replace("ZXhh", "YW5v")}},
    ),
    "gitsync.token": (
        {"gitsync": {"url": "https://example.com/acme/dags", "token": "example-token"}},
        {"gitsync": {"url": "https://example.com/acme/dags", "token": "another-token"}},
    ),
}
# Read from the Secret into a database or a volume of the application's own, once. Sources: the descriptions of the
# keys in `secrets.py`; for Airflow's admin its command, which leaves a user who exists as he is.
FIRST_START = {
    "grafana.admin_password",
    "airflow.admin_password",
    "airflow.database_password",
    "milvus.root_password",
}
# How the guide says by what a new value comes into force.
WAYS: Mapping[str, Mapping[Way, str]] = {
    OPERATIONS[0]: {
        Way.APPLICATION: "cali in the running",
        Way.DOMAIN: "cali in the domain",
        Way.APPEND: "in turns",
        Way.NEVER: "leave it",
    },
    OPERATIONS[1]: {
        Way.APPLICATION: "cali: 실행 중인",
        Way.DOMAIN: "cali: 도메인에서 변경",
        Way.APPEND: "번갈아",
        Way.NEVER: "그대로 둘 것",
    },
}
AT_EACH_START = {OPERATIONS[0]: "at each start", OPERATIONS[1]: "기동할 때마다"}
ENDPOINT = "search.example.com"


def secret_keys(model: type[BaseModel] = Secrets, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Every key of `secrets.yaml` that holds a secret."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from secret_keys(inner, (*path, name))
        elif SecretStr in parts(inner):
            yield ".".join((*path, name))


def parts(annotation: object) -> set[object]:
    """A type with all that it is put together from."""
    return {annotation}.union(
        *(parts(one) for one in get_args(annotation) if not isinstance(one, AfterValidator))
    )


def carriers(key: str) -> set[str]:
    """The Secrets in the cluster that hold something else when this key is another one."""
    section, _, name = key.partition(".")
    before, after = VALUES.get(key, ({}, {section: {name: "Another-value-20"}}))
    states = []
    for changes in (before, after):
        secrets = secrets_of(**changes)
        held = dict(service_secrets.revisions(Settings(), secrets, ENDPOINT))
        held[fluent_bit.SECRET] = secrets.opensearch.writer_password.get_secret_value()
        states.append(held)
    return {secret for secret in states[0] if states[0][secret] != states[1][secret]}


class TestPasswords:
    def rows(self, of: Guide) -> list[Row]:
        return next(table for table in of.tables if "opensearch.master_password" in table[0][0])

    def test_every_secret_has_its_row(self, each: Guide) -> None:
        assert sorted(spans(row[0])[0] for row in self.rows(each)) == sorted(secret_keys())

    def test_each_names_the_secrets_that_hold_it(self, each: Guide) -> None:
        for row in self.rows(each):
            key = spans(row[0])[0]
            if key != "hash_key":
                assert set(spans(row[1])) == carriers(key), key

    def test_what_is_read_once_is_said_to_be_and_is_what_cali_changes_in_the_application(
        self, each: Guide
    ) -> None:
        once = "first start only" if each.name == OPERATIONS[0] else "최초 기동 시에만"
        assert {spans(row[0])[0] for row in self.rows(each) if once in row[2]} == FIRST_START
        assert {one.setting for one in ROTATIONS if one.way is Way.APPLICATION} == FIRST_START

    def test_each_is_changed_in_the_way_of_the_table_of_rotations(self, each: Guide) -> None:
        rows = {spans(row[0])[0]: row for row in self.rows(each)}
        assert sorted(rows) == sorted(one.setting for one in ROTATIONS)
        words = WAYS[each.name]
        for one in ROTATIONS:
            when, how = rows[one.setting][2:]
            # What only a restart brings in says so by when it is read, and has none of the others' words.
            said = {way for way, text in words.items() if text in how} or {Way.RESTART}
            assert said == {one.way}, one.setting
            assert one.way is not Way.RESTART or when == AT_EACH_START[each.name], one.setting
            for application in re.findall(r"in the running (\w+)", one.how):
                assert f"{words[Way.APPLICATION]} {application}" in how, one.setting

    def test_whose_pods_start_anew_is_in_the_way_too(self, each: Guide) -> None:
        rows = {spans(row[0])[0]: row for row in self.rows(each)}
        for one in ROTATIONS:
            if one.way not in (Way.APPEND, Way.NEVER):
                stages = set(" ".join(spans(rows[one.setting][3])).split())
                assert bool(stages & {"services", "logging"}) is bool(one.restarts), one.setting

    def test_a_fernet_key_is_given_and_used_as_the_table_says(self, each: Guide) -> None:
        (fernet,) = [one for one in ROTATIONS if one.way is Way.APPEND]
        (command,) = [line for line in each.commands if line.endswith(" airflow rotate-fernet-key")]
        assert command.replace("deployment/", "deploy/") in spans(fernet.how)
        assert "NEW,OLD" in fernet.how
        assert "`NEW,OLD`" in next(row[3] for row in self.rows(each) if fernet.setting in row[0])

    def test_by_hand_the_secret_that_cali_compares_with_is_deleted_after_each(self, each: Guide) -> None:
        """Without it cali would change the password in the application all the same, and need its pod."""
        deleted = re.findall(r"kubectl -n (\S+) delete secret (\S+)", "\n".join(each.commands))
        assert sorted(deleted) == sorted((one.namespace, one.secret) for one in INSIDE)

    def test_what_the_settings_call_read_once_is(self) -> None:
        assert {key for key in secret_keys() if "first start only" in description(key)} <= FIRST_START

    def test_each_way_goes_through_the_stages_that_carry_it(self, each: Guide) -> None:
        in_domain = {"opensearch.writer_password", "opensearch.reader_password"}
        for row in self.rows(each):
            key, held = spans(row[0])[0], set(spans(row[1]))
            stages = {
                stage for command in spans(row[3]) for stage in command.removeprefix("cali up ").split()
            }
            if key in ("hash_key", "airflow.fernet_key"):
                continue
            wanted = {"search"} if key == "opensearch.master_password" else set()
            wanted |= {"index"} if key in in_domain else set()
            wanted |= {"logging"} if fluent_bit.SECRET in held else set()
            services = held - {fluent_bit.SECRET}
            wanted |= {"service-secrets"} if services else set()
            wanted |= {"services"} if carried_by_pods(services) else set()
            assert stages == wanted, key

    def test_the_annotations_are_those_that_pods_carry(self, each: Guide) -> None:
        carried = set(re.findall(r'"(cali/[a-z-]+)"', hcl("services"))) | {fluent_bit.REVISION}
        assert carried == {span for span in each.spans if span.startswith("cali/") and "default" not in span}


def description(key: str) -> str:
    model: Any = Secrets
    *sections, name = key.split(".")
    for section in sections:
        model = model.model_fields[section].annotation
    return str(model.model_fields[name].description)


def carried_by_pods(secrets: set[str]) -> bool:
    """Whether pods of a release carry the hash of one of these Secrets."""
    lists = set(re.findall(r'var\.revisions\["([a-z-]+)"\]', hcl("services")))
    loop = re.search(r"for secret in \[(.*?)\] : var\.revisions\[secret\]", hcl("services"))
    assert loop
    git = re.search(r"airflow_git_secret += try\({(.*?)}", hcl("services"))
    assert git
    return bool(secrets & {*lists, *re.findall(r'"([a-z-]+)"', loop[1] + git[1])})


# -- symptoms -------------------------------------------------------------------------------------------------

# What cali says, with the words of its source that it is made from.
OURS = {
    "AWS does not accept the credentials": "AWS does not accept the credentials",
    "no AWS credentials": "no AWS credentials: {error}",
    "the credentials are another account's": "the credentials are another account's",
    "was applied elsewhere": "{self.path} was applied elsewhere",
    "is not covered, cali could reach neither cluster nor domain": "your address {address} is not covered, cali "
    "could reach neither cluster nor domain",
    "cannot be reached": "the Kubernetes API at {host} cannot be reached",
    "is working in": "{front.who} is working in {self.path}",
    "the state is locked by": "the state is locked by {holder}",
    "the state has moved on": "the state has moved on since this plan was made",
    "others are changing who has access": "others are changing who has access, still after",
    "is lost:": "the lease {self._object} is lost: {why}",
    "AWS throttled the calls": "AWS throttled the calls",
    "its state is kept elsewhere than cali.yaml says": "its state is kept elsewhere than cali.yaml says",
    "the bucket of the state does not exist": "the bucket of the state does not exist",
    "could not write its state": "an earlier run could not write its state",
    "Terraform cannot get a provider that the stack needs": "Terraform cannot get a provider that the stack needs",
    "the plan deletes or replaces": "the plan deletes or replaces",
    "was left tainted by an interrupted run and is": "was left tainted by an interrupted run and is {health.value}",
    "needs what was never applied here": "needs what was never applied here",
    "other field managers own": "other field managers own {listed}",
    "the services ask for": "the services ask for {self.asked} together",
    "left for pods": "left for pods",
    "EKS refuses that": "{now}; EKS refuses that",
    "a volume only grows": "and a volume only grows",
    "which Helm cannot change": "GiB of the {whose}, which Helm cannot change",
    "does not go with": "{value} does not go with {why}",
    "the cluster does not know this caller": "the cluster does not know this caller",
    "does not accept the password of": "does not accept the password of {self._user}",
    "replicas ready after": "replicas ready after {patience:.0f} seconds",
    "others on this machine can open it": "others on this machine can open it",
    "there is no terminal to ask in": "there is no terminal to ask in",
    "the Helm release": "the Helm release {last.namespace}/{last.name}",
    "was left as it is, and": "the release {one.last.name} was left as it is, and",
    "what its pods, events and logs said is kept in": "what its pods, events and logs said is kept in {path}",
    "the password could not be changed": "{due.inside.title}: the password could not be changed",
    "has its new password already": "{due.inside.title} has its new password already",
    "the password is kept by the application": "{inside.title}: the password is kept by the application",
    "leaves out the key that Airflow's connections are encrypted with": "leaves out the key that Airflow's "
    "connections are encrypted with",
    "left behind:": "left behind: {words}",
    "not put down in time": "{step.what} (not put down in time)",
    "the nodes cannot pull": "the nodes cannot pull {image}",
    "it is not in OpenSearch after 90 s": "it is not in OpenSearch after {_ARRIVAL:.0f} s",
    "is still there": "is still there {wait:.0f} seconds after it was deleted",
    "load balancers and volumes may be left": "load balancers and volumes may be left",
    "not gone after 300 seconds": "not gone after {waited:.0f} seconds",
    "survived:": "survived: {survivor}",
    "still stands": "still stands",
}
# What others say.
THEIRS = {
    *("EntityAlreadyExists", "DependencyViolation", "Terminating"),
    *("ImagePullBackOff", "ErrImagePull", "Pending", "CrashLoopBackOff", "Init:CrashLoopBackOff"),
    *("pod didn't trigger scale-up", "waiting for first consumer to be created before binding"),
    *("Host key verification failed", "Permission denied (publickey)", "wait-for-airflow-migrations"),
    *('password authentication failed for user "airflow"', "database space exceeded", "no permissions for"),
    *("HTTP status=401", "HTTP status=403", "HTTP status=429", "mapper_parsing_exception"),
    *("create-index blocked", "User: anonymous is not authorized", "rejected_execution_exception"),
    *("PodEvictionFailure", "Multi-Attach error", "had volume node affinity conflict"),
}


class TestSymptoms:
    def tables(self, of: Guide) -> list[list[Row]]:
        """The tables of the chapter on troubleshooting."""
        chapter = re.split(r"^## ", of.text, flags=re.MULTILINE)[8]
        assert chapter.startswith("8. ")
        return Guide(of.name, chapter).tables

    def test_every_chapter_of_trouble_has_its_table(self, each: Guide) -> None:
        assert len(self.tables(each)) == 9
        assert all(len(row) == 3 and all(row) for table in self.tables(each) for row in table)

    def test_what_cali_says_is_what_cali_says(self, each: Guide) -> None:
        source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "cali_infra").rglob("*.py"))
        # A text that goes over lines is one text.
        source = re.sub(r'"\n\s+f?"', "", source)
        said = [text for table in self.tables(each) for row in table for text in spans(row[0])]
        for text, made_from in OURS.items():
            assert text in said
            assert made_from in source, f"cali does not say {text!r} any more"

    def test_everything_in_cali_s_own_table_is_cali_s(self, each: Guide) -> None:
        said = {text for row in self.tables(each)[0] for text in spans(row[0])}
        assert said - OURS.keys() == {
            "EntityAlreadyExists",
            "another operation (install/upgrade/rollback) is in progress",
            "cannot re-use a name that is still in use",
        }

    def test_the_usual_troubles_are_there(self, each: Guide) -> None:
        said = {text for table in self.tables(each) for row in table for text in spans(row[0])}
        assert said >= THEIRS
