# Plans of the stack network against an AWS that answers what is written here; nothing is called.

mock_provider "aws" {
  mock_data "aws_availability_zones" {
    defaults = { names = ["zone-c", "zone-a", "zone-d", "zone-b"] }
  }
}

variables {
  project      = "cali"
  environment  = "default"
  region       = "xx-example-1"
  account_id   = "111122223333"
  cluster_name = "cali-default"
  vpc_cidr     = "10.40.0.0/16"
  nat_per_zone = false
}

run "three_zones_one_gateway" {
  command = plan

  assert {
    condition     = output.zones == tolist(["zone-a", "zone-b", "zone-c"])
    error_message = "The zones are the first three by name."
  }

  assert {
    condition = [for subnet in aws_subnet.private : subnet.cidr_block] == [
      "10.40.0.0/18", "10.40.64.0/18", "10.40.128.0/18"
    ]
    error_message = "Each private subnet is a quarter of the range."
  }

  assert {
    condition = [for subnet in aws_subnet.public : subnet.cidr_block] == [
      "10.40.192.0/20", "10.40.208.0/20", "10.40.224.0/20"
    ]
    error_message = "Each public subnet is a sixteenth of the range, behind the private ones."
  }

  assert {
    condition     = keys(aws_nat_gateway.this) == ["zone-a"] && length(aws_route_table.private) == 3
    error_message = "One gateway serves the route tables of all zones."
  }

  assert {
    condition = alltrue([
      for subnet in aws_subnet.private : subnet.tags["kubernetes.io/role/internal-elb"] == "1"
      ]) && alltrue([
      for subnet in aws_subnet.public : subnet.tags["kubernetes.io/role/elb"] == "1" && subnet.map_public_ip_on_launch == null
    ])
    error_message = "Load balancers find their subnets by tag, and no subnet gives out addresses."
  }
}

run "a_gateway_in_each_zone" {
  command = plan

  variables {
    nat_per_zone = true
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 3 && length(aws_eip.nat) == 3
    error_message = "Each zone has a gateway with an address."
  }
}

run "a_region_with_two_zones_is_refused" {
  command = plan

  override_data {
    target = data.aws_availability_zones.this
    values = { names = ["zone-a", "zone-b"] }
  }

  expect_failures = [data.aws_availability_zones.this]
}

run "a_range_without_room_is_refused" {
  command = plan

  variables {
    vpc_cidr = "10.40.0.0/24"
  }

  expect_failures = [var.vpc_cidr]
}

run "host_bits_are_refused" {
  command = plan

  variables {
    vpc_cidr = "10.40.0.1/16"
  }

  expect_failures = [var.vpc_cidr]
}

run "an_account_is_twelve_digits" {
  command = plan

  variables {
    account_id = "1111"
  }

  expect_failures = [var.account_id]
}

run "extra_tags_leave_the_standard_tags_alone" {
  command = plan

  variables {
    extra_tags = { Stack = "mine" }
  }

  expect_failures = [var.extra_tags]
}

run "extra_tags_keep_off_the_prefix_of_aws" {
  command = plan

  variables {
    extra_tags = { "aws:x" = "mine" }
  }

  expect_failures = [var.extra_tags]
}
