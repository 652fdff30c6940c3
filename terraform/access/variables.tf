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

variable "creator_arn" {
  description = "IAM principal that made the cluster. EKS gave it an access entry by itself, which is never put under management."
  type        = string

  validation {
    condition     = can(regex("^arn:[a-z-]+:[a-z]+::[0-9]{12}:", var.creator_arn))
    error_message = "creator_arn is the ARN of an IAM principal."
  }
}

variable "keep_expiry" {
  description = "Whether what ends access on time stays although nobody's access has an end: true once it was made."
  type        = bool
}

variable "principals" {
  description = "Who may use the cluster, by ARN: name, level (admin, edit or view), namespaces (empty: all), until (a time in UTC, or null), and who granted it when."
  type = map(object({
    name       = string
    level      = string
    namespaces = list(string)
    until      = optional(string)
    granted_by = string
    granted_at = string
  }))

  # Groups, the root user, federated users, sessions and service-linked roles cannot have an access entry.
  validation {
    condition = alltrue([
      for arn in keys(var.principals) :
      can(regex("^arn:[a-z-]+:iam::[0-9]{12}:(user|role)/[^*]+$", arn)) && !strcontains(arn, ":role/aws-service-role/")
    ])
    error_message = "principals is keyed by the ARNs of IAM users and roles: no groups, no root, no sessions, no service-linked roles."
  }

  validation {
    condition     = alltrue([for principal in values(var.principals) : contains(["admin", "edit", "view"], principal.level)])
    error_message = "level is admin, edit or view."
  }

  validation {
    condition = alltrue(flatten([
      for principal in values(var.principals) : [
        for namespace in principal.namespaces : can(regex("^[a-z0-9*]([a-z0-9*-]{0,61}[a-z0-9*])?$", namespace))
      ]
    ]))
    error_message = "namespaces holds names of Kubernetes namespaces; * stands for any characters."
  }

  validation {
    condition = alltrue([
      for principal in values(var.principals) :
      principal.until == null || can(formatdate("YYYY", regex("^[0-9-]{10}T[0-9:]{8}Z$", principal.until)))
    ])
    error_message = "until is a time in UTC such as \"2027-01-31T00:00:00Z\", or null."
  }
}

variable "revoked" {
  description = "Whose access was taken away, by ARN: kept on record so that an old list does not bring it back."
  type = map(object({
    name       = string
    revoked_at = string
    revoked_by = string
  }))

  validation {
    condition     = alltrue([for arn in keys(var.revoked) : startswith(arn, "arn:")])
    error_message = "revoked is keyed by ARNs."
  }
}
