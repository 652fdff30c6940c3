"""Two flaws of moto's in the tags of launch templates, each an endless change to Terraform's provider.

moto shows a template's own tags as tags of the instances started from it; AWS never has the kind
`launch-template` inside a template's data, so dropping that kind there is exact. And it goes on showing the
tags that the template was made with when they have changed since.
"""

from __future__ import annotations

from typing import Any


def mend() -> None:
    """Make moto's launch templates show their tags as AWS does; harmless when repeated."""
    from moto.ec2.models import launch_templates

    if not issubclass(launch_templates.LaunchTemplateVersion, _Version):
        launch_templates.LaunchTemplateVersion = type(  # type: ignore[misc, assignment]
            "LaunchTemplateVersion", (_Version, launch_templates.LaunchTemplateVersion), {}
        )
    launch_templates.LaunchTemplate.tags = property(_tags, _keep_no_copy)  # type: ignore[assignment]


class _Version:
    """Drops the template's own tags on the way to moto's class."""

    def __init__(self, template: Any, number: int, data: dict[str, Any], description: str) -> None:
        kinds = data.get("TagSpecifications")
        if kinds is not None:
            kept = [kind for kind in kinds if kind.get("ResourceType") != "launch-template"]
            data = {key: value for key, value in data.items() if key != "TagSpecifications"}
            if kept:
                data["TagSpecifications"] = kept
        super().__init__(template, number, data, description)  # type: ignore[call-arg]


def _tags(template: Any) -> Any:
    return template.get_tags()


def _keep_no_copy(template: Any, tags: Any) -> None:
    """moto copies the tags when it makes the template; the copy is what grows old."""
