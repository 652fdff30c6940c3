# Plans of the stack access against an AWS that answers what is written here; nothing is called.

mock_provider "aws" {
  mock_data "aws_partition" {
    defaults = { partition = "aws-example" }
  }
}

variables {
  project      = "cali"
  environment  = "default"
  region       = "xx-example-1"
  account_id   = "111122223333"
  cluster_name = "cali-default"
  creator_arn  = "arn:aws:iam::111122223333:role/lead"

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
      until      = "2027-01-31T00:00:00Z"
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
      aws_eks_access_entry.this["arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/ops"].tags["expires-at"] == "2027-01-31T00:00:00Z"
    )
    error_message = "Tags hold what EKS takes in tags."
  }

  assert {
    condition     = terraform_data.record.input == { principals = var.principals, revoked = var.revoked }
    error_message = "The record holds everyone, unchanged."
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
