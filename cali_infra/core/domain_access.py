"""An OpenSearch domain found by its name, for those who have nothing but `cali.yaml` and AWS credentials.

No state is read: DescribeDomain says where the domain is. Its users and passwords are none of AWS' business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cali_infra.core.cluster_access import of_account
from cali_infra.errors import PreconditionError

if TYPE_CHECKING:
    from cali_infra.adapters.aws import Aws


def find(aws: Aws, name: str) -> str:
    """The `host` or `host:port` of the domain of that name.

    Raises PreconditionError, with the account that was asked, where there is none that can be reached.
    """
    found = aws.domain(name)
    if found is None or found.deleted:
        raise PreconditionError(
            f"there is no OpenSearch domain {name} in {aws.region}{of_account(aws)}",
            remedy="check project, environment and region in cali.yaml, and that your credentials are those of the "
            "platform's account (AWS_PROFILE); if it was never made: cali up search",
        )
    if not found.endpoint:
        raise PreconditionError(
            f"the OpenSearch domain {name} has no address yet",
            remedy="making a domain takes about 20 minutes; run the command again when it is there: cali status",
        )
    return found.endpoint
