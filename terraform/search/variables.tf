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

variable "domain_name" {
  description = "Name of the OpenSearch domain."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,27}$", var.domain_name))
    error_message = "domain_name is 3 to 28 characters: small letters, digits and hyphens, a letter first."
  }
}

variable "engine_version" {
  description = "Version of the engine, as OpenSearch_MAJOR.MINOR."
  type        = string

  validation {
    condition     = can(regex("^OpenSearch_([2-9]|[1-9][0-9])\\.[0-9]+$", var.engine_version))
    error_message = "engine_version is OpenSearch_MAJOR.MINOR, 2.0 or newer, such as \"OpenSearch_2.19\"."
  }
}

variable "instance_type" {
  description = "Instance type of the data nodes."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]+\\.[a-z0-9]+\\.search$", var.instance_type)) && !startswith(var.instance_type, "t2.")
    error_message = "instance_type ends in .search, such as \"r6g.large.search\"; the t2 types cannot encrypt at rest."
  }
}

variable "instance_count" {
  description = "Number of data nodes. 1 stays in one zone; a multiple of 3 spreads over three zones, another even number over two."
  type        = number

  validation {
    condition = (
      floor(var.instance_count) == var.instance_count && var.instance_count >= 1 && var.instance_count <= 80 &&
      (var.instance_count == 1 || var.instance_count % 2 == 0 || var.instance_count % 3 == 0)
    )
    error_message = "instance_count is 1, or a multiple of 2 or 3 up to 80: the nodes are shared out evenly over two or three zones."
  }
}

variable "volume_gib" {
  description = "Size of the gp3 volume of one data node, in GiB."
  type        = number

  validation {
    condition     = var.volume_gib >= 10 && var.volume_gib <= 24576 && floor(var.volume_gib) == var.volume_gib
    error_message = "volume_gib is a whole number from 10 to 24576; the instance type may set a lower limit."
  }
}

variable "master_username" {
  description = "Name of the master user in the domain's own user database."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", var.master_username))
    error_message = "master_username is 1 to 64 letters, digits, dots, hyphens and underscores."
  }
}

variable "master_password" {
  description = "Password of the master user. The state holds it: the provider has no write-only argument for it."
  type        = string
  sensitive   = true

  # A domain that is given a weak password takes 15 to 30 minutes to fail.
  validation {
    condition = alltrue([
      length(var.master_password) >= 8,
      length(var.master_password) <= 128,
      can(regex("[A-Z]", var.master_password)),
      can(regex("[a-z]", var.master_password)),
      can(regex("[0-9]", var.master_password)),
      can(regex("[^A-Za-z0-9\\s]", var.master_password)),
    ])
    error_message = "master_password is 8 to 128 characters with a capital letter, a small letter, a digit and a special character."
  }
}

variable "allowed_cidrs" {
  description = "Networks that may reach the domain, besides the NAT gateways of the cluster."
  type        = list(string)

  validation {
    condition = alltrue([
      for cidr in var.allowed_cidrs :
      can(regex("^[0-9.]+/[0-9]+$", cidr)) && try(cidrsubnet(cidr, 0, 0) == cidr, false)
    ])
    error_message = "allowed_cidrs holds IPv4 networks without host bits, such as \"203.0.113.7/32\"."
  }
}

variable "nat_public_ips" {
  description = "Addresses that the cluster's pods come from: those of the NAT gateways."
  type        = list(string)

  validation {
    condition     = length(var.nat_public_ips) >= 1 && alltrue([for ip in var.nat_public_ips : can(cidrnetmask("${ip}/32"))])
    error_message = "nat_public_ips holds one IPv4 address or more, such as \"198.51.100.4\"; without one the pods could not reach the domain."
  }
}

variable "create_timeout" {
  description = "How long Terraform waits for the domain to be made, such as \"60m\"."
  type        = string

  validation {
    condition     = can(regex("^([0-9]+[hms])+$", var.create_timeout))
    error_message = "create_timeout is a duration such as \"90m\", \"1h30m\" or \"600s\"."
  }
}

variable "update_timeout" {
  description = "How long Terraform waits for the domain to be changed (a blue/green deployment copies every shard), such as \"60m\"."
  type        = string

  validation {
    condition     = can(regex("^([0-9]+[hms])+$", var.update_timeout))
    error_message = "update_timeout is a duration such as \"90m\", \"1h30m\" or \"600s\"."
  }
}

variable "delete_timeout" {
  description = "How long Terraform waits for the domain to be deleted, such as \"60m\"."
  type        = string

  validation {
    condition     = can(regex("^([0-9]+[hms])+$", var.delete_timeout))
    error_message = "delete_timeout is a duration such as \"90m\", \"1h30m\" or \"600s\"."
  }
}
