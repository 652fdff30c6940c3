provider "aws" {
  region              = var.region
  profile             = var.profile
  allowed_account_ids = [var.account_id]

  default_tags {
    tags = merge(var.extra_tags, {
      project     = var.project
      environment = var.environment
      managed-by  = "cali"
      stack       = "eks"
    })
  }
}
