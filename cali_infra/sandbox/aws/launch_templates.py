"""A flaw of moto's: it shows a launch template's own tags as tags of the instances started from it.

Terraform's provider reads them back as a change for ever. AWS never has the kind `launch-template` inside
a template's data, so dropping that kind there is exact.
"""

from __future__ import annotations

from typing import Any


def mend() -> None:
    """Make moto's versions of launch templates leave the template's own tags out; harmless when repeated."""
    from moto.ec2.models import launch_templates

    if issubclass(launch_templates.LaunchTemplateVersion, _Mended):
        return

    class LaunchTemplateVersion(_Mended, launch_templates.LaunchTemplateVersion):
        """moto's class, given data without the template's own tags."""

    launch_templates.LaunchTemplateVersion = LaunchTemplateVersion  # type: ignore[misc]


class _Mended:
    """Drops the template's own tags on the way to moto's class."""

    def __init__(self, template: Any, number: int, data: dict[str, Any], description: str) -> None:
        kinds = data.get("TagSpecifications")
        if kinds is not None:
            kept = [kind for kind in kinds if kind.get("ResourceType") != "launch-template"]
            data = {key: value for key, value in data.items() if key != "TagSpecifications"}
            if kept:
                data["TagSpecifications"] = kept
        super().__init__(template, number, data, description)  # type: ignore[call-arg]
