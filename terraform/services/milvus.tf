locals {
  milvus_cluster = try(var.milvus.mode, "") == "cluster"

  # The setting common.security.defaultRootPassword. Read at the first start only.
  milvus_root = {
    name      = "COMMON_SECURITY_DEFAULTROOTPASSWORD"
    valueFrom = { secretKeyRef = { name = "milvus-root", key = "password" } }
  }

  # The store takes its keys by the Secret's name. Milvus itself would go on with the chart's: it reads a variable
  # before the file that the chart writes.
  milvus_store = [
    for variable, key in { MINIO_ACCESS_KEY_ID = "accesskey", MINIO_SECRET_ACCESS_KEY = "secretkey" } : {
      name                                     = variable
      valueFrom                                = { secretKeyRef = { name = "milvus-object-store", key = key } }
    }
  ]
}

resource "helm_release" "milvus" {
  count = var.milvus == null ? 0 : 1

  name       = "milvus"
  namespace  = "milvus"
  repository = "https://zilliztech.github.io/milvus-helm"
  chart      = "milvus"
  version    = var.milvus.chart_version

  create_namespace = false

  atomic          = true
  cleanup_on_fail = true
  timeout         = 900
  max_history     = 5

  values = [
    yamlencode({
      image = { all = { tag = "v${var.milvus.version}" } }

      cluster = { enabled = local.milvus_cluster }

      # Woodpecker is the queue: it writes to the object store and needs no pods of its own.
      pulsarv3  = { enabled = false }
      streaming = { enabled = true, woodpecker = { embedded = true, storage = { type = "minio" } } }

      # A JSON line arrives in OpenSearch as fields.
      log = { format = "json" }

      extraConfigFiles = {
        "user.yaml" = yamlencode({ common = { security = { authorizationEnabled = true } } })
      }

      etcd = {
        replicaCount = var.pods["milvus/etcd"].replicas
        resources    = local.resources["milvus/etcd"]
        persistence  = { storageClass = local.storage_class, size = "10Gi" }
        # Of three one can go. For a single pod a budget would only keep its node from being drained.
        pdb = { create = var.pods["milvus/etcd"].replicas > 1 }
      }
    }),

    local.milvus_cluster ? yamlencode({
      minio      = { enabled = false }
      woodpecker = { enabled = true }

      serviceAccount = {
        create      = true
        name        = local.milvus_service_account
        annotations = { "eks.amazonaws.com/role-arn" = one(aws_iam_role.milvus[*].arn) }
      }

      externalS3 = {
        enabled       = true
        cloudProvider = "aws"
        host          = "s3.${var.region}.${one(data.aws_partition.this[*].dns_suffix)}"
        port          = "443"
        useSSL        = true
        useIAM        = true
        region        = var.region
        bucketName    = var.milvus.bucket
        rootPath      = var.cluster_name
      }

      proxy         = { resources = local.resources["milvus/proxy"] }
      queryNode     = { resources = local.resources["milvus/querynode"] }
      dataNode      = { resources = local.resources["milvus/datanode"] }
      streamingNode = { resources = local.resources["milvus/streamingnode"] }
      # It makes the user root.
      mixCoordinator = {
        resources   = local.resources["milvus/mixcoord"]
        annotations = { (local.revision) = var.revisions["milvus-root"] }
        extraEnv    = [local.milvus_root]
      }
      }) : yamlencode({
      annotations = {
        (local.revision) = "${var.revisions["milvus-root"]}-${var.revisions["milvus-object-store"]}"
      }

      standalone = {
        messageQueue = "woodpecker"
        resources    = local.resources["milvus/standalone"]
        extraEnv     = concat([local.milvus_root], local.milvus_store)
        persistence = {
          persistentVolumeClaim = { storageClass = local.storage_class, size = "${var.milvus.volume_gib}Gi" }
        }
      }

      minio = {
        mode           = "standalone"
        existingSecret = "milvus-object-store"
        # The chart's own keys are in every copy of it.
        accessKey      = ""
        secretKey      = ""
        resources      = local.resources["milvus/minio"]
        podAnnotations = { (local.revision) = var.revisions["milvus-object-store"] }
        # Two pods cannot have the volume at the same time.
        DeploymentUpdate = { type = "Recreate" }
        persistence      = { storageClass = local.storage_class, size = "${var.milvus.object_store_gib}Gi" }
      }
    }),
  ]

  depends_on = [aws_iam_role_policy.milvus]
}
