data "aws_partition" "this" {}

locals {
  managed = { for arn, principal in var.principals : arn => principal if arn != var.creator_arn }

  # An admin of some namespaces administers what is in them, not the cluster.
  policy_names = {
    admin = { cluster = "AmazonEKSClusterAdminPolicy", namespace = "AmazonEKSAdminPolicy" }
    edit  = { cluster = "AmazonEKSEditPolicy", namespace = "AmazonEKSEditPolicy" }
    view  = { cluster = "AmazonEKSViewPolicy", namespace = "AmazonEKSViewPolicy" }
  }
  policies = "arn:${data.aws_partition.this.partition}:eks::aws:cluster-access-policy"

  # For whoever looks at the entry in the AWS console. The record is what counts (record.tf).
  tags = {
    for arn, principal in local.managed : arn => {
      for key, value in {
        name       = principal.name
        granted-by = principal.granted_by
        granted-at = principal.granted_at
        expires-at = principal.until == null ? "" : principal.until
      } :
      # EKS takes letters of any script, digits, spaces and a few signs.
      key => substr(replace(value, "/[^\\p{L}\\p{Z}\\p{N}_.:\\/=+@-]/", "_"), 0, 256) if value != ""
    }
  }
}

resource "aws_eks_access_entry" "this" {
  for_each = local.managed

  cluster_name  = var.cluster_name
  principal_arn = each.key
  type          = "STANDARD"
  tags          = local.tags[each.key]

  # Nobody gets access that is not on record or that nothing would end, also when an apply stops half way.
  depends_on = [terraform_data.record, aws_scheduler_schedule.expiry]

  lifecycle {
    # The schedule has run and will not run again: an entry made now would have no end.
    precondition {
      condition     = each.value.until == null || try(timecmp(each.value.until, plantimestamp()) > 0, false)
      error_message = "Access of ${each.key} ended on ${coalesce(each.value.until, "?")}: `cali up access` takes it off the record."
    }
  }
}

# An entry without a policy lets its principal in and allows nothing.
resource "aws_eks_access_policy_association" "this" {
  for_each = local.managed

  cluster_name  = aws_eks_access_entry.this[each.key].cluster_name
  principal_arn = aws_eks_access_entry.this[each.key].principal_arn
  policy_arn    = "${local.policies}/${local.policy_names[each.value.level][length(each.value.namespaces) > 0 ? "namespace" : "cluster"]}"

  access_scope {
    type       = length(each.value.namespaces) > 0 ? "namespace" : "cluster"
    namespaces = length(each.value.namespaces) > 0 ? each.value.namespaces : null
  }
}
