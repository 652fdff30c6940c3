output "opensearch_endpoint" {
  description = "Host of the domain, with a port where it is not 443, without a scheme."
  value       = aws_opensearch_domain.this.endpoint
}

output "opensearch_domain_arn" {
  description = "ARN of the domain."
  value       = aws_opensearch_domain.this.arn
}

output "opensearch_domain_name" {
  description = "Name of the domain."
  value       = aws_opensearch_domain.this.domain_name
}
