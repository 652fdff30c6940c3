resource "aws_kms_key" "secrets" {
  description         = "Secrets of the EKS cluster ${var.cluster_name}"
  enable_key_rotation = true

  # The longest: a cluster whose key is gone cannot be read again, and a waiting key costs nothing.
  deletion_window_in_days = 30
}

resource "aws_kms_alias" "secrets" {
  name          = "alias/eks/${var.cluster_name}"
  target_key_id = aws_kms_key.secrets.key_id
}
