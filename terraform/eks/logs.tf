locals {
  log_group = "/aws/eks/${var.cluster_name}/cluster"
}

# Made before the cluster, which would otherwise make it by itself and keep its logs for ever.
resource "aws_cloudwatch_log_group" "control_plane" {
  name              = local.log_group
  retention_in_days = var.log_retention_days
}

# EKS writes its last lines after the cluster is gone and makes the group anew for them, so a cluster of the same
# name finds it in its way. It is taken over; the block is idle once the group is in the state.
data "aws_cloudwatch_log_groups" "left" {
  log_group_name_prefix = local.log_group
}

import {
  for_each = setintersection(data.aws_cloudwatch_log_groups.left.log_group_names, [local.log_group])
  to       = aws_cloudwatch_log_group.control_plane
  id       = each.value
}
