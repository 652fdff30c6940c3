data "aws_partition" "this" {}

locals {
  # Written out, because the domain's own policy names it.
  domain_arn = "arn:${data.aws_partition.this.partition}:es:${var.region}:${var.account_id}:domain/${var.domain_name}"

  zones = var.instance_count == 1 ? 1 : var.instance_count % 3 == 0 ? 3 : 2

  # The burstable types have no Auto-Tune.
  auto_tune = !startswith(var.instance_type, "t3.")
}

# Basic auth: the domain's own user database decides who may do what. A policy that named IAM principals would
# demand signed requests, so it names none and looks at the address only.
data "aws_iam_policy_document" "domain" {
  statement {
    actions   = ["es:ESHttp*"]
    resources = ["${local.domain_arn}/*"]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "IpAddress"
      variable = "aws:SourceIp"
      values   = concat(var.allowed_cidrs, [for ip in var.nat_public_ips : "${ip}/32"])
    }
  }
}

resource "aws_opensearch_domain" "this" {
  domain_name     = var.domain_name
  engine_version  = var.engine_version
  access_policies = data.aws_iam_policy_document.domain.json

  cluster_config {
    instance_type          = var.instance_type
    instance_count         = var.instance_count
    zone_awareness_enabled = local.zones > 1

    dynamic "zone_awareness_config" {
      for_each = local.zones > 1 ? [local.zones] : []

      content {
        availability_zone_count = zone_awareness_config.value
      }
    }
  }

  ebs_options {
    ebs_enabled = true
    volume_type = "gp3"
    volume_size = var.volume_gib
  }

  # These three and TLS are what fine-grained access control stands on; none can be taken back.
  encrypt_at_rest {
    enabled = true
  }

  node_to_node_encryption {
    enabled = true
  }

  domain_endpoint_options {
    enforce_https       = true
    tls_security_policy = "Policy-Min-TLS-1-2-PFS-2023-10"
  }

  advanced_security_options {
    enabled                        = true
    internal_user_database_enabled = true

    master_user_options {
      master_user_name     = var.master_username
      master_user_password = var.master_password
    }
  }

  dynamic "auto_tune_options" {
    for_each = local.auto_tune ? [true] : []

    content {
      desired_state       = "ENABLED"
      use_off_peak_window = true
    }
  }

  # Ten hours of the region's night for changes that move shards.
  off_peak_window_options {
    enabled = true
  }

  dynamic "log_publishing_options" {
    for_each = local.log_types

    content {
      log_type                 = log_publishing_options.key
      cloudwatch_log_group_arn = aws_cloudwatch_log_group.this[log_publishing_options.key].arn
    }
  }

  timeouts {
    create = var.create_timeout
    update = var.update_timeout
    delete = var.delete_timeout
  }

  # The domain tries to write to the log groups while it is made.
  depends_on = [aws_cloudwatch_log_resource_policy.this]
}
