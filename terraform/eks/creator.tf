data "aws_caller_identity" "this" {}

# A session's ARN has lost the path of its role; this gives the role itself.
data "aws_iam_session_context" "this" {
  arn = data.aws_caller_identity.this.arn
}

# EKS gives the creator of a cluster an access entry of its own. Who that was is fixed here for the life of the
# cluster: if it followed the caller, two operators would fight over one entry.
resource "terraform_data" "creator" {
  input            = data.aws_iam_session_context.this.issuer_arn
  triggers_replace = aws_eks_cluster.this.created_at

  lifecycle {
    ignore_changes = [input]
  }
}
