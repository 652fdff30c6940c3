"""The whole configuration: one input, its processors in their order, one output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cali_infra.sandbox.fluent_bit import kubernetes, multiline, output, parsers, processors, sections, tail
from cali_infra.sandbox.fluent_bit.output import Destination, Document, OpenSearch
from cali_infra.sandbox.fluent_bit.processors import Processor
from cali_infra.sandbox.fluent_bit.sections import Section
from cali_infra.sandbox.fluent_bit.tail import LogFile, Tail
from cali_infra.sandbox.kubernetes.logs import LogLine

# The engine's own: none of it changes what a record says.
_SERVICE = (
    "flush",
    "grace",
    "log_level",
    "http_server",
    "http_listen",
    "http_port",
    "health_check",
    "hc_errors_count",
    "hc_retry_failure_count",
    "hc_period",
    "storage.path",
    "storage.sync",
    "storage.checksum",
    "storage.max_chunks_up",
    "storage.backlog.mem_limit",
    "storage.metrics",
    "storage.keep.rejected",
    "storage.rejected.path",
    "scheduler.base",
    "scheduler.cap",
)


@dataclass(frozen=True)
class Pipeline:
    """A configuration that is modelled from end to end."""

    _input: Tail
    _processors: tuple[Processor, ...]
    _output: OpenSearch

    @classmethod
    def read(cls, file: str, text: str, environ: Mapping[str, str]) -> Pipeline:
        """From the text of the YAML file and the container's variables; `file` is its name in messages.

        Raises ConfigurationError for what is not modelled and for a variable that is not set.
        """
        root = sections.read(file, text, environ)
        if "service" in root:
            service = root.section("service")
            service.ignore(*_SERVICE)
            service.end()
        known = parsers.read(root.sections("parsers"))
        rules = multiline.rules_of(root.sections("multiline_parsers"))
        pipeline = root.section("pipeline")
        root.end()
        inputs, outputs = pipeline.sections("inputs"), pipeline.sections("outputs")
        for key, found in (("inputs", inputs), ("outputs", outputs)):
            if len(found) != 1:
                pipeline.refuse(key, f"exactly one is modelled, not {len(found)}")
        pipeline.end()
        took = tail.read(inputs[0])
        steps: list[Processor] = []
        if "processors" in inputs[0]:
            chain = inputs[0].section("processors")
            steps = [_processor(one, known, rules) for one in chain.sections("logs")]
            chain.end()
        inputs[0].end()
        return cls(took, tuple(steps), output.read(outputs[0]))

    @property
    def destination(self) -> Destination:
        """Where the documents go."""
        return self._output.destination

    def takes(self, path: str) -> bool:
        """Whether anything of a log file is read and sent."""
        return self._input.takes(path) and self._output.takes(self._input.tag_of(path))

    def documents(self, file: LogFile, lines: Sequence[LogLine]) -> list[Document]:
        """What is sent of a log file's lines; the same lines give the same identifiers again."""
        if not self.takes(file.path):
            return []
        records, tag = self._input.records(file.path, lines), self._input.tag_of(file.path)
        for processor in self._processors:
            records = processor.run(file, tag, records)
        return [self._output.document(record) for record in records]


def _processor(
    section: Section, known: Mapping[str, parsers.RegexParser], rules: Mapping[str, multiline.Rules]
) -> Processor:
    name = section.choice("name", "kubernetes", "modify", "nest", "parser", "multiline")
    section.ignore("alias")
    found: Processor
    match name:
        case "kubernetes":
            found = kubernetes.read(section)
        case "modify":
            return processors.modify(section)
        case "nest":
            found = processors.nest(section)
        case "parser":
            found = processors.parse(section, known)
        case _:
            found = multiline.read(section, rules)
    section.end()
    return found
