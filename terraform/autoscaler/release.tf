locals {
  app_minor = tonumber(split(".", var.image_tag)[1])
  # 9.47.0 becomes 9047, so that versions compare as numbers.
  chart = sum([for index, part in slice(split(".", var.chart_version), 0, 2) : tonumber(part) * (index == 0 ? 1000 : 1)])
}

resource "helm_release" "this" {
  name       = "cluster-autoscaler"
  namespace  = local.namespace
  repository = "https://kubernetes.github.io/autoscaler"
  chart      = "cluster-autoscaler"
  version    = var.chart_version

  # A release that does not come up is taken away again, or the next apply finds a name that is in use.
  atomic          = true
  cleanup_on_fail = true
  timeout         = 600
  max_history     = 5

  values = [yamlencode({
    cloudProvider = "aws"
    awsRegion     = var.region

    autoDiscovery = {
      clusterName = var.cluster_name
    }

    image = {
      tag = var.image_tag
    }

    rbac = {
      serviceAccount = {
        create = true
        # Left empty the chart makes up another name, and the pod identity is not found.
        name = local.service_account
      }
    }

    extraArgs = {
      # Where there is a node group for each zone, they grow evenly.
      balance-similar-node-groups = true
      expander                    = "least-waste"
      # Nodes with coredns or the EBS CSI controller on them are given back too; their disruption budgets hold.
      skip-nodes-with-system-pods   = false
      skip-nodes-with-local-storage = false
    }

    replicaCount      = 1
    priorityClassName = "system-cluster-critical"

    podDisruptionBudget = {
      maxUnavailable = 1
    }

    resources = {
      requests = { cpu = "100m", memory = "300Mi" }
      limits   = { memory = "600Mi" }
    }

    securityContext = {
      runAsNonRoot   = true
      runAsUser      = 65534
      runAsGroup     = 65534
      fsGroup        = 65534
      seccompProfile = { type = "RuntimeDefault" }
    }

    containerSecurityContext = {
      allowPrivilegeEscalation = false
      readOnlyRootFilesystem   = true
      capabilities             = { drop = ["ALL"] }
    }
  })]

  lifecycle {
    # Older charts lack the rights that the newer autoscaler needs: it runs, is Ready, and never scales.
    precondition {
      condition     = local.app_minor < 32 || local.chart >= 9047
      error_message = "cluster-autoscaler ${var.image_tag} needs chart 9.47.0 or newer, not ${var.chart_version}: with an older chart it runs and never scales."
    }
  }

  # A pod that starts before its association gets no credentials; and the rights go last.
  depends_on = [
    aws_eks_pod_identity_association.this,
    aws_iam_role_policy.this,
  ]
}

check "same_minor_version" {
  assert {
    condition     = local.app_minor == tonumber(split(".", var.cluster_version)[1])
    error_message = "cluster-autoscaler ${var.image_tag} is made for another Kubernetes version than the cluster's ${var.cluster_version}."
  }
}
