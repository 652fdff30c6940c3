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
  description = "Name of the EKS cluster that will live in this network; load balancer controllers find the subnets by it."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9-]{0,39}$", var.cluster_name))
    error_message = "cluster_name is 1 to 40 characters: letters, digits and hyphens."
  }
}

variable "vpc_cidr" {
  description = "Address range of the VPC. Each private subnet gets a quarter of it, each public one a sixteenth."
  type        = string

  validation {
    condition = (
      can(regex("^[0-9.]+/(1[6-9]|2[0-2])$", var.vpc_cidr)) && try(cidrsubnet(var.vpc_cidr, 0, 0) == var.vpc_cidr, false)
    )
    error_message = "vpc_cidr is an IPv4 network from /16 to /22 without host bits, such as \"10.40.0.0/16\"; every pod takes an address of it."
  }
}

variable "nat_per_zone" {
  description = "true: a NAT gateway in each zone, so that a failing zone takes nothing else with it. false: one for all, cheaper."
  type        = bool
  nullable    = false
}
