provider "aws" {
  region              = var.region
  profile             = var.profile
  allowed_account_ids = [var.account_id]

  default_tags {
    tags = merge(var.extra_tags, {
      project     = var.project
      environment = var.environment
      managed-by  = "cali"
      stack       = "services"
    })
  }
}

# The cluster is made by another stack: a provider that is configured from a resource of its own stack plans
# against an address that may not exist yet. The token is fetched by a command whenever it is needed, because
# it lives for 15 minutes and would otherwise lie in the plan.
provider "helm" {
  kubernetes = {
    host                   = var.cluster_endpoint
    cluster_ca_certificate = base64decode(var.cluster_ca)

    exec = {
      api_version = "client.authentication.k8s.io/v1beta1"
      command     = var.kube_exec.command
      args        = var.kube_exec.args
      env         = var.kube_exec.env
    }
  }
}
