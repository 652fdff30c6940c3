# Plans of the stack access against an AWS that answers what is written here; nothing is called.

mock_provider "aws" {
  mock_data "aws_partition" {
    defaults = { partition = "aws-example" }
  }

  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

variables {
  project      = "cali"
  environment  = "default"
  region       = "xx-example-1"
  account_id   = "111122223333"
  cluster_name = "cali-default"
  creator_arn  = "arn:aws:iam::111122223333:role/lead"

  keep_expiry = false

  principals = {
    "arn:aws:iam::111122223333:role/lead" = {
      name       = "Jiwoo"
      level      = "admin"
      namespaces = []
      until      = null
      granted_by = "arn:aws:iam::111122223333:user/lead"
      granted_at = "2026-01-27T10:00:00+09:00"
    }
    "arn:aws:iam::111122223333:user/admin" = {
      name       = "김지우, \"SRE\" 🚀"
      level      = "admin"
      namespaces = []
      until      = null
      granted_by = "arn:aws:iam::111122223333:user/lead"
      granted_at = "2026-01-27T10:00:00+09:00"
    }
    "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/ops" = {
      name       = "Jiwoo"
      level      = "edit"
      namespaces = []
      until      = "2099-01-31T00:00:00Z"
      granted_by = "arn:aws:iam::111122223333:user/lead"
      granted_at = "2026-01-27T10:00:00+09:00"
    }
    "arn:aws:iam::111122223333:user/scoped" = {
      name       = "Jiwoo"
      level      = "admin"
      namespaces = ["logging", "team-*"]
      until      = null
      granted_by = "arn:aws:iam::111122223333:user/lead"
      granted_at = "2026-01-27T10:00:00+09:00"
    }
  }

  revoked = {
    "arn:aws:iam::111122223333:user/gone" = { name = "Gone", revoked_at = "2026-01-01T00:00:00Z", revoked_by = "lead" }
  }
}

run "an_entry_and_a_policy_for_each_but_the_creator" {
  command = plan

  assert {
    condition = (
      keys(aws_eks_access_entry.this) == keys(aws_eks_access_policy_association.this) &&
      length(aws_eks_access_entry.this) == 3 &&
      !contains(keys(aws_eks_access_entry.this), var.creator_arn)
    )
    error_message = "Everyone but the cluster's creator has an entry and a policy."
  }

  assert {
    condition = { for arn, policy in aws_eks_access_policy_association.this : arn => policy.policy_arn } == {
      "arn:aws:iam::111122223333:user/admin"                              = "arn:aws-example:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"
      "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/ops" = "arn:aws-example:eks::aws:cluster-access-policy/AmazonEKSEditPolicy"
      "arn:aws:iam::111122223333:user/scoped"                             = "arn:aws-example:eks::aws:cluster-access-policy/AmazonEKSAdminPolicy"
    }
    error_message = "An admin of some namespaces is no admin of the cluster."
  }

  assert {
    condition = (
      aws_eks_access_policy_association.this["arn:aws:iam::111122223333:user/scoped"].access_scope[0].type == "namespace" &&
      aws_eks_access_policy_association.this["arn:aws:iam::111122223333:user/scoped"].access_scope[0].namespaces == toset(["logging", "team-*"]) &&
      aws_eks_access_policy_association.this["arn:aws:iam::111122223333:user/admin"].access_scope[0].type == "cluster"
    )
    error_message = "Namespaces narrow the scope."
  }

  assert {
    condition = (
      aws_eks_access_entry.this["arn:aws:iam::111122223333:user/admin"].tags["name"] == "김지우_ _SRE_ _" &&
      !contains(keys(aws_eks_access_entry.this["arn:aws:iam::111122223333:user/admin"].tags), "expires-at") &&
      aws_eks_access_entry.this["arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/ops"].tags["expires-at"] == "2099-01-31T00:00:00Z"
    )
    error_message = "Tags hold what EKS takes in tags."
  }

  assert {
    condition     = terraform_data.record.input == { principals = var.principals, revoked = var.revoked }
    error_message = "The record holds everyone, unchanged."
  }
}

run "aws_ends_what_has_an_end" {
  command = plan

  assert {
    condition     = keys(aws_scheduler_schedule.expiry) == ["arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/ops"]
    error_message = "A schedule for whoever has an end, and for nobody else."
  }

  assert {
    condition = alltrue([
      for schedule in aws_scheduler_schedule.expiry :
      schedule.schedule_expression == "at(2099-01-31T00:00:00)" &&
      schedule.schedule_expression_timezone == "UTC" &&
      schedule.flexible_time_window[0].mode == "OFF" &&
      schedule.group_name == "cali-default-access-expiry"
    ])
    error_message = "It runs at that time, in UTC, in the group of this cluster."
  }

  assert {
    condition = alltrue([
      for schedule in aws_scheduler_schedule.expiry :
      schedule.target[0].arn == "arn:aws-example:scheduler:::aws-sdk:eks:deleteAccessEntry" &&
      jsondecode(schedule.target[0].input) == {
        ClusterName  = "cali-default"
        PrincipalArn = "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/ops"
      }
    ])
    error_message = "It deletes that one entry; the partition follows the account's, and the keys are in capitals."
  }

  assert {
    condition = alltrue([
      for schedule in aws_scheduler_schedule.expiry :
      schedule.target[0].retry_policy[0].maximum_event_age_in_seconds == 86400 &&
      schedule.target[0].retry_policy[0].maximum_retry_attempts == 185
    ])
    error_message = "It tries for a day."
  }
}

run "what_ends_access_may_do_only_that" {
  command = plan

  assert {
    condition = (
      aws_sqs_queue.expiry[0].name == "cali-default-access-expiry" &&
      aws_sqs_queue.expiry[0].sqs_managed_sse_enabled &&
      aws_sqs_queue.expiry[0].message_retention_seconds == 1209600
    )
    error_message = "What failed is in an encrypted queue, for 14 days."
  }

  assert {
    condition = (
      one(data.aws_iam_policy_document.expiry_trust.statement[0].principals).identifiers == toset(["scheduler.amazonaws.com"]) &&
      toset([
        for condition in data.aws_iam_policy_document.expiry_trust.statement[0].condition :
        "${condition.test} ${condition.variable} ${one(condition.values)}"
        ]) == toset([
        "StringEquals aws:SourceAccount 111122223333",
        "ArnEquals aws:SourceArn arn:aws-example:scheduler:xx-example-1:111122223333:schedule-group/cali-default-access-expiry",
      ])
    )
    error_message = "Only schedules of this group use the role."
  }

  assert {
    condition = toset([
      for statement in data.aws_iam_policy_document.expiry.statement :
      "${one(statement.actions)} ${one(statement.resources)}"
      ]) == toset([
      "eks:DeleteAccessEntry arn:aws-example:eks:xx-example-1:111122223333:access-entry/cali-default/*",
      "sqs:SendMessage arn:aws-example:sqs:xx-example-1:111122223333:cali-default-access-expiry",
    ])
    error_message = "Two actions: on the entries of this cluster, and on its queue."
  }
}

run "the_longest_names" {
  command = plan

  variables {
    cluster_name = "a123456789b123456789c123456789d123456789"
    region       = "us-isob-east-1"
  }

  assert {
    condition = (
      length(aws_iam_role.expiry[0].name) <= 64 &&
      length(aws_scheduler_schedule_group.expiry[0].name) <= 64 &&
      length(aws_sqs_queue.expiry[0].name) <= 80
    )
    error_message = "Names are as long as AWS takes them."
  }
}

run "names_of_schedules" {
  command = plan

  variables {
    principals = { for arn in [
      "arn:aws:iam::111122223333:role/a/ops",
      "arn:aws:iam::111122223333:role/b/ops",
      "arn:aws:iam::111122223333:user/a+b=c,d.e@f-g_h",
      "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/xx-example-1/AWSReservedSSO_AdministratorAccess_0123456789abcdef",
      ] : arn => {
      name       = "Jiwoo"
      level      = "view"
      namespaces = []
      until      = "2099-01-31T00:00:00Z"
      granted_by = "arn:aws:iam::111122223333:user/lead"
      granted_at = "2026-01-27T10:00:00+09:00"
    } }
  }

  assert {
    condition = length(distinct([for schedule in aws_scheduler_schedule.expiry : schedule.name])) == 4 && alltrue([
      for schedule in aws_scheduler_schedule.expiry : can(regex("^[0-9A-Za-z_.-]{1,64}$", schedule.name))
    ])
    error_message = "Names are what AWS takes, and two paths of one name are two names."
  }

  assert {
    condition     = aws_scheduler_schedule.expiry["arn:aws:iam::111122223333:role/a/ops"].name == "ops-ed0e783878172ea0f6196fd086508723"
    error_message = "A name is always the same for an ARN."
  }
}

run "nobody_at_all" {
  command = plan

  variables {
    principals = {}
    revoked    = {}
  }

  assert {
    condition     = length(aws_eks_access_entry.this) == 0
    error_message = "An empty list is no entry."
  }

  assert {
    condition = (
      length(aws_scheduler_schedule_group.expiry) == 0 && length(aws_sqs_queue.expiry) == 0 &&
      length(aws_iam_role.expiry) == 0 && length(aws_iam_role_policy.expiry) == 0 && output.dead_letters == ""
    )
    error_message = "What ends access is not made before somebody's has an end."
  }
}

run "nobody_any_more" {
  command = plan

  variables {
    principals  = {}
    revoked     = {}
    keep_expiry = true
  }

  assert {
    condition = (
      length(aws_scheduler_schedule_group.expiry) == 1 && length(aws_sqs_queue.expiry) == 1 &&
      length(aws_iam_role.expiry) == 1 && length(aws_iam_role_policy.expiry) == 1
    )
    error_message = "Once made it stays."
  }
}

run "an_end_that_has_come" {
  command = plan

  variables {
    principals = { "arn:aws:iam::111122223333:user/late" = {
      name       = "Jiwoo"
      level      = "view"
      namespaces = []
      until      = "2026-01-31T00:00:00Z"
      granted_by = "arn:aws:iam::111122223333:user/lead"
      granted_at = "2026-01-27T10:00:00+09:00"
    } }
  }

  expect_failures = [aws_eks_access_entry.this]
}

run "an_end_in_another_time_zone" {
  command = plan

  variables {
    principals = { "arn:aws:iam::111122223333:user/late" = {
      name       = "Jiwoo"
      level      = "view"
      namespaces = []
      until      = "2099-01-31T00:00:00+09:00"
      granted_by = "arn:aws:iam::111122223333:user/lead"
      granted_at = "2026-01-27T10:00:00+09:00"
    } }
  }

  expect_failures = [var.principals]
}

run "an_end_that_is_no_time" {
  command = plan

  variables {
    principals = { "arn:aws:iam::111122223333:user/late" = {
      name       = "Jiwoo"
      level      = "view"
      namespaces = []
      until      = "2099-02-30T00:00:00Z"
      granted_by = "arn:aws:iam::111122223333:user/lead"
      granted_at = "2026-01-27T10:00:00+09:00"
    } }
  }

  expect_failures = [var.principals]
}

run "on_both_lists" {
  command = plan

  variables {
    revoked = { "arn:aws:iam::111122223333:user/admin" = { name = "x", revoked_at = "2026-01-01T00:00:00Z", revoked_by = "lead" } }
  }

  expect_failures = [terraform_data.record]
}

run "a_group" {
  command = plan

  variables {
    principals = { "arn:aws:iam::111122223333:group/team" = {
      name       = "Jiwoo"
      level      = "view"
      namespaces = []
      until      = null
      granted_by = "arn:aws:iam::111122223333:user/lead"
      granted_at = "2026-01-27T10:00:00+09:00"
    } }
  }

  expect_failures = [var.principals]
}

run "the_root_user" {
  command = plan

  variables {
    principals = { "arn:aws:iam::111122223333:root" = {
      name       = "Jiwoo"
      level      = "view"
      namespaces = []
      until      = null
      granted_by = "arn:aws:iam::111122223333:user/lead"
      granted_at = "2026-01-27T10:00:00+09:00"
    } }
  }

  expect_failures = [var.principals]
}

run "a_session" {
  command = plan

  variables {
    principals = { "arn:aws:sts::111122223333:assumed-role/ops/jiwoo" = {
      name       = "Jiwoo"
      level      = "view"
      namespaces = []
      until      = null
      granted_by = "arn:aws:iam::111122223333:user/lead"
      granted_at = "2026-01-27T10:00:00+09:00"
    } }
  }

  expect_failures = [var.principals]
}

run "a_service_linked_role" {
  command = plan

  variables {
    principals = { "arn:aws:iam::111122223333:role/aws-service-role/eks.amazonaws.com/AWSServiceRoleForAmazonEKS" = {
      name       = "Jiwoo"
      level      = "view"
      namespaces = []
      until      = null
      granted_by = "arn:aws:iam::111122223333:user/lead"
      granted_at = "2026-01-27T10:00:00+09:00"
    } }
  }

  expect_failures = [var.principals]
}

run "a_wildcard" {
  command = plan

  variables {
    principals = { "arn:aws:iam::111122223333:user/*" = {
      name       = "Jiwoo"
      level      = "view"
      namespaces = []
      until      = null
      granted_by = "arn:aws:iam::111122223333:user/lead"
      granted_at = "2026-01-27T10:00:00+09:00"
    } }
  }

  expect_failures = [var.principals]
}
