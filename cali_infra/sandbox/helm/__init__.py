"""The stand-in for Terraform's provider `hashicorp/helm`: it records releases and installs nothing.

With a release it records what `sandbox/charts` makes of its chart: an agent brings those objects about.

schema.py     what the provider's configuration and resources look like
codec.py      values between Terraform's msgpack and Python
values.py     how values, set, set_list, set_sensitive and set_wo become one document
charts.py     the charts that it knows; any other is refused as Helm refuses one that is not there
cluster.py    the way to the Kubernetes API: exec credentials, TLS, Helm's words for what goes wrong
releases.py   the record of a release, kept where Helm itself keeps it
provider.py   what validate, plan, apply, read and import do
standin.py    the gRPC server for plugin protocol 6, one configuration per connection
"""
