# SPDX-License-Identifier: Apache-2.0
# make demo               set up, then the bundled sample -> a Blender scene with previews
# make demo PHOTO=a.jpg   the same for any photo
# make test               set up, then every test in every environment
# make fuzz               set up, then property tests with new examples; SEED=n repeats a run
# make faults             set up, then jobs of the service: a fault at each write, kills at random
# make gpu-check          what wants a GPU, on one: right, fast, small enough? PYTHON=python for your own torch
# make docs               set up, then the documentation as a site in out/site; links are checked
SHELL := /bin/bash
BACKEND := .venv/backend/bin
export OMP_WAIT_POLICY := PASSIVE

.PHONY: help setup demo test fuzz faults gpu-check docs lint bench clean
PYTHON ?= $(if $(wildcard $(BACKEND)/python),$(BACKEND)/python,python3)

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

setup:
	@scripts/setup.sh

demo:
	@scripts/setup.sh backend blender-4.5
	@scripts/demo.sh $(if $(PHOTO),"$(PHOTO)" $(if $(OUT),"$(OUT)"))

test: setup
	@scripts/test.sh

fuzz: setup
	@scripts/fuzz.sh $(SEED)

faults:
	@scripts/setup.sh backend
	@$(BACKEND)/python tests/_support/fault_points.py
	@$(BACKEND)/python tests/_support/random_kills.py

gpu-check:
	@$(PYTHON) scripts/gpu_check.py $(if $(OUT),-o "$(OUT)")

docs:
	@scripts/setup.sh docs
	@NO_MKDOCS_2_WARNING=1 .venv/docs/bin/mkdocs build --strict --quiet
	@echo "docs: out/site/guide/index.html"

lint:
	@scripts/setup.sh backend
	@$(BACKEND)/ruff check . && $(BACKEND)/ruff format --check . && scripts/types.sh

bench:
	@scripts/setup.sh
	@scripts/bench.sh

clean:
	rm -rf .venv out *.egg-info backend/*.egg-info shared/*.egg-info
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
