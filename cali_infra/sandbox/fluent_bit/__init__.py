"""What Fluent Bit makes of a container's log lines by its configuration, evaluated without the program.

`Pipeline.read` takes the text of the configuration and the container's environment, `Pipeline.documents` a log
file's lines and gives what the output would send. It models what `k8s/fluent-bit` uses, with the semantics of
Fluent Bit 5.1.1, and refuses with `ConfigurationError` any plugin, property or value beyond that: a change that
it does not know must never look as if it were right. What does not change records (buffers, retries, storage) is
listed by name and not looked at.

Not modelled although possible: a trace of more than 2 MB, which the program cuts, and a state that a multiline
processor carries from one call to the next.
"""

from cali_infra.sandbox.fluent_bit.output import Destination, Document
from cali_infra.sandbox.fluent_bit.pipeline import Pipeline
from cali_infra.sandbox.fluent_bit.sections import ConfigurationError
from cali_infra.sandbox.fluent_bit.tail import LogFile

__all__ = ["ConfigurationError", "Destination", "Document", "LogFile", "Pipeline"]
