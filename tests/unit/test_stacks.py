"""The stacks as text: what their variables, outputs and providers promise, and the example of their values."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TERRAFORM = ROOT / "terraform"
EXAMPLE = ROOT / "terraform.tfvars.example"

COMMON = {"project", "environment", "region", "account_id", "profile", "extra_tags"}
VARIABLES = {
    "network": COMMON | {"cluster_name", "vpc_cidr", "nat_per_zone"},
    "eks": COMMON
    | {"cluster_name", "cluster_version", "support_type", "vpc_id", "private_subnet_ids", "allowed_cidrs"}
    | {"instance_types", "capacity_type", "min_nodes", "desired_nodes", "max_nodes", "disk_gib"}
    | {"log_types", "log_retention_days"},
    "search": COMMON
    | {"domain_name", "engine_version", "instance_type", "instance_count", "volume_gib"}
    | {"master_username", "master_password", "allowed_cidrs", "nat_public_ips"}
    | {"create_timeout", "update_timeout", "delete_timeout"},
    "access": COMMON | {"cluster_name", "creator_arn", "keep_expiry", "principals", "revoked"},
    "autoscaler": COMMON
    | {"cluster_name", "cluster_endpoint", "cluster_ca", "cluster_version"}
    | {"chart_version", "image_tag", "kube_exec"},
    "services": COMMON
    | {"cluster_name", "cluster_endpoint", "cluster_ca", "opensearch_endpoint", "kube_exec"}
    | {"pods", "revisions", "airflow", "milvus", "grafana"},
}
OUTPUTS = {
    "network": {"vpc_id", "private_subnet_ids", "public_subnet_ids", "nat_public_ips", "zones"},
    "eks": {"cluster_name", "cluster_arn", "cluster_endpoint", "cluster_ca", "cluster_version"}
    | {"cluster_security_group_id", "node_group_name", "creator_arn"},
    "search": {"opensearch_endpoint", "opensearch_domain_arn", "opensearch_domain_name"},
    "access": {"record", "dead_letters"},
    "autoscaler": {"release_name", "release_namespace", "role_arn"},
    "services": {"releases"},
}

each_stack = pytest.mark.parametrize("stack", VARIABLES)


def blocks(stack: str, kind: str) -> dict[str, str]:
    """The top-level blocks of a kind in a stack, by name; `terraform fmt` ends them with a brace in column 1."""
    found = re.findall(rf'^{kind} "(\w+)" \{{\n(.*?)^\}}$', text(stack), re.MULTILINE | re.DOTALL)
    names = [name for name, _ in found]
    assert len(names) == len(set(names)), names
    return dict(found)


def text(stack: str, *, without: str = "") -> str:
    """All of a stack's HCL."""
    return "\n".join(p.read_text() for p in sorted((TERRAFORM / stack).glob("*.tf")) if p.name != without)


@each_stack
def test_a_stack_declares_exactly_what_cali_renders(stack: str) -> None:
    assert set(blocks(stack, "variable")) == VARIABLES[stack]


@each_stack
def test_a_stack_gives_what_later_stacks_and_commands_read(stack: str) -> None:
    assert set(blocks(stack, "output")) == OUTPUTS[stack]


@each_stack
def test_variables_are_typed_described_validated_and_used(stack: str) -> None:
    elsewhere = text(stack, without="variables.tf")
    for name, body in blocks(stack, "variable").items():
        kind = re.search(r"^  type\s+= (.*)$", body, re.MULTILINE)
        assert kind, f"{name} has no type"
        assert re.search(r'^  description\s*= ".{10,}"$', body, re.MULTILINE), f"{name} is not described"
        # A boolean's type says all there is to check.
        assert kind[1] == "bool" or "  validation {" in body, f"{name} is not validated"
        assert f"var.{name}" in elsewhere, f"{name} is not used"


@each_stack
def test_only_what_may_be_left_out_has_a_default(stack: str) -> None:
    with_default = {name for name, body in blocks(stack, "variable").items() if "\n  default " in body}
    assert with_default == {"profile", "extra_tags"}


@each_stack
def test_outputs_are_described(stack: str) -> None:
    for name, body in blocks(stack, "output").items():
        assert re.search(r'^  description = ".{10,}"$', body, re.MULTILINE), name


@each_stack
def test_no_account_no_region_and_no_partition_is_written_down(stack: str) -> None:
    hcl = text(stack)
    assert not re.findall(r"\b\d{12}\b", hcl)
    assert not re.findall(r"\b[a-z]{2,3}-(?:gov-)?(?:north|south|east|west|central)[a-z]*-\d\b", hcl)
    assert not re.findall(r"arn:aws[a-z-]*:", hcl)


@each_stack
def test_a_stack_is_pinned_and_leaves_backend_and_lock_to_whoever_runs_it(stack: str) -> None:
    hcl = text(stack)
    assert 'required_version = ">= 1.11"' in hcl
    providers = dict(re.findall(r'source  = "([\w/]+)"\n\s+version = "(.+)"', hcl))
    assert providers["hashicorp/aws"] == "~> 5.100"
    assert providers.get("hashicorp/helm") == ("~> 3.0" if stack in ("autoscaler", "services") else None)
    assert not re.search(r"^\s*(backend|cloud) ", hcl, re.MULTILINE)
    # Hashes from a mirror fit one platform only.
    assert not (TERRAFORM / stack / ".terraform.lock.hcl").exists()


@each_stack
def test_every_resource_names_project_environment_stack_and_cali(stack: str) -> None:
    provider = blocks(stack, "provider")["aws"]
    assert "allowed_account_ids = [var.account_id]" in provider
    for tag in ("= var.project", "= var.environment", '= "cali"', f'= "{stack}"'):
        assert re.search(rf"^\s+[\w-]+\s+{re.escape(tag)}$", provider, re.MULTILINE), tag
    assert "merge(var.extra_tags" in provider


def test_the_password_is_the_only_sensitive_variable() -> None:
    sensitive = {
        name
        for stack in VARIABLES
        for name, body in blocks(stack, "variable").items()
        if re.search(r"^  sensitive\s+= true$", body, re.MULTILINE)
    }
    assert sensitive == {"master_password"}


def test_the_common_variables_are_the_same_everywhere() -> None:
    for name in COMMON:
        assert len({blocks(stack, "variable")[name] for stack in VARIABLES}) == 1, name


def example() -> list[tuple[str, bool]]:
    """The variables of the example in its order, and whether each is given a value."""
    found = re.findall(r"^(# )?([a-z_]+)\s*= ", EXAMPLE.read_text(), re.MULTILINE)
    return [(name, not commented) for commented, name in found]


def test_the_example_holds_every_variable_once_and_no_other() -> None:
    names = [name for name, _ in example()]
    assert sorted(names) == sorted(set().union(*VARIABLES.values()))


def test_the_example_gives_no_password_to_copy() -> None:
    assert [name for name, given in example() if not given] == ["master_password"]


def test_the_example_puts_each_variable_under_the_stacks_that_have_it() -> None:
    stacks: set[str] = set()
    for line in EXAMPLE.read_text().splitlines():
        if heading := re.match(r"# --- (.+?) -+$", line):
            stacks = (
                set(VARIABLES) if heading[1].startswith("common:") else set(re.findall(r"\w+", heading[1]))
            )
            assert stacks <= set(VARIABLES), line
        elif (assigned := re.match(r"(?:# )?([a-z_]+)\s*= ", line)) and stacks:
            having = {stack for stack, names in VARIABLES.items() if assigned[1] in names}
            assert stacks <= having, f"{assigned[1]} stands under {sorted(stacks)}"
