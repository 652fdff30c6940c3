"""The AWS stand-in: moto's server, with EKS, OpenSearch domains and bearer tokens of our own in front.

`server.AwsStandIn` starts and stops it. A request is answered by one of the modules here when they model
its service, and by moto otherwise; what neither models is refused with a 400 that names the operation.
"""
