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

variable "cluster_version" {
  description = "Kubernetes version of the control plane and of the nodes, as MAJOR.MINOR."
  type        = string

  validation {
    condition     = can(regex("^1\\.[1-9][0-9]$", var.cluster_version))
    error_message = "cluster_version is MAJOR.MINOR, such as \"1.35\"."
  }
}

variable "support_type" {
  description = "STANDARD: EKS upgrades the cluster by itself when standard support ends. EXTENDED: it stays, at a higher price per hour."
  type        = string

  validation {
    condition     = contains(["STANDARD", "EXTENDED"], var.support_type)
    error_message = "support_type is STANDARD or EXTENDED."
  }
}

variable "vpc_id" {
  description = "VPC that the cluster lives in."
  type        = string

  validation {
    condition     = can(regex("^vpc-[0-9a-f]+$", var.vpc_id))
    error_message = "vpc_id is the id of a VPC, such as \"vpc-0a1b2c3d4e5f60718\"."
  }
}

variable "private_subnet_ids" {
  description = "Private subnets of that VPC, in two zones or more, for the control plane's interfaces and the nodes."
  type        = list(string)

  validation {
    condition     = length(distinct(var.private_subnet_ids)) >= 2 && length(distinct(var.private_subnet_ids)) == length(var.private_subnet_ids)
    error_message = "private_subnet_ids names two subnets or more, each once."
  }

  validation {
    condition     = alltrue([for id in var.private_subnet_ids : can(regex("^subnet-[0-9a-f]+$", id))])
    error_message = "private_subnet_ids holds ids of subnets, such as \"subnet-0a1b2c3d4e5f60718\"."
  }
}

variable "allowed_cidrs" {
  description = "Networks that may reach the public endpoint of the cluster. Empty turns the public endpoint off."
  type        = list(string)

  validation {
    condition = alltrue([
      for cidr in var.allowed_cidrs :
      can(regex("^[0-9.]+/[0-9]+$", cidr)) && try(cidrsubnet(cidr, 0, 0) == cidr, false)
    ])
    error_message = "allowed_cidrs holds IPv4 networks without host bits, such as \"203.0.113.7/32\"."
  }
}

variable "instance_types" {
  description = "EC2 instance types of the nodes, all of one processor architecture; with SPOT several make sense."
  type        = list(string)

  validation {
    condition     = length(var.instance_types) >= 1 && length(distinct(var.instance_types)) == length(var.instance_types)
    error_message = "instance_types names one instance type or more, each once."
  }

  validation {
    condition     = alltrue([for type in var.instance_types : can(regex("^[a-z0-9-]+\\.[a-z0-9-]+$", type))])
    error_message = "instance_types holds EC2 instance types, such as \"m6i.xlarge\"."
  }
}

variable "capacity_type" {
  description = "ON_DEMAND, or SPOT: cheaper, and taken away with two minutes' notice."
  type        = string

  validation {
    condition     = contains(["ON_DEMAND", "SPOT"], var.capacity_type)
    error_message = "capacity_type is ON_DEMAND or SPOT."
  }
}

variable "min_nodes" {
  description = "Number of nodes that the autoscaler does not go below."
  type        = number

  validation {
    condition     = var.min_nodes >= 1 && floor(var.min_nodes) == var.min_nodes
    error_message = "min_nodes is a whole number, 1 or more."
  }
}

variable "desired_nodes" {
  description = "Number of nodes at the first apply; afterwards the autoscaler decides and this value is not looked at."
  type        = number

  validation {
    condition     = var.desired_nodes >= 1 && floor(var.desired_nodes) == var.desired_nodes
    error_message = "desired_nodes is a whole number, 1 or more."
  }
}

variable "max_nodes" {
  description = "Number of nodes that the autoscaler does not go above."
  type        = number

  validation {
    condition     = var.max_nodes >= 1 && var.max_nodes <= 450 && floor(var.max_nodes) == var.max_nodes
    error_message = "max_nodes is a whole number from 1 to 450, the most that a managed node group holds."
  }
}

variable "disk_gib" {
  description = "Size of a node's root volume, in GiB."
  type        = number

  validation {
    condition     = var.disk_gib >= 20 && var.disk_gib <= 16384 && floor(var.disk_gib) == var.disk_gib
    error_message = "disk_gib is a whole number from 20 to 16384."
  }
}

variable "log_types" {
  description = "Logs of the control plane that go to CloudWatch."
  type        = list(string)

  validation {
    condition = alltrue([
      for type in var.log_types :
      contains(["api", "audit", "authenticator", "controllerManager", "scheduler"], type)
    ])
    error_message = "log_types holds some of api, audit, authenticator, controllerManager and scheduler."
  }
}

variable "log_retention_days" {
  description = "Days that CloudWatch keeps the logs of the control plane."
  type        = number

  validation {
    condition = contains(
      [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653],
      var.log_retention_days
    )
    error_message = "log_retention_days is a number of days that CloudWatch knows: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653."
  }
}
