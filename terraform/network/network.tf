data "aws_availability_zones" "this" {
  state = "available"

  # Without this the list also holds local zones and wavelength zones that the account has opted into.
  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }

  # EKS puts no control plane into these.
  # Source: EKS user guide, "VPC and subnet requirements".
  exclude_zone_ids = ["use1-az3", "usw1-az2", "cac1-az3"]

  lifecycle {
    postcondition {
      condition     = length(self.names) >= local.zone_count
      error_message = "Region ${var.region} has ${length(self.names)} zones that EKS can use; this network needs ${local.zone_count}."
    }
  }
}

locals {
  zone_count = 3
  zones      = slice(sort(data.aws_availability_zones.this.names), 0, local.zone_count)

  # The range is cut into quarters: one for the private subnet of each zone, where every pod takes an address.
  # The last quarter is cut into quarters again: a public subnet for each zone, and one that stays free.
  quarters        = [for index in range(4) : cidrsubnet(var.vpc_cidr, 2, index)]
  private_subnets = { for index, zone in local.zones : zone => local.quarters[index] }
  public_subnets  = { for index, zone in local.zones : zone => cidrsubnet(local.quarters[3], 2, index) }
}

resource "aws_vpc" "this" {
  cidr_block = var.vpc_cidr

  # The private endpoint of EKS is a name that only the VPC's own resolver answers.
  enable_dns_support   = true
  enable_dns_hostnames = true

  tags = {
    Name = var.cluster_name
  }
}

# Whatever is launched without a security group gets this one: it lets nothing in and nothing out.
resource "aws_default_security_group" "this" {
  vpc_id = aws_vpc.this.id

  tags = {
    Name = "${var.cluster_name}-default-unused"
  }
}

# Addresses in public subnets are given by what needs one (NAT gateways, load balancers), never by the subnet.
resource "aws_subnet" "public" {
  for_each = local.public_subnets

  vpc_id            = aws_vpc.this.id
  availability_zone = each.key
  cidr_block        = each.value

  tags = {
    Name                                        = "${var.cluster_name}-public-${each.key}"
    "kubernetes.io/role/elb"                    = "1"
    "kubernetes.io/cluster/${var.cluster_name}" = "shared"
  }
}

resource "aws_subnet" "private" {
  for_each = local.private_subnets

  vpc_id            = aws_vpc.this.id
  availability_zone = each.key
  cidr_block        = each.value

  tags = {
    Name                                        = "${var.cluster_name}-private-${each.key}"
    "kubernetes.io/role/internal-elb"           = "1"
    "kubernetes.io/cluster/${var.cluster_name}" = "shared"
  }
}
