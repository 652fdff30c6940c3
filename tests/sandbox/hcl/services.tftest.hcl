# Plans of the stack services against an AWS that answers what is written here; nothing is called, and the Helm
# provider is no stand-in for a chart: what a chart makes of these values is looked at elsewhere.

mock_provider "aws" {
  mock_data "aws_partition" {
    defaults = { partition = "aws-example", dns_suffix = "example.com" }
  }

  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }

  mock_data "aws_s3_bucket" {
    defaults = { arn = "arn:aws-example:s3:::acme-milvus" }
  }

  mock_data "aws_eks_cluster" {
    defaults = { identity = [{ oidc = [{ issuer = "https://oidc.example.com/id/0123" }] }] }
  }
}

mock_provider "helm" {}

variables {
  project             = "cali"
  environment         = "default"
  region              = "xx-example-1"
  account_id          = "111122223333"
  cluster_name        = "cali-default"
  cluster_endpoint    = "https://cluster.example"
  cluster_ca          = "LS0tLS1CRUdJTg=="
  opensearch_endpoint = "search.example.com"

  kube_exec = {
    command = "/bin/false"
    args    = []
    env     = {}
  }

  pods = {
    "airflow/api-server"    = { cpu = "500m", memory = "2Gi", replicas = 2 }
    "airflow/scheduler"     = { cpu = "501m", memory = "1Gi", replicas = 1 }
    "airflow/dag-processor" = { cpu = "502m", memory = "1Gi", replicas = 1 }
    "airflow/triggerer"     = { cpu = "503m", memory = "1Gi", replicas = 1 }
    "airflow/postgresql"    = { cpu = "504m", memory = "1Gi", replicas = 1 }
    "airflow/worker"        = { cpu = "505m", memory = "1Gi", replicas = 1 }
    "milvus/standalone"     = { cpu = "1", memory = "8Gi", replicas = 1 }
    "milvus/minio"          = { cpu = "506m", memory = "1Gi", replicas = 1 }
    "milvus/etcd"           = { cpu = "507m", memory = "1Gi", replicas = 1 }
    "grafana/grafana"       = { cpu = "508m", memory = "1Gi", replicas = 1 }
    "git-sync"              = { cpu = "50m", memory = "64Mi", replicas = 1 }
    "log-groomer"           = { cpu = "10m", memory = "64Mi", replicas = 1 }
  }

  revisions = {
    "airflow-keys"                = "0000000000000001"
    "airflow-database"            = "0000000000000002"
    "airflow-database-connection" = "0000000000000003"
    "airflow-admin"               = "0000000000000004"
    "airflow-connections"         = "0000000000000005"
    "airflow-git-ssh"             = "0000000000000006"
    "milvus-object-store"         = "0000000000000007"
    "milvus-root"                 = "0000000000000008"
    "grafana-admin"               = "0000000000000009"
    "grafana-opensearch"          = "000000000000000a"
  }

  airflow = {
    chart_version    = "1.22.0"
    version          = "3.2.2"
    bundled_database = true
    database_gib     = 20

    git = {
      url         = "git@git.example.com:acme/dags.git"
      branch      = "release"
      path        = "airflow/dags"
      seconds     = 30
      auth        = "ssh"
      known_hosts = "git.example.com ssh-ed25519 AAAA"
    }
  }

  milvus = {
    chart_version    = "5.0.19"
    version          = "2.6.15"
    mode             = "standalone"
    bucket           = null
    volume_gib       = 50
    object_store_gib = 100
  }

  grafana = {
    chart_version  = "12.11.1"
    version        = "13.2.0"
    plugin_version = "2.34.2"
    volume_gib     = 10
    index          = "cali-logs-*"
    user           = "cali-reader"
    engine_version = "2.19.0"
  }
}

run "three_releases_that_undo_themselves" {
  command = plan

  assert {
    condition = alltrue([
      for release in [helm_release.airflow[0], helm_release.milvus[0], helm_release.grafana[0]] :
      release.atomic && release.cleanup_on_fail && !release.create_namespace &&
      release.timeout >= 600 && release.namespace == release.name
    ])
    error_message = "A release that fails is taken away again, in the namespace that is there already."
  }

  assert {
    condition = { for name, release in output.releases : name => "${release.namespace} ${release.chart_version} ${release.version}" } == {
      airflow = "airflow 1.22.0 3.2.2"
      milvus  = "milvus 5.0.19 2.6.15"
      grafana = "grafana 12.11.1 13.2.0"
    }
    error_message = "What is installed is said: where, by which chart, in which version."
  }

  assert {
    condition = (
      length(aws_iam_role.milvus) == 0 && length(aws_iam_openid_connect_provider.this) == 0 &&
      length(data.aws_s3_bucket.milvus) == 0
    )
    error_message = "Standalone needs nothing of AWS."
  }
}

run "airflow_by_its_values" {
  command = plan

  assert {
    condition = (
      yamldecode(helm_release.airflow[0].values[0]).executor == "KubernetesExecutor" &&
      !yamldecode(helm_release.airflow[0].values[0]).createUserJob.useHelmHooks &&
      !yamldecode(helm_release.airflow[0].values[0]).migrateDatabaseJob.useHelmHooks
    )
    error_message = "With hooks Helm and the release wait for each other."
  }

  assert {
    condition = (
      yamldecode(helm_release.airflow[0].values[0]).defaultAirflowTag == "3.2.2" &&
      yamldecode(helm_release.airflow[0].values[0]).airflowVersion == "3.2.2"
    )
    error_message = "The chart renders for the version that its image has."
  }

  assert {
    condition = (
      strcontains(yamldecode(helm_release.airflow[0].values[0]).createUserJob.args[2], "\"$AIRFLOW_ADMIN_PASSWORD\"") &&
      !strcontains(yamldecode(helm_release.airflow[0].values[0]).createUserJob.args[2], "--password")
    )
    error_message = "The password comes from the Secret and stands on no command line."
  }

  assert {
    condition = yamldecode(helm_release.airflow[0].values[0]).airflowPodAnnotations == {
      "cali/credentials-revision" = "0000000000000001-0000000000000003-0000000000000005"
    }
    error_message = "Every part of Airflow starts anew with the keys, the database's and the connections' Secret."
  }

  assert {
    condition = alltrue([
      for part in ["dagProcessor", "triggerer"] :
      yamldecode(helm_release.airflow[0].values[0])[part].podAnnotations == { "cali/git-revision" = "0000000000000006" }
    ])
    error_message = "Only what runs git-sync starts anew with the key of the repository."
  }

  assert {
    condition = (
      yamldecode(helm_release.airflow[0].values[0]).apiServer.replicas == 2 &&
      yamldecode(helm_release.airflow[0].values[0]).apiServer.podDisruptionBudget.enabled
    )
    error_message = "Of two servers one stays through a drain."
  }

  assert {
    condition = (
      yamldecode(helm_release.airflow[0].values[0]).scheduler.resources.requests.cpu == "501m" &&
      yamldecode(helm_release.airflow[0].values[0]).dagProcessor.resources.requests.cpu == "502m" &&
      yamldecode(helm_release.airflow[0].values[0]).triggerer.resources.requests.cpu == "503m" &&
      yamldecode(helm_release.airflow[0].values[0]).workers.kubernetes.resources.requests.cpu == "505m"
    )
    error_message = "Each pod has its own size."
  }

  assert {
    condition = (
      yamldecode(helm_release.airflow[0].values[1]).dags.gitSync.branch == "release" &&
      yamldecode(helm_release.airflow[0].values[1]).dags.gitSync.ref == "release" &&
      yamldecode(helm_release.airflow[0].values[1]).dags.gitSync.subPath == "airflow/dags" &&
      yamldecode(helm_release.airflow[0].values[1]).dags.gitSync.period == "30s" &&
      yamldecode(helm_release.airflow[0].values[2]).dags.gitSync.sshKeySecret == "airflow-git-ssh" &&
      yamldecode(helm_release.airflow[0].values[2]).dags.gitSync.knownHosts == "git.example.com ssh-ed25519 AAAA"
    )
    error_message = "The repository is taken over SSH, from the host whose key is known."
  }

  assert {
    condition = (
      yamldecode(helm_release.airflow[0].values[3]).postgresql.auth.existingSecret == "airflow-database" &&
      yamldecode(helm_release.airflow[0].values[3]).postgresql.image.repository == "bitnamilegacy/postgresql" &&
      yamldecode(helm_release.airflow[0].values[3]).postgresql.primary.persistence == { size = "20Gi", storageClass = "gp2" } &&
      yamldecode(helm_release.airflow[0].values[3]).postgresql.primary.podAnnotations["cali/credentials-revision"] == "0000000000000002"
    )
    error_message = "The bundled database has its volume on gp2, its password by name, and an image that exists."
  }
}

run "a_token_instead_of_a_key" {
  command = plan

  variables {
    airflow = {
      chart_version    = "1.22.0"
      version          = "3.2.2"
      bundled_database = true
      database_gib     = 20

      git = {
        url         = "https://git.example.com/acme/dags"
        branch      = "main"
        path        = ""
        seconds     = 60
        auth        = "token"
        known_hosts = ""
      }
    }

    revisions = {
      "airflow-keys"                = "0000000000000001"
      "airflow-database"            = "0000000000000002"
      "airflow-database-connection" = "0000000000000003"
      "airflow-connections"         = "0000000000000005"
      "airflow-git-credentials"     = "0000000000000006"
      "milvus-object-store"         = "0000000000000007"
      "milvus-root"                 = "0000000000000008"
      "grafana-admin"               = "0000000000000009"
      "grafana-opensearch"          = "000000000000000a"
    }
  }

  assert {
    condition = (
      yamldecode(helm_release.airflow[0].values[2]).dags.gitSync.credentialsSecret == "airflow-git-credentials" &&
      yamldecode(helm_release.airflow[0].values[0]).triggerer.podAnnotations == { "cali/git-revision" = "0000000000000006" }
    )
    error_message = "The token comes by the Secret's name."
  }
}

run "a_public_repository_and_a_database_elsewhere" {
  command = plan

  variables {
    airflow = {
      chart_version    = "1.22.0"
      version          = "3.2.2"
      bundled_database = false
      database_gib     = 20

      git = {
        url         = "https://git.example.com/acme/dags"
        branch      = "main"
        path        = ""
        seconds     = 60
        auth        = "none"
        known_hosts = ""
      }
    }
  }

  assert {
    condition = (
      length(helm_release.airflow[0].values) == 3 &&
      yamldecode(helm_release.airflow[0].values[1]).dags.gitSync.enabled &&
      yamldecode(helm_release.airflow[0].values[0]).triggerer.podAnnotations == {} &&
      yamldecode(helm_release.airflow[0].values[2]) == { postgresql = { enabled = false } }
    )
    error_message = "No Secret is named that nobody made, and no second database comes up."
  }
}

run "without_a_repository_git_sync_is_off" {
  command = plan

  variables {
    airflow = {
      chart_version    = "1.22.0"
      version          = "3.2.2"
      bundled_database = true
      database_gib     = 20
      git              = null
    }
  }

  assert {
    condition     = yamldecode(helm_release.airflow[0].values[1]) == { dags = { gitSync = { enabled = false } } }
    error_message = "Airflow runs without."
  }
}

run "milvus_by_its_values" {
  command = plan

  assert {
    condition = (
      !yamldecode(helm_release.milvus[0].values[0]).cluster.enabled &&
      !yamldecode(helm_release.milvus[0].values[0]).pulsarv3.enabled &&
      yamldecode(helm_release.milvus[0].values[0]).etcd.replicaCount == 1 &&
      !yamldecode(helm_release.milvus[0].values[0]).etcd.pdb.create &&
      yamldecode(helm_release.milvus[0].values[1]).minio.mode == "standalone" &&
      yamldecode(helm_release.milvus[0].values[1]).standalone.messageQueue == "woodpecker"
    )
    error_message = "One pod each, and no Pulsar."
  }

  assert {
    condition = (
      yamldecode(helm_release.milvus[0].values[0]).etcd.persistence.storageClass == "gp2" &&
      yamldecode(helm_release.milvus[0].values[1]).minio.persistence.storageClass == "gp2" &&
      yamldecode(helm_release.milvus[0].values[1]).standalone.persistence.persistentVolumeClaim.storageClass == "gp2"
    )
    error_message = "Each of the three volumes names its class."
  }

  assert {
    condition = (
      yamldecode(yamldecode(helm_release.milvus[0].values[0]).extraConfigFiles["user.yaml"]).common.security.authorizationEnabled &&
      yamldecode(helm_release.milvus[0].values[1]).minio.existingSecret == "milvus-object-store" &&
      yamldecode(helm_release.milvus[0].values[1]).minio.accessKey == "" &&
      toset([for variable in yamldecode(helm_release.milvus[0].values[1]).standalone.extraEnv : "${variable.name}=${variable.valueFrom.secretKeyRef.name}/${variable.valueFrom.secretKeyRef.key}"]) == toset([
        "COMMON_SECURITY_DEFAULTROOTPASSWORD=milvus-root/password",
        "MINIO_ACCESS_KEY_ID=milvus-object-store/accesskey",
        "MINIO_SECRET_ACCESS_KEY=milvus-object-store/secretkey",
      ])
    )
    error_message = "Milvus asks who is there, and nobody has the chart's own keys."
  }

  assert {
    condition = (
      yamldecode(helm_release.milvus[0].values[1]).annotations["cali/credentials-revision"] == "0000000000000008-0000000000000007" &&
      yamldecode(helm_release.milvus[0].values[1]).minio.podAnnotations["cali/credentials-revision"] == "0000000000000007" &&
      yamldecode(helm_release.milvus[0].values[1]).minio.DeploymentUpdate.type == "Recreate"
    )
    error_message = "The store starts anew with its keys, one pod after the other, and not with Milvus' password."
  }
}

run "milvus_as_a_cluster_in_s3" {
  command = plan

  variables {
    milvus = {
      chart_version    = "5.0.19"
      version          = "2.6.15"
      mode             = "cluster"
      bucket           = "acme-milvus"
      volume_gib       = 50
      object_store_gib = 100
    }

    pods = {
      "airflow/api-server"    = { cpu = "500m", memory = "2Gi", replicas = 1 }
      "airflow/scheduler"     = { cpu = "501m", memory = "1Gi", replicas = 1 }
      "airflow/dag-processor" = { cpu = "502m", memory = "1Gi", replicas = 1 }
      "airflow/triggerer"     = { cpu = "503m", memory = "1Gi", replicas = 1 }
      "airflow/postgresql"    = { cpu = "504m", memory = "1Gi", replicas = 1 }
      "airflow/worker"        = { cpu = "505m", memory = "1Gi", replicas = 1 }
      "milvus/proxy"          = { cpu = "1", memory = "2Gi", replicas = 1 }
      "milvus/mixcoord"       = { cpu = "2", memory = "2Gi", replicas = 1 }
      "milvus/querynode"      = { cpu = "3", memory = "2Gi", replicas = 1 }
      "milvus/datanode"       = { cpu = "4", memory = "2Gi", replicas = 1 }
      "milvus/streamingnode"  = { cpu = "5", memory = "2Gi", replicas = 1 }
      "milvus/etcd"           = { cpu = "507m", memory = "1Gi", replicas = 3 }
      "grafana/grafana"       = { cpu = "508m", memory = "1Gi", replicas = 1 }
      "git-sync"              = { cpu = "50m", memory = "64Mi", replicas = 1 }
      "log-groomer"           = { cpu = "10m", memory = "64Mi", replicas = 1 }
    }

    revisions = {
      "airflow-keys"                = "0000000000000001"
      "airflow-database"            = "0000000000000002"
      "airflow-database-connection" = "0000000000000003"
      "airflow-connections"         = "0000000000000005"
      "airflow-git-ssh"             = "0000000000000006"
      "milvus-root"                 = "0000000000000008"
      "grafana-admin"               = "0000000000000009"
      "grafana-opensearch"          = "000000000000000a"
    }
  }

  override_resource {
    target          = aws_iam_openid_connect_provider.this
    override_during = plan
    values = {
      arn = "arn:aws-example:iam::111122223333:oidc-provider/oidc.example.com/id/0123"
      url = "https://oidc.example.com/id/0123"
    }
  }

  override_resource {
    target          = aws_iam_role.milvus
    override_during = plan
    values          = { arn = "arn:aws-example:iam::111122223333:role/milvus" }
  }

  assert {
    condition = (
      yamldecode(helm_release.milvus[0].values[0]).cluster.enabled &&
      yamldecode(helm_release.milvus[0].values[0]).etcd.replicaCount == 3 &&
      yamldecode(helm_release.milvus[0].values[0]).etcd.pdb.create &&
      !yamldecode(helm_release.milvus[0].values[1]).minio.enabled &&
      yamldecode(helm_release.milvus[0].values[1]).woodpecker.enabled
    )
    error_message = "Three etcd of which one can go, and no store in the cluster."
  }

  assert {
    condition = (
      yamldecode(helm_release.milvus[0].values[1]).externalS3.host == "s3.xx-example-1.example.com" &&
      yamldecode(helm_release.milvus[0].values[1]).externalS3.bucketName == "acme-milvus" &&
      yamldecode(helm_release.milvus[0].values[1]).externalS3.useIAM &&
      !can(yamldecode(helm_release.milvus[0].values[1]).externalS3.accessKey) &&
      yamldecode(helm_release.milvus[0].values[1]).serviceAccount.annotations["eks.amazonaws.com/role-arn"] == "arn:aws-example:iam::111122223333:role/milvus"
    )
    error_message = "The bucket is reached by a role, without keys."
  }

  assert {
    condition = {
      for condition in data.aws_iam_policy_document.milvus_trust[0].statement[0].condition : condition.variable => one(condition.values)
      } == {
      "oidc.example.com/id/0123:sub" = "system:serviceaccount:milvus:milvus"
      "oidc.example.com/id/0123:aud" = "sts.example.com"
    }
    error_message = "Nobody but Milvus' service account takes the role."
  }

  assert {
    condition = alltrue([
      for statement in data.aws_iam_policy_document.milvus["acme-milvus"].statement :
      alltrue([for resource in statement.resources : startswith(resource, "arn:aws-example:s3:::acme-milvus")]) &&
      !contains(statement.actions, "s3:*")
    ])
    error_message = "The role reaches this bucket and no other."
  }

  assert {
    condition = (
      yamldecode(helm_release.milvus[0].values[1]).mixCoordinator.extraEnv[0].valueFrom.secretKeyRef.name == "milvus-root" &&
      yamldecode(helm_release.milvus[0].values[1]).mixCoordinator.annotations["cali/credentials-revision"] == "0000000000000008" &&
      yamldecode(helm_release.milvus[0].values[1]).queryNode.resources.requests.cpu == "3"
    )
    error_message = "The coordinator, which makes the user root, has the password; each node has its size."
  }
}

run "grafana_by_its_values" {
  command = plan

  assert {
    condition = (
      yamldecode(helm_release.grafana[0].values[0]).deploymentStrategy.type == "Recreate" &&
      yamldecode(helm_release.grafana[0].values[0]).persistence.storageClassName == "gp2" &&
      yamldecode(helm_release.grafana[0].values[0]).persistence.annotations["helm.sh/resource-policy"] == "keep" &&
      yamldecode(helm_release.grafana[0].values[0]).admin.existingSecret == "grafana-admin" &&
      yamldecode(helm_release.grafana[0].values[0]).plugins == ["grafana-opensearch-datasource@2.34.2"] &&
      yamldecode(helm_release.grafana[0].values[0]).podAnnotations["cali/credentials-revision"] == "0000000000000009-000000000000000a"
    )
    error_message = "One pod at a time has the volume, which outlives the release; the password comes by name."
  }

  assert {
    condition = [
      for source in yamldecode(helm_release.grafana[0].values[0]).datasources["datasources.yaml"].datasources :
      "${source.url} ${source.basicAuthUser} ${source.jsonData.database} ${source.jsonData.version} ${source.secureJsonData.basicAuthPassword}"
    ] == ["https://search.example.com cali-reader cali-logs-* 2.19.0 $OPENSEARCH_READER_PASSWORD"]
    error_message = "Grafana reads the logs as the reader, whose password is a variable of its pod, without braces."
  }

  assert {
    condition = (
      jsondecode(yamldecode(helm_release.grafana[0].values[0]).dashboards.default.logs.json).uid == "platform-logs" &&
      jsondecode(yamldecode(helm_release.grafana[0].values[0]).dashboards.default.logs.json).panels[0].datasource.uid ==
      yamldecode(helm_release.grafana[0].values[0]).datasources["datasources.yaml"].datasources[0].uid
    )
    error_message = "The dashboard comes with it, and asks the data source that is there."
  }
}

run "a_service_that_is_off_is_not_there" {
  command = plan

  variables {
    airflow = null
    grafana = null

    pods = {
      "milvus/standalone" = { cpu = "1", memory = "8Gi", replicas = 1 }
      "milvus/minio"      = { cpu = "506m", memory = "1Gi", replicas = 1 }
      "milvus/etcd"       = { cpu = "507m", memory = "1Gi", replicas = 1 }
    }

    revisions = {
      "milvus-object-store" = "0000000000000007"
      "milvus-root"         = "0000000000000008"
    }
  }

  assert {
    condition     = length(helm_release.airflow) == 0 && length(helm_release.grafana) == 0 && keys(output.releases) == ["milvus"]
    error_message = "Each switch is its own."
  }
}

run "with_all_of_them_off_the_stack_is_empty" {
  command = plan

  variables {
    airflow   = null
    milvus    = null
    grafana   = null
    pods      = {}
    revisions = {}
  }

  assert {
    condition     = length(output.releases) == 0
    error_message = "Nothing is left over."
  }
}

run "a_host_that_nobody_knows" {
  command = plan

  variables {
    airflow = {
      chart_version    = "1.22.0"
      version          = "3.2.2"
      bundled_database = true
      database_gib     = 20

      git = {
        url         = "git@git.example.com:acme/dags.git"
        branch      = "main"
        path        = ""
        seconds     = 60
        auth        = "ssh"
        known_hosts = ""
      }
    }
  }

  expect_failures = [var.airflow]
}

run "a_cluster_without_a_bucket" {
  command = plan

  variables {
    milvus = {
      chart_version    = "5.0.19"
      version          = "2.6.15"
      mode             = "cluster"
      bucket           = null
      volume_gib       = 50
      object_store_gib = 100
    }
  }

  expect_failures = [var.milvus]
}

run "charts_that_have_other_values" {
  command = plan

  variables {
    airflow = {
      chart_version    = "1.19.0"
      version          = "2.11.0"
      bundled_database = true
      database_gib     = 20
      git              = null
    }

    milvus = {
      chart_version    = "5.0.7"
      version          = "2.5.20"
      mode             = "standalone"
      bucket           = null
      volume_gib       = 50
      object_store_gib = 100
    }

    grafana = {
      chart_version  = "10.5.0"
      version        = "11.6.0"
      plugin_version = "2.34.2"
      volume_gib     = 10
      index          = "cali-logs-*"
      user           = "cali-reader"
      engine_version = "2.19.0"
    }
  }

  expect_failures = [var.airflow, var.milvus, var.grafana]
}

run "a_revision_that_could_be_a_password" {
  command = plan

  variables {
    revisions = {
      "grafana-admin" = "Hunter2hunter2"
    }
  }

  expect_failures = [var.revisions]
}
