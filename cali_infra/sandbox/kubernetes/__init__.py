"""A Kubernetes API server in memory, for the sandbox: `KubernetesStandIn` runs one per cluster.

kmock carries the discovery data, `kubernetes-validate` the schemas and aiohttp the HTTP; versions, server-side
apply, validation, selectors, authorization and the small controllers are ours. kmock's own emulator is not used:
it looks through all objects for each read, keeps every version of an object and every request for good, and has
neither resourceVersion nor apply. The stand-in listens on loopback with TLS, keeps everything in memory, and
answers 501 to what it does not model.
"""

from cali_infra.sandbox.kubernetes.standin import KubernetesStandIn

__all__ = ["KubernetesStandIn"]
