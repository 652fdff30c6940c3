locals {
  # Over SSH with a key, over HTTPS with a token, or of a repository that anybody may read.
  airflow_git        = try(var.airflow.git, null)
  airflow_git_secret = try({ ssh = "airflow-git-ssh", token = "airflow-git-credentials" }[local.airflow_git.auth], null)

  airflow_git_annotations = local.airflow_git_secret == null ? {} : {
    "cali/git-revision" = var.revisions[local.airflow_git_secret]
  }
}

resource "helm_release" "airflow" {
  count = var.airflow == null ? 0 : 1

  name       = "airflow"
  namespace  = "airflow"
  repository = "https://airflow.apache.org"
  chart      = "airflow"
  version    = var.airflow.chart_version

  # The namespace and its Secrets are there: the stage `service-secrets` made them.
  create_namespace = false

  # A release that does not come up is taken away again, or the next apply finds a name that is in use.
  atomic          = true
  cleanup_on_fail = true
  timeout         = 900
  max_history     = 5

  # Later documents are laid over earlier ones.
  values = concat(
    [yamlencode({
      defaultAirflowTag = var.airflow.version
      # By this one the chart decides what it renders.
      airflowVersion = var.airflow.version

      executor = "KubernetesExecutor"

      images = {
        # The first migration makes the whole database.
        migrationsWaitTimeout = 300
      }

      airflowPodAnnotations = {
        (local.revision) = join("-", [
          for secret in ["airflow-keys", "airflow-database-connection", "airflow-connections"] : var.revisions[secret]
        ])
      }

      fernetKeySecretName    = "airflow-keys"
      apiSecretKeySecretName = "airflow-keys"
      jwtSecretName          = "airflow-keys"

      data = {
        metadataSecretName = "airflow-database-connection"
        # There is no broker. Without a name the chart would make a Secret for one, which outlives the release.
        brokerUrlSecretName = "unused"
      }

      extraEnvFrom = yamlencode([{ secretRef = { name = "airflow-connections" } }])

      # Helm starts its hooks only once the release is up, and this one comes up only once both have run. They are
      # ordinary Jobs instead. A Job cannot be changed: this long after its end it is gone, and the next change of
      # the release makes it anew.
      migrateDatabaseJob = {
        useHelmHooks            = false
        ttlSecondsAfterFinished = 60
        resources               = local.resources["airflow/worker"]
      }

      createUserJob = {
        useHelmHooks            = false
        ttlSecondsAfterFinished = 60
        resources               = local.resources["airflow/worker"]

        # The chart's own arguments take the password from a value. Asked for it twice, the command reads it from
        # its input here, which no list of processes shows. A user who exists is left as he is.
        args = ["bash", "-c", join(" ", [
          "printf '%s\\n%s\\n' \"$AIRFLOW_ADMIN_PASSWORD\" \"$AIRFLOW_ADMIN_PASSWORD\" |",
          "airflow users create --role Admin --username admin --email admin@example.com --firstname admin --lastname user",
        ])]

        env = [{
          name      = "AIRFLOW_ADMIN_PASSWORD"
          valueFrom = { secretKeyRef = { name = "airflow-admin", key = "password" } }
        }]
      }

      apiServer = {
        replicas  = var.pods["airflow/api-server"].replicas
        resources = local.resources["airflow/api-server"]
        # Of two one can go. For a single pod a budget would only keep its node from being drained.
        podDisruptionBudget = {
          enabled = var.pods["airflow/api-server"].replicas > 1
          config  = { maxUnavailable = 1 }
        }
        startupProbe = { failureThreshold = 18 }
      }

      scheduler = {
        replicas          = var.pods["airflow/scheduler"].replicas
        resources         = local.resources["airflow/scheduler"]
        startupProbe      = { failureThreshold = 18 }
        logGroomerSidecar = { resources = local.resources["log-groomer"] }
      }

      dagProcessor = {
        replicas          = var.pods["airflow/dag-processor"].replicas
        resources         = local.resources["airflow/dag-processor"]
        podAnnotations    = local.airflow_git_annotations
        logGroomerSidecar = { resources = local.resources["log-groomer"] }
      }

      triggerer = {
        replicas       = var.pods["airflow/triggerer"].replicas
        resources      = local.resources["airflow/triggerer"]
        podAnnotations = local.airflow_git_annotations
        # It would keep its logs there: Fluent Bit has them.
        persistence       = { enabled = false }
        logGroomerSidecar = { resources = local.resources["log-groomer"] }
      }

      workers = {
        kubernetes = { resources = local.resources["airflow/worker"] }
      }

      # Nothing here collects its figures, and there is no Celery.
      statsd = { enabled = false }
      redis  = { enabled = false }

      logs = {
        persistence = { enabled = false }
      }

      config = {
        logging = {
          # Tasks write to their pod's output, too, and Fluent Bit takes it to OpenSearch.
          remote_logging = "False"
        }
        kubernetes_executor = {
          # What a failed task wrote is in OpenSearch: its pod need not stay.
          delete_worker_pods_on_failure = "True"
        }
      }
    })],

    [local.airflow_git == null ? yamlencode({
      dags = { gitSync = { enabled = false } }
      }) : yamlencode({
      dags = {
        gitSync = {
          enabled = true
          repo    = local.airflow_git.url
          # git-sync 4 reads `ref`, git-sync 3 the other two.
          ref       = local.airflow_git.branch
          branch    = local.airflow_git.branch
          rev       = "HEAD"
          subPath   = local.airflow_git.path
          period    = "${local.airflow_git.seconds}s"
          depth     = 1
          resources = local.resources["git-sync"]
        }
      }
    })],

    local.airflow_git_secret == null ? [] : [yamlencode(local.airflow_git.auth == "ssh" ? {
      dags = { gitSync = { sshKeySecret = local.airflow_git_secret, knownHosts = local.airflow_git.known_hosts } }
      } : {
      dags = { gitSync = { credentialsSecret = local.airflow_git_secret, knownHosts = "" } }
    })],

    [!try(var.airflow.bundled_database, false) ? yamlencode({
      postgresql = { enabled = false }
      }) : yamlencode({
      postgresql = {
        enabled = true

        # Where Bitnami's images went: nobody mends them any more. A database of its own is the way out, by
        # `airflow.database_url` in secrets.yaml.
        image = {
          registry   = "docker.io"
          repository = "bitnamilegacy/postgresql"
          tag        = "16.1.0-debian-11-r15"
        }

        auth = {
          username       = "airflow"
          database       = "airflow"
          existingSecret = "airflow-database"
        }

        primary = {
          resources      = local.resources["airflow/postgresql"]
          podAnnotations = { (local.revision) = var.revisions["airflow-database"] }
          persistence = {
            storageClass = local.storage_class
            size         = "${var.airflow.database_gib}Gi"
          }
        }
      }
    })],
  )
}
