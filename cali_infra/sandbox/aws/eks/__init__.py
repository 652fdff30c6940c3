"""EKS, as far as cali and Terraform's AWS provider call it: one file per kind of resource.

`service.Eks` puts them together. moto's own EKS is not used: it lacks access entries, add-ons, pod
identities and versions, and its clusters have no API server behind them.
"""
