# Plans of the stack search against an AWS that answers what is written here; nothing is called.

mock_provider "aws" {
  mock_data "aws_partition" {
    defaults = { partition = "aws-example" }
  }

  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

variables {
  project         = "cali"
  environment     = "default"
  region          = "xx-example-1"
  account_id      = "111122223333"
  domain_name     = "cali-default"
  engine_version  = "OpenSearch_2.19"
  instance_type   = "r6g.large.search"
  instance_count  = 3
  volume_gib      = 100
  master_username = "cali-admin"
  master_password = "Sentinel-1-pass"
  allowed_cidrs   = ["203.0.113.7/32"]
  nat_public_ips  = ["198.51.100.4"]
  create_timeout  = "1h30m"
  update_timeout  = "120m"
  delete_timeout  = "1s"
}

run "basic_auth_over_tls_for_known_addresses" {
  command = plan

  assert {
    condition = (
      aws_opensearch_domain.this.advanced_security_options[0].enabled &&
      aws_opensearch_domain.this.advanced_security_options[0].internal_user_database_enabled &&
      aws_opensearch_domain.this.encrypt_at_rest[0].enabled &&
      aws_opensearch_domain.this.node_to_node_encryption[0].enabled &&
      aws_opensearch_domain.this.domain_endpoint_options[0].enforce_https &&
      startswith(aws_opensearch_domain.this.domain_endpoint_options[0].tls_security_policy, "Policy-Min-TLS-1-2-")
    )
    error_message = "Fine-grained access control needs the user database and encryption everywhere."
  }

  assert {
    condition     = length(aws_opensearch_domain.this.vpc_options) == 0
    error_message = "The domain has a public endpoint: address conditions do not work inside a VPC."
  }

  assert {
    condition = (
      one(data.aws_iam_policy_document.domain.statement).resources == toset(["arn:aws-example:es:xx-example-1:111122223333:domain/cali-default/*"]) &&
      one(one(data.aws_iam_policy_document.domain.statement).principals).identifiers == toset(["*"]) &&
      one(one(data.aws_iam_policy_document.domain.statement).condition).variable == "aws:SourceIp" &&
      toset(one(one(data.aws_iam_policy_document.domain.statement).condition).values) == toset(["203.0.113.7/32", "198.51.100.4/32"])
    )
    error_message = "No principal is named, and only the given networks and the NAT gateways come in."
  }
}

run "nobody_but_the_pods" {
  command = plan

  variables {
    allowed_cidrs = []
  }

  assert {
    condition     = one(one(data.aws_iam_policy_document.domain.statement).condition).values == tolist(["198.51.100.4/32"])
    error_message = "Without networks only the NAT gateways come in."
  }
}

run "one_burstable_node" {
  command = plan

  variables {
    instance_count = 1
    instance_type  = "t3.small.search"
  }

  assert {
    condition = (
      aws_opensearch_domain.this.cluster_config[0].zone_awareness_enabled == false &&
      [for zones in aws_opensearch_domain.this.cluster_config[0].zone_awareness_config : zones.availability_zone_count] == []
    )
    error_message = "One node stays in one zone."
  }

  assert {
    condition     = length(aws_opensearch_domain.this.auto_tune_options) == 0
    error_message = "Auto-Tune is left out: the burstable types do not have it."
  }
}

run "two_nodes" {
  command = plan

  variables {
    instance_count = 2
    instance_type  = "r6g.large.search"
  }

  assert {
    condition = (
      aws_opensearch_domain.this.cluster_config[0].zone_awareness_enabled == true &&
      [for zones in aws_opensearch_domain.this.cluster_config[0].zone_awareness_config : zones.availability_zone_count] == [2]
    )
    error_message = "2 nodes are shared out over 2 zones."
  }

  assert {
    condition     = length(aws_opensearch_domain.this.auto_tune_options) == 1
    error_message = "Auto-Tune is on."
  }
}

run "three_nodes" {
  command = plan

  variables {
    instance_count = 3
    instance_type  = "r6g.large.search"
  }

  assert {
    condition = (
      aws_opensearch_domain.this.cluster_config[0].zone_awareness_enabled == true &&
      [for zones in aws_opensearch_domain.this.cluster_config[0].zone_awareness_config : zones.availability_zone_count] == [3]
    )
    error_message = "3 nodes are shared out over 3 zones."
  }

  assert {
    condition     = length(aws_opensearch_domain.this.auto_tune_options) == 1
    error_message = "Auto-Tune is on."
  }
}

run "four_nodes" {
  command = plan

  variables {
    instance_count = 4
    instance_type  = "m6g.large.search"
  }

  assert {
    condition = (
      aws_opensearch_domain.this.cluster_config[0].zone_awareness_enabled == true &&
      [for zones in aws_opensearch_domain.this.cluster_config[0].zone_awareness_config : zones.availability_zone_count] == [2]
    )
    error_message = "4 nodes are shared out over 2 zones."
  }

  assert {
    condition     = length(aws_opensearch_domain.this.auto_tune_options) == 1
    error_message = "Auto-Tune is on."
  }
}

run "an_uneven_number_of_nodes" {
  command = plan

  variables {
    instance_count = 5
  }

  expect_failures = [var.instance_count]
}

run "a_type_that_cannot_encrypt" {
  command = plan

  variables {
    instance_type = "t2.small.search"
  }

  expect_failures = [var.instance_type]
}

run "a_password_without_capital" {
  command = plan

  variables {
    master_password = "sentinel-1-pass"
  }

  expect_failures = [var.master_password]
}

run "a_password_without_digit" {
  command = plan

  variables {
    master_password = "Sentinel-pass"
  }

  expect_failures = [var.master_password]
}

run "a_password_without_special_character" {
  command = plan

  variables {
    master_password = "Sentinel1pass"
  }

  expect_failures = [var.master_password]
}

run "a_short_password" {
  command = plan

  variables {
    master_password = "Sen-1-p"
  }

  expect_failures = [var.master_password]
}

run "pods_that_could_not_reach_it" {
  command = plan

  variables {
    nat_public_ips = []
  }

  expect_failures = [var.nat_public_ips]
}

run "a_timeout_without_unit" {
  command = plan

  variables {
    create_timeout = "90"
  }

  expect_failures = [var.create_timeout]
}
