"""What runs in the pods of a sandbox's clusters, as far as anybody looks at what it does.

The Kubernetes stand-in runs no container. These agents do in this process what a few of them would do: the
autoscaler writes its status and adds nodes, Fluent Bit ships log lines, each only while its pods are ready. The
pods of cali's own checks alone are really run.
"""
