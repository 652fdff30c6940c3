# What ends access on time, whether or not a laptop is awake: EventBridge Scheduler runs the schedules of this group
# with this role, and leaves what it could not do in this queue. Made when somebody's access first has an end, and
# kept from then on: the provider watches a new queue for half a minute, a new role takes its time to spread through
# IAM, and with the queue its letters would go.
locals {
  expiry = "${var.cluster_name}-access-expiry"
  ending = var.keep_expiry || length(local.expiring) > 0 ? 1 : 0

  scheduler = "arn:${data.aws_partition.this.partition}:scheduler:${var.region}:${var.account_id}"
  entries   = "arn:${data.aws_partition.this.partition}:eks:${var.region}:${var.account_id}:access-entry/${var.cluster_name}/*"
}

resource "aws_scheduler_schedule_group" "expiry" {
  count = local.ending

  name = local.expiry
}

resource "aws_sqs_queue" "expiry" {
  count = local.ending

  name                    = local.expiry
  sqs_managed_sse_enabled = true

  # The longest, 14 days: a letter says that somebody may still have access.
  message_retention_seconds = 1209600
}

# Only schedules of this group may use the role. AWS gives the group as the source, never the single schedule.
# Source: EventBridge Scheduler user guide, "Confused deputy prevention".
data "aws_iam_policy_document" "expiry_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["scheduler.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [var.account_id]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = ["${local.scheduler}:schedule-group/${local.expiry}"]
    }
  }
}

data "aws_iam_policy_document" "expiry" {
  statement {
    sid       = "EndAccessToThisCluster"
    actions   = ["eks:DeleteAccessEntry"]
    resources = [local.entries]
  }

  statement {
    sid       = "SayWhatFailed"
    actions   = ["sqs:SendMessage"]
    resources = ["arn:${data.aws_partition.this.partition}:sqs:${var.region}:${var.account_id}:${local.expiry}"]
  }
}

# IAM knows no regions: the region in the name keeps two clusters of one name apart.
resource "aws_iam_role" "expiry" {
  count = local.ending

  name               = "${var.cluster_name}-${var.region}-expiry"
  description        = "Ends access to the EKS cluster ${var.cluster_name} on time"
  assume_role_policy = data.aws_iam_policy_document.expiry_trust.json
}

resource "aws_iam_role_policy" "expiry" {
  count = local.ending

  name   = "end-access-${var.cluster_name}"
  role   = aws_iam_role.expiry[0].id
  policy = data.aws_iam_policy_document.expiry.json
}
