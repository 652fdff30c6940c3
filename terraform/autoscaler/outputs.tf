output "release_name" {
  description = "Name of the Helm release."
  value       = helm_release.this.name
}

output "release_namespace" {
  description = "Namespace of the Helm release."
  value       = helm_release.this.namespace
}

output "role_arn" {
  description = "ARN of the role that the autoscaler gets by pod identity."
  value       = aws_iam_role.this.arn
}
