# Plans of the stack autoscaler against an AWS that answers what is written here; nothing is called.

mock_provider "aws" {
  mock_data "aws_partition" {
    defaults = { partition = "aws-example" }
  }

  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

mock_provider "helm" {}

variables {
  project          = "cali"
  environment      = "default"
  region           = "xx-example-1"
  account_id       = "111122223333"
  cluster_name     = "cali-default"
  cluster_endpoint = "https://cluster.example"
  cluster_ca       = "LS0tLS1CRUdJTg=="
  cluster_version  = "1.35"
  chart_version    = "9.59.0"
  image_tag        = "v1.35.0"

  kube_exec = {
    command = "/bin/false"
    args    = []
    env     = {}
  }
}

run "the_release_finds_its_identity_and_its_groups" {
  command = plan

  assert {
    condition = (
      helm_release.this.name == "cluster-autoscaler" && helm_release.this.namespace == "kube-system" &&
      helm_release.this.atomic && helm_release.this.cleanup_on_fail && helm_release.this.version == "9.59.0"
    )
    error_message = "The release is the one that verify and status look for."
  }

  assert {
    condition = (
      yamldecode(helm_release.this.values[0]).rbac.serviceAccount.name == aws_eks_pod_identity_association.this.service_account &&
      helm_release.this.namespace == aws_eks_pod_identity_association.this.namespace &&
      yamldecode(helm_release.this.values[0]).autoDiscovery.clusterName == "cali-default" &&
      yamldecode(helm_release.this.values[0]).awsRegion == "xx-example-1" &&
      yamldecode(helm_release.this.values[0]).image.tag == "v1.35.0"
    )
    error_message = "The pod runs under the service account that has the identity, in this cluster and region."
  }

  assert {
    condition = alltrue([
      for statement in data.aws_iam_policy_document.this.statement :
      statement.sid == "Look" ? alltrue([for action in statement.actions : can(regex(":(Describe|Get)", action))]) :
      { for condition in statement.condition : condition.variable => one(condition.values) } == {
        "aws:ResourceTag/k8s.io/cluster-autoscaler/enabled"      = "true"
        "aws:ResourceTag/k8s.io/cluster-autoscaler/cali-default" = "owned"
      }
    ])
    error_message = "What changes something is limited to this cluster's groups by tag."
  }
}

run "the_newest_chart_that_never_scales" {
  command = plan

  variables {
    chart_version = "9.46.6"
  }

  expect_failures = [helm_release.this]
}

run "the_first_chart_that_scales" {
  command = plan

  variables {
    chart_version = "9.47.0"
  }
}

run "an_old_chart_with_an_old_app" {
  command = plan

  variables {
    chart_version   = "9.46.6"
    image_tag       = "v1.31.5"
    cluster_version = "1.31"
  }
}

run "a_newer_line_of_the_chart" {
  command = plan

  variables {
    chart_version = "10.0.0"
  }
}

run "an_app_of_another_minor_is_warned_about" {
  command = plan

  variables {
    image_tag = "v1.34.0"
  }

  expect_failures = [check.same_minor_version]
}

run "an_endpoint_without_tls" {
  command = plan

  variables {
    cluster_endpoint = "http://cluster.example"
  }

  expect_failures = [var.cluster_endpoint]
}
