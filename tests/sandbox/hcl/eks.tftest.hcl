# Plans of the stack eks against an AWS that answers what is written here; nothing is called.

mock_provider "aws" {
  mock_data "aws_partition" {
    defaults = { partition = "aws-example" }
  }

  mock_data "aws_subnet" {
    defaults = { vpc_id = "vpc-0a" }
  }

  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }

  mock_data "aws_ec2_instance_type" {
    defaults = { supported_architectures = ["x86_64"] }
  }

  mock_data "aws_default_tags" {
    defaults = { tags = { project = "cali" } }
  }

  mock_data "aws_eks_addon_version" {
    defaults = { version = "v1.0.0-eksbuild.1" }
  }

  mock_data "aws_caller_identity" {
    defaults = { arn = "arn:aws-example:sts::111122223333:assumed-role/lead/session" }
  }

  mock_data "aws_iam_session_context" {
    defaults = { issuer_arn = "arn:aws-example:iam::111122223333:role/team/lead" }
  }
}

override_data {
  target = data.aws_subnet.private["subnet-0a"]
  values = { vpc_id = "vpc-0a", availability_zone = "zone-a" }
}

override_data {
  target = data.aws_subnet.private["subnet-0b"]
  values = { vpc_id = "vpc-0a", availability_zone = "zone-b" }
}

variables {
  project            = "cali"
  environment        = "default"
  region             = "xx-example-1"
  account_id         = "111122223333"
  cluster_name       = "cali-default"
  cluster_version    = "1.35"
  support_type       = "STANDARD"
  vpc_id             = "vpc-0a"
  private_subnet_ids = ["subnet-0a", "subnet-0b"]
  allowed_cidrs      = ["203.0.113.7/32"]
  instance_types     = ["m6i.xlarge"]
  capacity_type      = "ON_DEMAND"
  min_nodes          = 2
  desired_nodes      = 3
  max_nodes          = 8
  disk_gib           = 80
  log_types          = ["audit"]
  log_retention_days = 30
}

run "what_the_platform_relies_on" {
  command = plan

  assert {
    condition = (
      aws_eks_cluster.this.access_config[0].authentication_mode == "API" &&
      aws_eks_cluster.this.access_config[0].bootstrap_cluster_creator_admin_permissions == true
    )
    error_message = "Access is in access entries, and who makes the cluster administers it: left out, the provider sends false."
  }

  assert {
    condition = (
      aws_eks_cluster.this.vpc_config[0].endpoint_private_access &&
      aws_eks_cluster.this.vpc_config[0].endpoint_public_access &&
      aws_eks_cluster.this.vpc_config[0].public_access_cidrs == toset(["203.0.113.7/32"])
    )
    error_message = "The public endpoint is open to the networks that were named."
  }

  assert {
    condition = (
      aws_launch_template.node.metadata_options[0].http_tokens == "required" &&
      aws_launch_template.node.metadata_options[0].http_put_response_hop_limit == 1 &&
      aws_launch_template.node.block_device_mappings[0].ebs[0].volume_type == "gp3" &&
      aws_launch_template.node.block_device_mappings[0].ebs[0].encrypted == "true"
    )
    error_message = "Pods reach no instance metadata, and root volumes are encrypted."
  }

  assert {
    condition = alltrue([
      for spec in aws_launch_template.node.tag_specifications : spec.tags["project"] == "cali"
    ]) && length(aws_launch_template.node.tag_specifications) == 3
    error_message = "Instances, volumes and interfaces carry the default tags."
  }

  assert {
    condition     = aws_eks_node_group.this.ami_type == "AL2023_x86_64_STANDARD"
    error_message = "The image follows the processor of the instance types."
  }

  assert {
    condition = (
      keys(aws_eks_addon.before_nodes) == ["eks-pod-identity-agent", "kube-proxy", "vpc-cni"] &&
      keys(aws_eks_addon.after_nodes) == ["aws-ebs-csi-driver", "coredns"]
    )
    error_message = "Five add-ons, the network's before the nodes."
  }

  assert {
    condition = jsondecode(aws_eks_addon.after_nodes["aws-ebs-csi-driver"].configuration_values) == {
      controller          = { region = "xx-example-1" }
      defaultStorageClass = { enabled = false }
    }
    error_message = "The EBS CSI driver knows its region and makes no default StorageClass."
  }

  assert {
    condition = (
      one(aws_eks_addon.before_nodes["vpc-cni"].pod_identity_association).service_account == "aws-node" &&
      one(aws_eks_addon.after_nodes["aws-ebs-csi-driver"].pod_identity_association).service_account == "ebs-csi-controller-sa" &&
      length(aws_eks_addon.after_nodes["coredns"].pod_identity_association) == 0
    )
    error_message = "Pod identities come with the add-on that needs them."
  }

  assert {
    condition = alltrue([
      for attachment in aws_iam_role_policy_attachment.node :
      startswith(attachment.policy_arn, "arn:aws-example:iam::aws:policy/") && !strcontains(attachment.policy_arn, "CNI")
    ])
    error_message = "Policies follow the partition, and the nodes' role has no rights of the network add-on."
  }

  assert {
    condition     = terraform_data.creator.input == "arn:aws-example:iam::111122223333:role/team/lead"
    error_message = "The creator is the role behind the session."
  }
}

run "without_networks_no_public_endpoint" {
  command = plan

  variables {
    allowed_cidrs = []
  }

  assert {
    condition     = !aws_eks_cluster.this.vpc_config[0].endpoint_public_access
    error_message = "An empty list closes the public endpoint; it never opens it to everyone."
  }
}

run "arm_nodes_get_an_arm_image" {
  command = plan

  override_data {
    target = data.aws_ec2_instance_type.node["m7g.xlarge"]
    values = { supported_architectures = ["arm64"] }
  }

  variables {
    instance_types = ["m7g.xlarge"]
  }

  assert {
    condition     = aws_eks_node_group.this.ami_type == "AL2023_ARM_64_STANDARD"
    error_message = "The image follows the processor of the instance types."
  }
}

run "processors_are_not_mixed" {
  command = plan

  override_data {
    target = data.aws_ec2_instance_type.node["m7g.xlarge"]
    values = { supported_architectures = ["arm64"] }
  }

  variables {
    instance_types = ["m6i.xlarge", "m7g.xlarge"]
  }

  expect_failures = [aws_eks_node_group.this]
}

run "subnets_of_another_vpc_are_refused" {
  command = plan

  variables {
    vpc_id = "vpc-0b"
  }

  expect_failures = [data.aws_subnet.private]
}

run "subnets_of_one_zone_are_refused" {
  command = plan

  override_data {
    target = data.aws_subnet.private["subnet-0b"]
    values = { vpc_id = "vpc-0a", availability_zone = "zone-a" }
  }

  expect_failures = [aws_eks_cluster.this]
}

run "fewer_desired_than_min_is_refused" {
  command = plan

  variables {
    min_nodes = 4
  }

  expect_failures = [aws_eks_node_group.this]
}

run "a_plain_address_is_no_network" {
  command = plan

  variables {
    allowed_cidrs = ["203.0.113.7"]
  }

  expect_failures = [var.allowed_cidrs]
}

run "a_retention_that_cloudwatch_does_not_know" {
  command = plan

  variables {
    log_retention_days = 31
  }

  expect_failures = [var.log_retention_days]
}

run "a_log_type_that_eks_does_not_know" {
  command = plan

  variables {
    log_types = ["audits"]
  }

  expect_failures = [var.log_types]
}
