# Milvus as a cluster keeps its data in a bucket that exists: what Terraform has not made, it does not delete.
# Its nodes get at it by a role of their service account. By EKS Pod Identity only half of Milvus would: the part
# that is written in C++ finds no keys (milvus-io/milvus#42547).
locals {
  milvus_service_account = "milvus"
  milvus_bucket          = local.milvus_cluster ? toset([var.milvus.bucket]) : toset([])
}

data "aws_partition" "this" {
  count = local.milvus_cluster ? 1 : 0
}

# Looked at before anything is made, so that a bucket that is missing is said by the plan.
data "aws_s3_bucket" "milvus" {
  for_each = local.milvus_bucket

  bucket = each.key
}

data "aws_eks_cluster" "this" {
  count = local.milvus_cluster ? 1 : 0

  name = var.cluster_name
}

resource "aws_iam_openid_connect_provider" "this" {
  count = local.milvus_cluster ? 1 : 0

  url            = data.aws_eks_cluster.this[0].identity[0].oidc[0].issuer
  client_id_list = ["sts.${data.aws_partition.this[0].dns_suffix}"]
}

data "aws_iam_policy_document" "milvus_trust" {
  count = local.milvus_cluster ? 1 : 0

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [aws_iam_openid_connect_provider.this[0].arn]
    }

    condition {
      test     = "StringEquals"
      variable = "${trimprefix(aws_iam_openid_connect_provider.this[0].url, "https://")}:sub"
      values   = ["system:serviceaccount:milvus:${local.milvus_service_account}"]
    }

    condition {
      test     = "StringEquals"
      variable = "${trimprefix(aws_iam_openid_connect_provider.this[0].url, "https://")}:aud"
      values   = aws_iam_openid_connect_provider.this[0].client_id_list
    }
  }
}

resource "aws_iam_role" "milvus" {
  count = local.milvus_cluster ? 1 : 0

  name               = "${var.cluster_name}-${var.region}-milvus"
  description        = "Milvus on the EKS cluster ${var.cluster_name}"
  assume_role_policy = data.aws_iam_policy_document.milvus_trust[0].json
}

data "aws_iam_policy_document" "milvus" {
  for_each = local.milvus_bucket

  statement {
    sid       = "Find"
    actions   = ["s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads"]
    resources = [data.aws_s3_bucket.milvus[each.key].arn]
  }

  statement {
    sid = "ReadAndWrite"

    actions = [
      "s3:GetObject",
      "s3:PutObject",
      "s3:DeleteObject",
      "s3:AbortMultipartUpload",
      "s3:ListMultipartUploadParts",
    ]
    resources = ["${data.aws_s3_bucket.milvus[each.key].arn}/*"]
  }
}

resource "aws_iam_role_policy" "milvus" {
  for_each = local.milvus_bucket

  name   = "data-of-${var.cluster_name}"
  role   = aws_iam_role.milvus[0].id
  policy = data.aws_iam_policy_document.milvus[each.key].json
}
