# `make` alone lists what there is.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.setup-done
BENCH_STAMP := $(VENV)/.bench-done
RAY_STAMP := $(VENV)/.ray-done
BROWSER_STAMP := $(VENV)/.browser-done
AIRFLOW_VENV := .venv-airflow
AIRFLOW_STAMP := $(AIRFLOW_VENV)/.setup-done
DOCS_STAMP := $(VENV)/.docs-done

# Processes that share the tests; 0 runs them in one, as a debugger needs it.
TEST_WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo check test docs test-airflow test-bench test-browser test-container test-ray faults test-gpu audit bench bench-cpu bench-gpu bench-growth bench-scaling

help: ## list these targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with batchsent (editable, with OpenVINO, LoRA and S3) and the tools, at the versions of constraints.txt

# The stamp is as old as the last installation that succeeded. An existing .venv is kept: a torch build that
# somebody chose (CPU or CUDA) stays as long as it satisfies constraints.txt.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt pip
	$(BIN)/python -m pip install --constraint constraints.txt --build-constraint constraints.txt \
	    --editable ".[openvino,lora,s3]" --group dev
	touch $@

demo: $(STAMP) ## score the example reviews into demo-output and show the result
	$(BIN)/batchsent score examples/reviews --output demo-output --keep review_id --keep stars
	$(BIN)/python examples/show.py demo-output

check: $(STAMP) ## lint, formatting, types, import rules, the Dockerfile
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

test: $(STAMP) ## the tests that need seconds and no GPU
	$(BIN)/pytest -m "not (gpu or bench or ray or browser or airflow or container or site or compiled)" --dist worksteal --numprocesses $(TEST_WORKERS)
	$(BIN)/pytest -m compiled tests/models tests/test_batching.py

# What a page gets from the code is written by docs/options_table.py and docs/reference_tables.py; the tests say when.
docs: export NO_MKDOCS_2_WARNING = 1
docs: $(DOCS_STAMP) ## build the documentation as a site in site/, and test that it is whole; then python -m http.server -d site
	$(BIN)/mkdocs build
	$(BIN)/pytest -m site

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --constraint constraints.txt --group docs
	touch $@

# Hours. What is done is remembered in .faults, so that it can be stopped and goes on; FAULT=05 takes one of them.
faults: $(RAY_STAMP) ## inject every fault as often as docs/reliability.md says, and write the results there
	BATCHSENT_FAULTS=full $(BIN)/pytest tests/faults --dist worksteal --numprocesses $(TEST_WORKERS) -k "test_$(FAULT)"
	$(BIN)/python tests/faults/table.py

# Needs Chromium on the path, or named by CHROMIUM; none is downloaded.
test-browser: $(BROWSER_STAMP) ## the tests that look at the HTML report in a browser (apt-get install chromium)
	$(BIN)/pytest -m browser

$(BROWSER_STAMP): $(STAMP)
	$(BIN)/python -m pip install --constraint constraints.txt --group browser
	touch $@

test-bench: $(BENCH_STAMP) ## the tests of the pictures that the measurements are drawn as
	$(BIN)/pytest -m bench

# Real clusters of three nodes on this machine, nodes that are killed and added, and a few of fault 18.
test-ray: $(RAY_STAMP) ## the tests that need a Ray cluster (10 minutes on two cores)
	$(BIN)/pytest -m ray

$(RAY_STAMP): $(STAMP)
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[ray]"
	touch $@

# Runs of the DAG in jobs/airflow, one of them by a scheduler and an API server on this machine.
test-airflow: $(STAMP) $(AIRFLOW_STAMP) ## the tests that need Airflow (minutes)
	$(BIN)/pytest -m airflow tests/jobs

$(AIRFLOW_STAMP): jobs/airflow/constraints.txt
	test -x $(AIRFLOW_VENV)/bin/python || $(PYTHON) -m venv $(AIRFLOW_VENV)
	$(AIRFLOW_VENV)/bin/python -m pip install --constraint $< apache-airflow
	touch $@

# Needs podman, runc and debootstrap, and root for the last (or BASE=debian:12-slim, where images can be pulled): it says
# so where one is missing. Leaves its images for the next time; `podman rmi` and `podman image prune` remove them.
test-container: $(STAMP) ## build the image, list its layers, run it (15 minutes the first time)
	$(BIN)/pytest -m container tests/container

test-gpu: $(STAMP) ## the tests that need a CUDA device
	$(BIN)/pytest -m gpu

# --strict: a package that the index has no advisories for, or does not know, is not one without any.
audit: $(STAMP) ## ask PyPI for published advisories about the versions in constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group audit
	$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

# One after the other, on a machine that does nothing else meanwhile.
bench: $(STAMP) ## measure what docs/benchmarks.md says, and write it there (about 50 minutes)
	for name in startup planning plan_accuracy overhead budget gelu tokenizing kills equality memory; do \
	    $(BIN)/python benchmarks/$$name.py || exit 1; done
	$(BIN)/python benchmarks/tables.py

# Of benchmarks/side_by_side.py: --model distilbert, --texts FILE --text-column NAME, --rounds 9.
BENCH_OPTIONS ?=

# What batchsent is measured against. torch stays the build that is there.
$(BENCH_STAMP): $(STAMP)
	$(BIN)/python -m pip install --constraint constraints.txt --group bench
	touch $@

bench-cpu: $(BENCH_STAMP) ## measure batchsent beside other libraries on the CPU (25 minutes on two cores)
	$(BIN)/python benchmarks/side_by_side.py --device cpu $(BENCH_OPTIONS)
	$(BIN)/python benchmarks/plots.py
	$(BIN)/python benchmarks/tables.py

bench-gpu: $(BENCH_STAMP) ## measure batchsent beside other libraries on one GPU (three rounds, meant for 10 minutes on an H100)
	$(BIN)/python benchmarks/side_by_side.py --device cuda $(BENCH_OPTIONS)
	$(BIN)/python benchmarks/gpu_busy.py
	$(BIN)/python benchmarks/pass_profile.py
	$(BIN)/python benchmarks/plots.py
	$(BIN)/python benchmarks/tables.py

bench-scaling: $(STAMP) ## measure one to eight processes, and simulate a billion reviews on 256 replicas (10 minutes)
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/plots.py
	$(BIN)/python benchmarks/tables.py

bench-growth: $(BENCH_STAMP) ## measure how the cost grows with rows, lengths, parts, labels, and what resuming costs
	$(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/plots.py
	$(BIN)/python benchmarks/tables.py
