output "releases" {
  description = "The Helm releases that are installed: namespace, chart version and the application's version by name."
  value = merge([
    for releases in [helm_release.airflow, helm_release.milvus, helm_release.grafana] : {
      for release in releases : release.name => {
        namespace     = release.namespace
        chart_version = release.version
        version = {
          airflow = try(var.airflow.version, "")
          milvus  = try(var.milvus.version, "")
          grafana = try(var.grafana.version, "")
        }[release.name]
      }
    }
  ]...)
}
