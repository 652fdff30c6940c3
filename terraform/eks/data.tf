data "aws_partition" "this" {}

# Checked before the cluster is made, which takes 12 minutes and cannot change its VPC afterwards.
data "aws_subnet" "private" {
  for_each = toset(var.private_subnet_ids)

  id = each.value

  lifecycle {
    postcondition {
      condition     = self.vpc_id == var.vpc_id
      error_message = "Subnet ${self.id} is in ${self.vpc_id}, not in ${var.vpc_id}."
    }
  }
}

locals {
  # IAM knows no regions: the region in the name keeps two clusters of one name apart.
  role_prefix = "${var.cluster_name}-${var.region}"
  policies    = "arn:${data.aws_partition.this.partition}:iam::aws:policy"
}
