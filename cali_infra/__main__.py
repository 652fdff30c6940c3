"""`python -m cali_infra`: the same as `cali`, for callers that know only this interpreter."""

import os
import sys
import time
from datetime import datetime

from cali_infra.cli import credential
from cali_infra.ui import UI

terminal = UI(
    stdin=sys.stdin,
    stdout=sys.stdout,
    stderr=sys.stderr,
    environ=os.environ,
    clock=time.monotonic,
    now=datetime.now,
)
if not credential.answered(sys.argv[1:], os.environ, terminal):
    from cali_infra.cli.app import main

    main()
