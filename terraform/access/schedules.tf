locals {
  expiring = { for arn, principal in local.managed : arn => principal if principal.until != null }
}

# AWS itself deletes the entry when its time has come. It may be up to a minute late; schedules are no finer.
# The schedule stays when it has run, until the principal leaves the record.
resource "aws_scheduler_schedule" "expiry" {
  for_each = local.expiring

  # At most 64 characters: the name for whoever reads it, the hash to tell two paths of one name apart.
  name        = "${substr(replace(basename(each.key), "/[^0-9A-Za-z_.-]/", "-"), 0, 31)}-${substr(sha256(each.key), 0, 32)}"
  group_name  = aws_scheduler_schedule_group.expiry[0].name
  description = substr("Ends access to ${var.cluster_name} for ${each.key}", 0, 512)

  schedule_expression          = "at(${trimsuffix(each.value.until, "Z")})"
  schedule_expression_timezone = "UTC"

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = "arn:${data.aws_partition.this.partition}:scheduler:::aws-sdk:eks:deleteAccessEntry"
    role_arn = aws_iam_role.expiry[0].arn

    # In capitals, although EKS spells them clusterName and principalArn: with those AWS refuses the schedule
    # ("Request payload is missing the following field(s): ClusterName, ..."). Source: public reports of
    # CreateSchedule with eks:updateNodegroupConfig, ecs:runTask and bedrockagent:startIngestionJob; the user
    # guide, "Using universal targets", names no rule.
    input = jsonencode({
      ClusterName  = var.cluster_name
      PrincipalArn = each.key
    })

    # As long as AWS allows, a day: nobody else takes this access away.
    retry_policy {
      maximum_event_age_in_seconds = 86400
      maximum_retry_attempts       = 185
    }

    dead_letter_config {
      arn = aws_sqs_queue.expiry[0].arn
    }
  }

  # Of what is on record only, as the entries; and not before the role may do what is asked of it.
  depends_on = [terraform_data.record, aws_iam_role_policy.expiry]
}
