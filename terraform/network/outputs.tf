output "vpc_id" {
  description = "Id of the VPC."
  value       = aws_vpc.this.id
}

output "private_subnet_ids" {
  description = "Ids of the private subnets, in the order of zones."
  value       = [for zone in local.zones : aws_subnet.private[zone].id]
}

output "public_subnet_ids" {
  description = "Ids of the public subnets, in the order of zones."
  value       = [for zone in local.zones : aws_subnet.public[zone].id]
}

output "nat_public_ips" {
  description = "Addresses that traffic from the private subnets comes from."
  value       = [for zone in sort(local.nat_zones) : aws_eip.nat[zone].public_ip]
}

output "zones" {
  description = "Names of the zones that the subnets lie in."
  value       = local.zones
}
