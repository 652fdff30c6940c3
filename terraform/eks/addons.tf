locals {
  # A node is Ready only with these, and a managed node group is made only when its nodes are Ready. They run on
  # the host's network, so they need no node to be installed; vpc-cni takes its rights from the pod identity
  # agent, which is there as early. On the way down they outlive the nodes: vpc-cni gives network interfaces back.
  addons_before_nodes = ["eks-pod-identity-agent", "kube-proxy", "vpc-cni"]

  # These run as ordinary pods: without a node they sit DEGRADED for 20 minutes, and then fail.
  addons_after_nodes = ["aws-ebs-csi-driver", "coredns"]

  addon_configuration = {
    aws-ebs-csi-driver = {
      # The driver would ask the instance metadata for its region, which pods do not reach.
      controller = { region = var.region }
      # The default StorageClass is cali's; two defaults make a claim's class a matter of chance.
      defaultStorageClass = { enabled = false }
    }
  }
}

# The version that EKS names as the default for this Kubernetes version, which is not always the newest.
data "aws_eks_addon_version" "this" {
  for_each = toset(concat(local.addons_before_nodes, local.addons_after_nodes))

  addon_name         = each.value
  kubernetes_version = var.cluster_version
}

resource "aws_eks_addon" "before_nodes" {
  for_each = toset(local.addons_before_nodes)

  cluster_name  = aws_eks_cluster.this.name
  addon_name    = each.value
  addon_version = data.aws_eks_addon_version.this[each.value].version

  configuration_values = try(jsonencode(local.addon_configuration[each.value]), null)

  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"

  # A pod that starts before its association gets no credentials, and does not ask again.
  dynamic "pod_identity_association" {
    for_each = try([local.addon_roles[each.value]], [])

    content {
      role_arn        = aws_iam_role.addon[each.value].arn
      service_account = pod_identity_association.value.service_account
    }
  }

  lifecycle {
    # A cluster made anew has the name of the old one, so nothing else tells that this went with it.
    replace_triggered_by = [aws_eks_cluster.this.created_at]
  }

  depends_on = [aws_iam_role_policy_attachment.addon]
}

resource "aws_eks_addon" "after_nodes" {
  for_each = toset(local.addons_after_nodes)

  cluster_name  = aws_eks_cluster.this.name
  addon_name    = each.value
  addon_version = data.aws_eks_addon_version.this[each.value].version

  configuration_values = try(jsonencode(local.addon_configuration[each.value]), null)

  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"

  dynamic "pod_identity_association" {
    for_each = try([local.addon_roles[each.value]], [])

    content {
      role_arn        = aws_iam_role.addon[each.value].arn
      service_account = pod_identity_association.value.service_account
    }
  }

  lifecycle {
    replace_triggered_by = [aws_eks_cluster.this.created_at]
  }

  depends_on = [
    aws_eks_node_group.this,
    aws_iam_role_policy_attachment.addon,
  ]
}
