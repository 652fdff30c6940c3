"""OpenSearch domains in memory, for the sandbox: `OpenSearchStandIn` runs the HTTP side of each.

Security API with enforced roles, index templates, retention policies, `_bulk` with mapping checks, `_search`. What
it does not model it answers with 501 and the operation's name.
"""

from cali_infra.sandbox.opensearch.standin import OpenSearchStandIn

__all__ = ["OpenSearchStandIn"]
