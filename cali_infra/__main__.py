"""`python -m cali_infra`: the same as `cali`, for callers that know only this interpreter."""

from cali_infra.cli.app import main

main()
