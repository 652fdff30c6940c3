output "record" {
  description = "Who has access and whose was taken away: principals and revoked, each by ARN."
  value       = terraform_data.record.output
}

output "dead_letters" {
  description = "URL of the queue with what could not be ended on time; empty while nobody's access ever had an end."
  value       = length(aws_sqs_queue.expiry) > 0 ? aws_sqs_queue.expiry[0].url : ""
}
