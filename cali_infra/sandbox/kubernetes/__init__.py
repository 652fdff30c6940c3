"""A Kubernetes API server in memory, for the sandbox: `KubernetesStandIn` runs one per cluster.

kmock carries the discovery data and aiohttp the HTTP; server-side apply, validation, selectors, versions,
authorization and the small controllers are ours. It listens on loopback with TLS, keeps everything in
memory, and answers 501 to what it does not model.
"""

from cali_infra.sandbox.kubernetes.standin import KubernetesStandIn

__all__ = ["KubernetesStandIn"]
