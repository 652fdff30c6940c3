locals {
  # Keyed by zone, so that turning nat_per_zone on adds gateways and keeps the first one and its address.
  nat_zones = toset(var.nat_per_zone ? local.zones : slice(local.zones, 0, 1))
}

# The domain's access policy names these addresses: they stay when a gateway is replaced.
resource "aws_eip" "nat" {
  for_each = local.nat_zones

  domain = "vpc"

  tags = {
    Name = "${var.cluster_name}-nat-${each.key}"
  }
}

resource "aws_nat_gateway" "this" {
  for_each = local.nat_zones

  allocation_id = aws_eip.nat[each.key].id
  subnet_id     = aws_subnet.public[each.key].id

  tags = {
    Name = "${var.cluster_name}-${each.key}"
  }

  # Without a way out of the VPC the gateway fails.
  depends_on = [aws_internet_gateway.this]
}
