"""Stand-ins for AWS, Kubernetes, Helm and OpenSearch in one local process: a rehearsal and the test bed.

Nothing here is reached on a real account. Whatever a stand-in does not model, it refuses loudly.
"""
