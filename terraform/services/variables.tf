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

variable "opensearch_endpoint" {
  description = "Host of the OpenSearch domain, with its port where that is not 443."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9.-]+(:[0-9]+)?$", var.opensearch_endpoint))
    error_message = "opensearch_endpoint is a host, or HOST:PORT, without https://."
  }
}

variable "pods" {
  description = "What each pod asks for, by SERVICE/POD, and each container beside one, by its name."
  type = map(object({
    cpu      = string
    memory   = string
    replicas = number
  }))

  validation {
    condition = alltrue([
      for pod in values(var.pods) :
      can(regex("^[0-9]+m?$", pod.cpu)) && can(regex("^[0-9]+(Mi|Gi)$", pod.memory)) &&
      pod.replicas >= 1 && floor(pod.replicas) == pod.replicas
    ])
    error_message = "pods have a cpu such as \"500m\" or \"2\", a memory such as \"512Mi\" or \"2Gi\", and one replica or more."
  }
}

variable "revisions" {
  description = "A keyed hash of each Secret, by its name: it changes with what the Secret holds and says nothing about it."
  type        = map(string)

  validation {
    condition     = alltrue([for revision in values(var.revisions) : can(regex("^[0-9a-f]{16}$", revision))])
    error_message = "revisions are 16 hexadecimal digits each."
  }
}

variable "airflow" {
  description = "Airflow's release; null switches it off. Its database is bundled, or elsewhere; git is null, or where the DAGs are."
  type = object({
    chart_version    = string
    version          = string
    bundled_database = bool
    database_gib     = number
    git = object({
      url         = string
      branch      = string
      path        = string
      seconds     = number
      auth        = string
      known_hosts = string
    })
  })

  validation {
    condition     = var.airflow == null || can(regex("^1\\.(2[0-9]|[3-9][0-9])\\.[0-9]+$", var.airflow.chart_version))
    error_message = "airflow.chart_version is 1.20.0 or newer, below 2.0.0: others have other values."
  }

  validation {
    condition     = var.airflow == null || can(regex("^3\\.[1-9][0-9]*\\.[0-9]+$", var.airflow.version))
    error_message = "airflow.version is 3.1.0 or newer, below 4.0.0: what the chart can run."
  }

  validation {
    condition     = try(var.airflow.git, null) == null || can(index(["ssh", "token", "none"], var.airflow.git.auth))
    error_message = "airflow.git.auth is ssh, token or none."
  }

  validation {
    condition     = try(var.airflow.git.auth, "") != "ssh" || try(length(var.airflow.git.known_hosts), 0) > 0
    error_message = "airflow.git.known_hosts holds the host's key, as ssh-keyscan prints it: without it any host would be believed."
  }
}

variable "milvus" {
  description = "Milvus' release; null switches it off. mode is standalone or cluster, and a cluster has a bucket."
  type = object({
    chart_version    = string
    version          = string
    mode             = string
    bucket           = string
    volume_gib       = number
    object_store_gib = number
  })

  validation {
    condition     = var.milvus == null || can(regex("^5\\.(0\\.([89]|[1-9][0-9]+)|[1-9][0-9]*\\.[0-9]+)$", var.milvus.chart_version))
    error_message = "milvus.chart_version is 5.0.8 or newer, below 6.0.0: others have other values."
  }

  validation {
    condition     = var.milvus == null || can(regex("^2\\.([6-9]|[1-9][0-9])\\.[0-9]+$", var.milvus.version))
    error_message = "milvus.version is 2.6.0 or newer, below 3.0.0, without a v: what the chart can run."
  }

  validation {
    condition     = var.milvus == null || can(index(["standalone", "cluster"], var.milvus.mode))
    error_message = "milvus.mode is standalone or cluster."
  }

  validation {
    condition     = try(var.milvus.mode, "") != "cluster" || try(length(var.milvus.bucket), 0) > 0
    error_message = "milvus.bucket names the bucket that a cluster keeps its data in."
  }
}

variable "grafana" {
  description = "Grafana's release; null switches it off. It reads `index` of the domain as `user`."
  type = object({
    chart_version  = string
    version        = string
    plugin_version = string
    volume_gib     = number
    index          = string
    user           = string
    engine_version = string
  })

  validation {
    condition     = var.grafana == null || can(regex("^12\\.[0-9]+\\.[0-9]+$", var.grafana.chart_version))
    error_message = "grafana.chart_version is 12.0.0 or newer, below 13.0.0: others have other values."
  }

  validation {
    condition     = var.grafana == null || can(regex("^1[23]\\.[0-9]+\\.[0-9]+$", var.grafana.version))
    error_message = "grafana.version is 12.0.0 or newer, below 14.0.0: what the chart can run."
  }

  validation {
    condition     = var.grafana == null || can(regex("^[0-9]+\\.[0-9]+\\.[0-9]+$", var.grafana.engine_version))
    error_message = "grafana.engine_version is the version of OpenSearch with all three numbers: the data source takes no other."
  }
}
