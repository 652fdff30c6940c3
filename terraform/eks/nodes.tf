data "aws_iam_policy_document" "node_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "node" {
  name               = "${local.role_prefix}-node"
  description        = "Nodes of the EKS cluster ${var.cluster_name}"
  assume_role_policy = data.aws_iam_policy_document.node_trust.json
}

# Join the cluster, hand out pod identities, pull images: nothing else. The network add-on has a role of its own.
resource "aws_iam_role_policy_attachment" "node" {
  for_each = toset(["AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly"])

  role       = aws_iam_role.node.name
  policy_arn = "${local.policies}/${each.value}"
}

data "aws_ec2_instance_type" "node" {
  for_each = toset(var.instance_types)

  instance_type = each.value
}

locals {
  architectures = distinct([
    for type in data.aws_ec2_instance_type.node : contains(type.supported_architectures, "arm64") ? "ARM_64" : "x86_64"
  ])
}

data "aws_default_tags" "this" {}

resource "aws_launch_template" "node" {
  name                   = "${var.cluster_name}-node"
  description            = "Nodes of the EKS cluster ${var.cluster_name}"
  update_default_version = true

  # Credentials of the node are for the node: IMDSv2, and no hop left for a pod.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_type           = "gp3"
      volume_size           = var.disk_gib
      encrypted             = true
      delete_on_termination = true
    }
  }

  # The provider's default tags reach the template, not what is launched from it.
  dynamic "tag_specifications" {
    for_each = ["instance", "volume", "network-interface"]

    content {
      resource_type = tag_specifications.value
      tags          = merge(data.aws_default_tags.this.tags, { Name = "${var.cluster_name}-node" })
    }
  }
}

# The name is fixed, so a change that needs new nodes (instance types, capacity type) deletes the group first:
# cali shows that and asks for it by name.
resource "aws_eks_node_group" "this" {
  cluster_name    = aws_eks_cluster.this.name
  node_group_name = "${var.cluster_name}-nodes"
  node_role_arn   = aws_iam_role.node.arn
  subnet_ids      = var.private_subnet_ids
  version         = aws_eks_cluster.this.version

  ami_type       = "AL2023_${local.architectures[0]}_STANDARD"
  capacity_type  = var.capacity_type
  instance_types = var.instance_types

  launch_template {
    id      = aws_launch_template.node.id
    version = aws_launch_template.node.latest_version
  }

  scaling_config {
    min_size     = var.min_nodes
    desired_size = var.desired_nodes
    max_size     = var.max_nodes
  }

  update_config {
    max_unavailable_percentage = 33
  }

  timeouts {
    create = "30m"
    update = "60m"
    delete = "30m"
  }

  lifecycle {
    # The autoscaler's, from the first pod on.
    ignore_changes = [scaling_config[0].desired_size]

    # A cluster made anew has the name of the old one, and cannot be deleted before its nodes.
    replace_triggered_by = [aws_eks_cluster.this.created_at]

    precondition {
      condition     = var.min_nodes <= var.desired_nodes && var.desired_nodes <= var.max_nodes
      error_message = "min_nodes, desired_nodes and max_nodes have to grow in this order; they are ${var.min_nodes}, ${var.desired_nodes} and ${var.max_nodes}."
    }

    precondition {
      condition     = length(local.architectures) == 1
      error_message = "instance_types mixes ARM and x86 (${join(", ", var.instance_types)}): one node group has one image."
    }
  }

  depends_on = [
    aws_eks_addon.before_nodes,
    aws_iam_role_policy_attachment.node,
  ]
}
