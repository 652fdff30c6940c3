output "record" {
  description = "Who has access and whose was taken away: principals and revoked, each by ARN."
  value       = terraform_data.record.output
}
