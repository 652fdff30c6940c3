# Two commands: `make sandbox` rehearses the whole platform on this machine, `make test` runs every check.
# They need Python 3.11+, make, Terraform 1.11+ and kubectl, and install the rest into $(VENV).

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed

# Terraform takes its providers from a mirror on this machine where there is one, else from the registry.
MIRROR_CONFIG := $(CURDIR)/$(VENV)/terraformrc
WITH_MIRROR    = if [ -n "$$($(PYTHON) scripts/terraform_mirror.py --config $(MIRROR_CONFIG))" ]; then \
                 export TF_CLI_CONFIG_FILE=$(MIRROR_CONFIG); fi;

# Three at a time, a file after the other: the sandbox's tests wait for Terraform most of the time.
PYTEST := $(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

.PHONY: sandbox test unit faults lint guide bench clean

sandbox: $(READY)
	test -f cali.yaml -a -f secrets.yaml || $(BIN)/cali init --yes
	$(WITH_MIRROR) $(BIN)/cali --sandbox up --yes
	$(WITH_MIRROR) $(BIN)/cali --sandbox status

test: lint
	$(PYTEST)

unit: $(READY)
	$(PYTEST) -m 'not processes and not faults' tests/unit

faults: $(READY)
	$(BIN)/python -m pytest -m faults

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# docs/verify.md, from the checks.
guide: $(READY)
	$(BIN)/python scripts/verify_guide.py

bench: $(READY)
	$(WITH_MIRROR) $(BIN)/python -m benchmarks

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cali needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
