# Roles that add-ons get by EKS Pod Identity. The pods themselves reach no instance metadata (hop limit 1), and
# the nodes' own role has none of these rights.
data "aws_iam_policy_document" "pod_trust" {
  statement {
    actions = ["sts:AssumeRole", "sts:TagSession"]

    principals {
      type        = "Service"
      identifiers = ["pods.eks.amazonaws.com"]
    }
  }
}

locals {
  addon_roles = {
    vpc-cni = {
      service_account = "aws-node"
      policy          = "AmazonEKS_CNI_Policy"
    }
    aws-ebs-csi-driver = {
      service_account = "ebs-csi-controller-sa"
      # Not AmazonEBSCSIDriverPolicy: this one reaches only volumes that carry the driver's own tag.
      policy = "AmazonEBSCSIDriverPolicyV2"
    }
  }
}

resource "aws_iam_role" "addon" {
  for_each = local.addon_roles

  name               = "${local.role_prefix}-${each.key}"
  description        = "Add-on ${each.key} of the EKS cluster ${var.cluster_name}"
  assume_role_policy = data.aws_iam_policy_document.pod_trust.json
}

resource "aws_iam_role_policy_attachment" "addon" {
  for_each = local.addon_roles

  role       = aws_iam_role.addon[each.key].name
  policy_arn = "${local.policies}/${each.value.policy}"
}
