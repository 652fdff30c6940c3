locals {
  # The data source's plugin, and the identity by which the dashboards name it.
  grafana_plugin     = "grafana-opensearch-datasource"
  grafana_datasource = "opensearch"
}

resource "helm_release" "grafana" {
  count = var.grafana == null ? 0 : 1

  name       = "grafana"
  namespace  = "grafana"
  repository = "https://grafana-community.github.io/helm-charts"
  chart      = "grafana"
  version    = var.grafana.chart_version

  create_namespace = false

  atomic          = true
  cleanup_on_fail = true
  timeout         = 600
  max_history     = 5

  values = [yamlencode({
    image = { tag = var.grafana.version }

    replicas = var.pods["grafana/grafana"].replicas
    # Two pods cannot have the volume at the same time.
    deploymentStrategy = { type = "Recreate" }

    resources = local.resources["grafana/grafana"]

    podAnnotations = {
      (local.revision) = "${var.revisions["grafana-admin"]}-${var.revisions["grafana-opensearch"]}"
    }

    persistence = {
      enabled          = true
      storageClassName = local.storage_class
      size             = "${var.grafana.volume_gib}Gi"
      # Like the volumes of the other two, it outlives the release.
      annotations = { "helm.sh/resource-policy" = "keep" }
    }

    admin          = { existingSecret = "grafana-admin" }
    envFromSecrets = [{ name = "grafana-opensearch" }]

    # It asks nothing of the cluster's API.
    rbac                         = { create = false }
    automountServiceAccountToken = false
    testFramework                = { enabled = false }

    plugins = ["${local.grafana_plugin}@${var.grafana.plugin_version}"]

    datasources = {
      "datasources.yaml" = {
        apiVersion = 1
        datasources = [{
          name          = "OpenSearch"
          uid           = local.grafana_datasource
          type          = local.grafana_plugin
          access        = "proxy"
          url           = "https://${var.opensearch_endpoint}"
          isDefault     = true
          editable      = false
          basicAuth     = true
          basicAuthUser = var.grafana.user

          jsonData = {
            database        = var.grafana.index
            flavor          = "opensearch"
            version         = var.grafana.engine_version
            timeField       = "@timestamp"
            logMessageField = "log"
            # The reader has no right to it.
            pplEnabled = false
          }

          # Grafana puts the variable's value here. Written with braces it would expand the password once more.
          secureJsonData = { basicAuthPassword = "$OPENSEARCH_READER_PASSWORD" }
        }]
      }
    }

    dashboardProviders = {
      "dashboardproviders.yaml" = {
        apiVersion = 1
        providers = [{
          name            = "default"
          orgId           = 1
          folder          = "Platform"
          type            = "file"
          disableDeletion = true
          editable        = true
          options         = { path = "/var/lib/grafana/dashboards/default" }
        }]
      }
    }

    dashboards = {
      default = {
        for file in fileset("${path.module}/dashboards", "*.json") :
        trimsuffix(file, ".json") => { json = file("${path.module}/dashboards/${file}") }
      }
    }

    "grafana.ini" = {
      analytics = {
        reporting_enabled        = false
        check_for_updates        = false
        check_for_plugin_updates = false
      }
      news = { news_feed_enabled = false }
    }
  })]
}
