# Two commands: `make sandbox` rehearses the whole platform here, `make test` runs every check.
# Needs Python 3.11+, make, Terraform 1.11+ and kubectl.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

# Where a local mirror of Terraform's providers is found it is used, else the registry is.
TERRAFORMRC := $(VENV)/terraformrc
export TF_CLI_CONFIG_FILE ?=
MIRRORED = TF_CLI_CONFIG_FILE="$$($(BIN)/python scripts/terraform_mirror.py --config $(TERRAFORMRC) >/dev/null && test -s $(TERRAFORMRC) && echo $(CURDIR)/$(TERRAFORMRC) || echo "$$TF_CLI_CONFIG_FILE")"

.PHONY: sandbox test lint unit bench clean

sandbox: $(VENV)/.installed
	test -f cali.yaml -a -f secrets.yaml || $(BIN)/cali init --yes
	$(MIRRORED) $(BIN)/cali --sandbox up --yes
	$(MIRRORED) $(BIN)/cali --sandbox status

test: lint
	$(MIRRORED) $(BIN)/python -m pytest

unit: $(VENV)/.installed
	$(BIN)/python -m pytest tests/unit

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed
	$(MIRRORED) $(BIN)/python -m benchmarks

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("cali needs Python 3.11 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
