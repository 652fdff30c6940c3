"""The operations guide: what it tells people to type exists, and names what the stacks and the charts make."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import jmespath
import pytest
import yaml
from botocore import xform_name

from cali_infra.core import lease, service_secrets
from cali_infra.core.guard import GUARDED_TYPES
from cali_infra.core.index import READER, WRITER
from cali_infra.core.settings import Settings
from cali_infra.core.stacks import state_key
from cali_infra.core.stages import BY_NAME, STAGES, Kind
from cali_infra.core.workspace import Workspace
from cali_infra.verify import jobs
from tests.unit.guides import OPERATIONS, ROOT, Guide, guide, hcl, parsed, spans

STACKS = {stage.name for stage in STAGES if stage.kind is Kind.TERRAFORM}
# A word in capitals is for the reader to fill in.
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]+")


@pytest.fixture(params=OPERATIONS)
def each(request: pytest.FixtureRequest) -> Guide:
    return guide(request.param)


def shell(line: str) -> list[str]:
    """The words of a command line, up to a pipe or a redirection."""
    words = shlex.split(line)
    end = next((index for index, word in enumerate(words) if word in ("|", ">", "&&", ";")), len(words))
    return words[:end]


def calls(of: Guide, program: str) -> Iterator[tuple[str, list[str]]]:
    """Each call of a program, also in a pipe, in $(...) or behind a variable: the line, and the words after it."""
    for line in of.commands:
        for start in re.finditer(rf"(?P<before>^|\| |\$\(|^\w+=\"[^\"]*\" )(?P<call>{program} .*)", line):
            text = start["call"]
            yield line, shell(text[: text.rindex(")")] if start["before"] == "$(" else text)[1:]


def has_resource(stack: str, address: str) -> bool:
    """Whether a stack has a resource of this address; one with an index has a count."""
    found = re.fullmatch(r"(\w+)\.(\w+)(\[\d+\])?", address)
    assert found, address
    block = re.search(
        rf'^resource "{found[1]}" "{found[2]}" {{\n(.*?)^}}', hcl(stack), re.MULTILINE | re.DOTALL
    )
    return block is not None and bool(re.search(r"^  count ", block[1], re.MULTILINE)) is bool(found[3])


class TestCali:
    def test_every_call_is_one_that_cali_takes(self, each: Guide) -> None:
        used = {parsed(line) for line in set(each.of("cali"))}
        assert used >= {
            "status",
            "plan",
            "up",
            "down",
            "kubeconfig",
            "list-access",
            "state",
            "verify",
            "open",
            "logs",
        }

    def test_every_stage_is_one(self, each: Guide) -> None:
        named = set()
        for line in each.of("cali"):
            found = re.match(r"cali (?:--output json )?(?:plan|up) (.*)", line)
            words = iter(found[1].split() if found else ())
            for word in words:
                if word == "--allow-replace":
                    next(words)
                elif not word.startswith("-") and not PLACEHOLDER.fullmatch(word):
                    named.add(word)
        assert named
        assert named <= BY_NAME.keys()

    def test_what_may_be_replaced_by_name_exists_and_is_guarded(self, each: Guide) -> None:
        replaced = re.findall(r"cali up (\w+) --allow-replace ([\w.]+)", "\n".join(each.of("cali")))
        assert replaced
        for stack, address in replaced:
            assert has_resource(stack, address), address
            assert address.split(".")[0] in GUARDED_TYPES


# -- Terraform ------------------------------------------------------------------------------------------------

TERRAFORM: Mapping[str, set[str]] = {
    "plan": {"-out", "-target", "-replace"},
    "apply": {"-target", "-replace"},
    "init": {"-migrate-state", "-force-copy"},
    "import": set(),
    "untaint": set(),
    "output": set(),
    "force-unlock": set(),
    "state list": set(),
    "state show": set(),
    "state push": set(),
}


class TestTerraform:
    def calls(self, of: Guide) -> list[tuple[str, str, list[str], list[str]]]:
        """Stack, subcommand, options and arguments of every call."""
        found = []
        for line, words in calls(of, "terraform"):
            folder = words[0].removeprefix("-chdir=")
            stack = folder.rpartition("/")[2]
            assert folder == str(Workspace(Path(".cali/default")).stack(stack)), line
            command = " ".join(words[1:3]) if words[1] == "state" else words[1]
            rest = words[1 + len(command.split()) :]
            found.append(
                (
                    stack,
                    command,
                    [w for w in rest if w.startswith("-")],
                    [w for w in rest if not w.startswith("-")],
                )
            )
        return found

    def test_every_call_is_in_a_stack_s_folder_with_options_that_terraform_has(self, each: Guide) -> None:
        used = set()
        for stack, command, options, _ in self.calls(each):
            assert stack in STACKS or stack == "$stack"
            assert {option.split("=")[0] for option in options} <= TERRAFORM[command], command
            used.add(command)
        assert used == TERRAFORM.keys()

    def test_every_address_is_one_of_the_stack(self, each: Guide) -> None:
        addresses = []
        for stack, command, options, arguments in self.calls(each):
            addresses += [(stack, option.split("=", 1)[1]) for option in options if "=" in option]
            if command in ("state show", "import", "untaint"):
                addresses.append((stack, arguments[0]))
        assert len(addresses) > 3
        for stack, address in addresses:
            assert has_resource(stack, address), address

    def test_the_role_to_import_has_the_name_that_the_stack_gives_it(self, each: Guide) -> None:
        (arguments,) = [arguments for _, command, _, arguments in self.calls(each) if command == "import"]
        settings = Settings()
        assert arguments == ["aws_iam_role.cluster", f"{settings.cluster_name}-{settings.region}-cluster"]
        assert '"${local.role_prefix}-cluster"' in hcl("eks")
        assert 'role_prefix = "${var.cluster_name}-${var.region}"' in hcl("eks")

    def test_the_loop_is_over_every_stack(self, each: Guide) -> None:
        (loop,) = re.findall(
            r"^for stack in (.*); do$", "\n".join(code for _, code in each.blocks), re.MULTILINE
        )
        assert loop.split() == [stage.name for stage in STAGES if stage.name in STACKS]

    def test_files_of_the_workspace_have_the_names_that_cali_gives_them(self, each: Guide) -> None:
        source = "".join(path.read_text() for path in (ROOT / "cali_infra").rglob("*.py"))
        rows = next(table for table in each.tables if "`workspace.json`" in table[0][0])
        for row in rows:
            name = spans(row[0])[0].replace("STACK/", "").rstrip("/").rpartition("/")[2]
            assert f'"{name}"' in source, name
        assert "errored.tfstate" in "".join(each.spans)

    def test_where_a_state_lies_in_the_bucket(self, each: Guide) -> None:
        settings = Settings.model_validate({"state": {"backend": "s3", "bucket": "acme-terraform-state"}})
        key = state_key(settings, "eks")
        text = "\n".join(each.commands)
        assert f"s3://acme-terraform-state/{key}.tflock " in text
        assert f"--bucket acme-terraform-state --prefix {key}\n" in text
        assert state_key(settings, "STACK") in each.spans
        assert f"{settings.state.prefix}/{settings.environment}/{lease.NAME}" in each.spans


# -- kubectl, Helm, the AWS CLI, curl -------------------------------------------------------------------------

# Options of kubectl that take a value, and those that do not. Source: `kubectl options`, `kubectl VERB --help`.
WITH_VALUE = {"-n", "-l", "-L", "-o", "-c", "--tail", "--patch", "--sort-by", "--image", "--field-selector"}
FLAGS = {
    "--all-namespaces",
    "--previous",
    "--all-containers",
    "--watch",
    "--prefix",
    "-i",
    "-it",
    "--cascade=orphan",
}
VERBS = {
    *("get", "describe", "logs", "exec", "port-forward", "patch", "delete", "debug", "rollout status"),
    "rollout restart",
}
# What the manifests and the pinned charts make, by namespace: kind/name, and its containers. Sources: k8s/, EKS'
# add-on of the EBS driver, and the charts' templates. Airflow 1.22.0: those of scheduler, dag-processor and
# api-server, jobs/migrate-database-job.yaml, the bundled PostgreSQL. Milvus 5.0.19: standalone-deployment.yaml, its
# etcd and MinIO. cluster-autoscaler 9.59.0: _helpers.tpl.
MADE: Mapping[str, Mapping[str, Sequence[str]]] = {
    "airflow": {
        "deployment/airflow-scheduler": ("scheduler",),
        "deployment/airflow-dag-processor": ("dag-processor", "git-sync"),
        "deployment/airflow-api-server": ("api-server",),
        "service/airflow-api-server": (),
        "statefulset/airflow-postgresql": (),
        "pod/airflow-postgresql-0": ("postgresql",),
        "pvc/data-airflow-postgresql-0": (),
        "job/airflow-run-airflow-migrations": (),
        "secret/airflow-admin": (),
        "secret/airflow-database": (),
    },
    "milvus": {
        "deployment/milvus-standalone": ("standalone",),
        "deployment/milvus-minio": (),
        "pod/milvus-etcd-0": ("etcd",),
        "service/milvus": (),
        "secret/milvus-root": (),
    },
    "grafana": {"deployment/grafana": ("grafana",), "service/grafana": (), "secret/grafana-admin": ()},
    "logging": {"daemonset/fluent-bit": ("fluent-bit",)},
    "kube-system": {
        "configmap/cluster-autoscaler-status": (),
        "deployment/cluster-autoscaler-aws-cluster-autoscaler": (),
        "deployment/ebs-csi-controller": ("csi-provisioner",),
    },
}
# By which labels objects are found, and no label at all.
LABELS = {
    *("", "owner=helm"),
    *(f"app.kubernetes.io/name={name}" for name in ("fluent-bit", jobs.LABELS["app.kubernetes.io/name"])),
}
KINDS = {
    *(
        "apiservices",
        "configmap",
        "events",
        "jobs",
        "namespace",
        "namespaces",
        "node",
        "nodes",
        "pod",
        "pods",
        "poddisruptionbudgets",
    ),
    *("pv", "pvc", "secret", "secrets", "statefulset", "storageclass"),
}


def kubectl(words: list[str]) -> tuple[str, dict[str, str], list[str], list[str]]:
    """Verb, options, arguments, and the command inside the pod."""
    inside = words[words.index("--") + 1 :] if "--" in words else []
    rest = iter(words[: words.index("--")] if "--" in words else words)
    options: dict[str, str] = {}
    arguments: list[str] = []
    for word in rest:
        name, _, value = word.partition("=")
        if word in FLAGS:
            options[word] = ""
        elif name in WITH_VALUE:
            options[name] = value or next(rest)
        else:
            assert not word.startswith("-"), f"kubectl has no {word}, as far as is known here"
            arguments.append(word)
    length = 2 if arguments[0] == "rollout" else 1
    return " ".join(arguments[:length]), options, arguments[length:], inside


class TestKubectl:
    def test_every_verb_option_and_kind_exists(self, each: Guide) -> None:
        used = set()
        for line, words in calls(each, "kubectl"):
            verb, options, arguments, _ = kubectl(words)
            assert verb in VERBS, line
            assert options.get("-n", "logging") in {*MADE, "NAMESPACE"}, line
            used.add(verb)
            if verb in ("get", "describe", "delete", "patch"):
                assert set(arguments[0].split(",")) <= KINDS, line
            if verb == "exec":
                assert "--" in words, line
        assert used == VERBS

    def test_every_object_and_container_is_one_that_is_made(self, each: Guide) -> None:
        seen = set()
        for line, words in calls(each, "kubectl"):
            verb, options, arguments, _ = kubectl(words)
            there = MADE.get(options.get("-n", ""), {})
            named = [one for one in arguments if "/" in one and not PLACEHOLDER.search(one)]
            if verb in ("patch", "delete", "get") and len(arguments) == 2 and there:
                named = [f"{arguments[0]}/{arguments[1]}"]
            if verb == "exec" and "/" not in arguments[0]:
                named = [f"pod/{arguments[0]}"]
            for one in named:
                assert one in there, line
                assert options.get("-c", "") in ("", *there[one]), line
                seen.add(one)
            for name in options.get("-l", "").split(","):
                assert name in LABELS, line
        # A table that grows beyond what the guide needs proves nothing.
        assert seen == {one for there in MADE.values() for one in there}

    def test_ports_are_the_services_own(self, each: Guide) -> None:
        ports = {
            "service/grafana": {"80"},
            "service/airflow-api-server": {"8080"},
            "service/milvus": {str(service_secrets.MILVUS_PORT), "9091"},
            "POD": {"2020"},
        }
        for line, words in calls(each, "kubectl"):
            verb, _, arguments, _ = kubectl(words)
            if verb == "port-forward":
                assert arguments[1].split(":")[1] in ports[arguments[0]], line

    def test_what_runs_in_a_pod_is_no_password_on_a_command_line(self, each: Guide) -> None:
        inside = [kubectl(words)[3] for _, words in calls(each, "kubectl") if "--" in words]
        text = [" ".join(words) for words in inside]
        assert "grafana cli admin reset-admin-password --password-from-stdin" in text
        assert "airflow users reset-password --username admin" in text
        assert not [line for line in text if re.search(r"(^| )(-p|--password)( |=)", line)]

    def test_the_names_of_the_manifests_are_theirs(self) -> None:
        manifests = (ROOT / "k8s" / "fluent-bit" / "daemonset.yaml").read_text()
        daemon_set = yaml.safe_load(manifests)
        assert daemon_set["metadata"]["name"] == "fluent-bit"
        assert daemon_set["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"] == "fluent-bit"
        (container,) = daemon_set["spec"]["template"]["spec"]["containers"]
        assert container["name"] in MADE["logging"]["daemonset/fluent-bit"]


HELM: Mapping[str, set[str]] = {
    "list": {"--all-namespaces"},
    "history": set(),
    "get values": set(),
    "rollback": {"--wait", "--timeout"},
    "uninstall": {"--wait"},
    "show chart": {"--repo"},
}


class TestHelm:
    def test_every_call_is_one_that_helm_knows_on_a_release_that_cali_makes(self, each: Guide) -> None:
        used = set()
        for line, words in calls(each, "helm"):
            namespace = words[1] if words[0] == "-n" else None
            words = words[2:] if namespace else words
            verb = " ".join(words[: 2 if words[0] in ("get", "show") else 1])
            rest = words[len(verb.split()) :]
            assert {word for word in rest if word.startswith("-")} <= HELM[verb], line
            used.add(verb)
            if namespace is not None:
                assert namespace == rest[0], line
                assert f'name       = "{rest[0]}"' in hcl("services")
        assert used == HELM.keys()

    def test_every_chart_is_looked_up_where_it_is_taken_from(self, each: Guide) -> None:
        looked_up = {(words[2], words[4]) for _, words in calls(each, "helm") if words[0] == "show"}
        taken = set()
        for stack in ("autoscaler", "services"):
            taken |= {
                (chart, repository)
                for repository, chart in re.findall(r'repository = "(.*)"\n\s*chart +=\s*"(.*)"', hcl(stack))
            }
        assert looked_up == taken


# What the AWS CLI adds to AWS' own operations, with the options that are used here.
CUSTOMIZED = {
    ("sso", "login"): {"--profile"},
    ("eks", "update-kubeconfig"): {"--name", "--alias"},
    ("logs", "tail"): {"--since"},
    ("s3", "cp"): set(),
}
GLOBAL = {"--query", "--output"}


@cache
def aws() -> botocore.session.Session:
    """AWS' own words for what it can do; nothing is called."""
    return botocore.session.get_session()


@cache
def service(name: str) -> Any:
    """The operations of a service."""
    return aws().get_service_model(name)


class TestAws:
    def test_every_call_is_one_of_aws_with_parameters_that_it_has(self, each: Guide) -> None:
        seen = 0
        for line, words in calls(each, "aws"):
            name, operation = words[:2]
            given = {word for word in words if word.startswith("--")} - GLOBAL
            if (name, operation) in CUSTOMIZED:
                assert given <= CUSTOMIZED[name, operation], line
                continue
            model = service("s3" if name == "s3api" else name)
            if operation == "wait":
                waiters = aws().get_waiter_model(name)
                (waiter,) = [one for one in waiters.waiter_names if xform_name(one, "-") == words[2]]
                operation = xform_name(waiters.get_waiter(waiter).operation, "-")
            names = {xform_name(one, "-"): one for one in model.operation_names}
            assert operation in names, line
            shape = model.operation_model(names[operation])
            has = {
                f"--{xform_name(one, '-')}"
                for one in (shape.input_shape.members if shape.input_shape else ())
            }
            assert given <= has, line
            needed = {
                f"--{xform_name(one, '-')}" for one in (shape.input_shape.required_members if given else ())
            }
            assert needed <= given, line
            self.look_at_the_query(line, words, shape.output_shape)
            seen += 1
        assert seen > 10

    def look_at_the_query(self, line: str, words: list[str], answer: Any) -> None:
        """Every name in a query is one of the answer's, all the way down."""
        if "--query" in words:
            tree = jmespath.compile(words[words.index("--query") + 1]).parsed
            assert list(fields(tree, answer)), line

    def test_the_region_is_given_once_and_for_all(self, each: Guide) -> None:
        settings = Settings()
        assert f"export AWS_PROFILE=cali AWS_REGION={settings.region}" in each.commands
        assert not [line for line in each.commands if "--region" in line]

    def test_log_groups_and_the_node_group_have_the_stacks_names(self, each: Guide) -> None:
        text = "\n".join(each.commands)
        cluster = Settings().cluster_name
        assert set(re.findall(r"logs tail (\S+)", text)) == {
            f"/aws/eks/{cluster}/cluster",
            f"/aws/opensearch/{cluster}/application",
        }
        assert 'log_group = "/aws/eks/${var.cluster_name}/cluster"' in hcl("eks")
        assert '"/aws/opensearch/${var.domain_name}/${each.value}"' in hcl("search")
        assert set(re.findall(r"--nodegroup-name (\S+)", text)) == {f"{cluster}-nodes"}
        assert 'node_group_name = "${var.cluster_name}-nodes"' in hcl("eks")
        assert set(re.findall(r"--(?:cluster-|domain-)?name (cali-\S+)", text)) == {cluster}
        assert set(re.findall(r"--addon-name (\S+)", text)) <= set(re.findall(r'"([a-z-]+)"', hcl("eks")))


def fields(tree: Mapping[str, Any], shape: Any) -> Iterator[str]:
    """The fields that a JMESPath expression asks of a shape; fails where there is none of that name."""
    kind, children = tree["type"], tree["children"]
    if kind == "field":
        assert tree["value"] in shape.members, f"{shape.name} has no {tree['value']}"
        yield tree["value"]
    elif kind in ("subexpression", "projection"):
        yield from fields(children[0], shape)
        yield from fields(children[1], reached(children[0], shape))
    elif kind == "flatten":
        yield from fields(children[0], shape)
    elif kind == "multi_select_list":
        for child in children:
            yield from fields(child, shape)
    else:
        assert kind == "identity", kind


def reached(tree: Mapping[str, Any], shape: Any) -> Any:
    """The shape that an expression leads to, inside of lists."""
    if tree["type"] == "field":
        found = shape.members[tree["value"]]
    else:
        found = shape
        for child in tree["children"]:
            found = reached(child, found)
    return found.member if found.type_name == "list" else found


class TestCurl:
    def test_users_are_the_domain_s_and_the_prefix_is_cali_s(self, each: Guide) -> None:
        text = "\n".join(each.of("curl"))
        settings = Settings()
        assert set(re.findall(r"--user (\S+)", text)) == {READER, settings.search.master_username}
        assert {READER, WRITER, settings.search.master_username} <= set(each.spans)
        prefixes = set(re.findall(r"\$ENDPOINT/(?:_cat/indices/)?([a-z][a-z-]*?)-[\d*]", text))
        assert prefixes == {settings.logging.index_prefix}

    def test_the_field_that_is_searched_is_the_one_of_the_dashboard(self, each: Guide) -> None:
        dashboard = (ROOT / "terraform" / "services" / "dashboards" / "logs.json").read_text()
        (field,) = re.findall(r"_search\?q=([\w.]+):", "\n".join(each.of("curl")))
        assert field in dashboard


class TestTheseChecks:
    """They notice what they are for."""

    @pytest.mark.parametrize(
        ("line", "check"),
        [
            ("aws eks list-insight --cluster-name cali-default", "aws"),
            ("aws eks describe-cluster --cluster-name cali-default", "aws"),
            ("aws eks describe-cluster --name cali-default --query cluster.versoin", "aws"),
            ("aws eks list-insights --cluster-name cali-default --query 'insights[].[name,state]'", "aws"),
            ("kubectl -n airflow log POD", "kubectl"),
            ("kubectl -n airlfow get pods", "kubectl"),
            ("kubectl -n airflow logs deployment/airflow-webserver", "objects"),
            ("kubectl -n airflow logs deployment/airflow-scheduler -c worker", "objects"),
            ("terraform -chdir=.cali/default/eks plan", "terraform"),
            ("terraform -chdir=.cali/default/terraform/eks refresh", "terraform"),
            ("terraform -chdir=.cali/default/terraform/eks state show aws_eks_nodegroup.this", "addresses"),
            (
                "terraform -chdir=.cali/default/terraform/services apply -target=helm_release.grafana",
                "addresses",
            ),
            ("helm -n airflow delete airflow", "helm"),
            ("helm -n default history airflow", "helm"),
            ("cali up servces", "stages"),
        ],
    )
    def test_a_mistake_is_noticed(self, line: str, check: str) -> None:
        checks: Mapping[str, Callable[[Guide], None]] = {
            "aws": TestAws().test_every_call_is_one_of_aws_with_parameters_that_it_has,
            "kubectl": TestKubectl().test_every_verb_option_and_kind_exists,
            "objects": TestKubectl().test_every_object_and_container_is_one_that_is_made,
            "terraform": TestTerraform().test_every_call_is_in_a_stack_s_folder_with_options_that_terraform_has,
            "addresses": TestTerraform().test_every_address_is_one_of_the_stack,
            "helm": TestHelm().test_every_call_is_one_that_helm_knows_on_a_release_that_cali_makes,
            "stages": TestCali().test_every_stage_is_one,
        }
        right = guide(OPERATIONS[0])
        checks[check](right)
        with pytest.raises((AssertionError, KeyError)):
            checks[check](Guide(right.name, f"{right.text}\n```console\n{line}\n```\n"))
