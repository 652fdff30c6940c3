variable "project" {
  description = "Name of the project: the first half of every name, and a tag."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,25}$", var.project))
    error_message = "project is 1 to 26 characters: small letters, digits and hyphens, a letter first; for example \"cali\"."
  }
}

variable "environment" {
  description = "Name of the environment: the second half of every name, and a tag."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,25}$", var.environment))
    error_message = "environment is 1 to 26 characters: small letters, digits and hyphens; for example \"default\"."
  }
}

variable "region" {
  description = "AWS region that everything is made in."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$", var.region))
    error_message = "region is the code of an AWS region: an area, a direction and a number, joined by hyphens."
  }
}

variable "account_id" {
  description = "AWS account that may be changed; the provider refuses every other one."
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "account_id is the 12 digits of an AWS account, as a string."
  }
}

variable "profile" {
  description = "Profile of the AWS configuration to take credentials from; null leaves it to the environment."
  type        = string
  default     = null

  validation {
    condition     = var.profile == null || try(length(trimspace(var.profile)) > 0, false)
    error_message = "profile is the name of a profile, or null."
  }
}

variable "extra_tags" {
  description = "Tags that every resource gets in addition to project, environment, managed-by and stack."
  type        = map(string)
  default     = {}

  validation {
    condition = alltrue([
      for key, value in var.extra_tags :
      length(key) >= 1 && length(key) <= 128 && length(value) <= 256 && !startswith(lower(key), "aws:")
    ])
    error_message = "extra_tags has keys of 1 to 128 characters that do not begin with \"aws:\", and values of up to 256."
  }

  validation {
    condition = length(setintersection(
      [for key in keys(var.extra_tags) : lower(key)], ["project", "environment", "managed-by", "stack"]
    )) == 0
    error_message = "extra_tags cannot set project, environment, managed-by or stack, in capitals neither: those are set already, and IAM tells no capitals."
  }
}

variable "cluster_name" {
  description = "Name of the EKS cluster."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9-]{0,39}$", var.cluster_name))
    error_message = "cluster_name is 1 to 40 characters: letters, digits and hyphens."
  }
}

variable "cluster_endpoint" {
  description = "Address of the cluster's API."
  type        = string

  validation {
    condition     = startswith(var.cluster_endpoint, "https://")
    error_message = "cluster_endpoint begins with https://."
  }
}

variable "cluster_ca" {
  description = "Certificate of the cluster's authority, in base64."
  type        = string

  validation {
    condition     = length(var.cluster_ca) > 0 && can(base64decode(var.cluster_ca))
    error_message = "cluster_ca is a PEM certificate in base64, as EKS gives it."
  }
}

variable "cluster_version" {
  description = "Kubernetes version of the cluster, as MAJOR.MINOR."
  type        = string

  validation {
    condition     = can(regex("^1\\.[0-9]+$", var.cluster_version))
    error_message = "cluster_version is MAJOR.MINOR, such as \"1.35\"."
  }
}

variable "chart_version" {
  description = "Version of the chart cluster-autoscaler."
  type        = string

  validation {
    condition     = can(regex("^[0-9]+\\.[0-9]+\\.[0-9]+([-+][0-9A-Za-z.+-]+)?$", var.chart_version))
    error_message = "chart_version is MAJOR.MINOR.PATCH, such as \"9.59.0\"."
  }
}

variable "image_tag" {
  description = "Tag of the autoscaler's image; its minor version is the cluster's."
  type        = string

  validation {
    condition     = can(regex("^v1\\.[0-9]+\\.[0-9]+$", var.image_tag))
    error_message = "image_tag is v1.MINOR.PATCH, such as \"v1.35.0\"."
  }
}

variable "kube_exec" {
  description = "Command that prints an ExecCredential of client.authentication.k8s.io/v1beta1 for the cluster."
  type = object({
    command = string
    args    = list(string)
    env     = map(string)
  })

  validation {
    condition     = length(var.kube_exec.command) > 0
    error_message = "kube_exec.command names a program, best by its full path."
  }
}
