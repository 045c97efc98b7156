# The commands for developers. `make run` and `make test` first install what they need.
.PHONY: help setup run readers demo-monitor test quick check format compare bench bench-peers bench-growth bench-reporting bench-scale regression soak
help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile
setup: .venv/installed ## install into .venv from the lock file
.venv/installed: envs/development.lock.txt pyproject.toml envs/install.sh
	@sh envs/install.sh
run: .venv/installed ## run the demo: SrTiO3, 3 defoci × 2 configurations
	@.venv/bin/stemphony run config/config.yaml
demo-monitor: .venv/installed ## show a monitor on http://127.0.0.1:8000/ while the demo reports to it
	@.venv/bin/stemphony monitor demo
# Processes of pytest: the number of processors plus one, because the tests of Slurm mostly wait. tests/conftest.py
# decides which tests run side by side.
WORKERS = $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 4 ? n + 1 : 4)))
# Python keeps compiled modules (an empty PYTHONDONTWRITEBYTECODE), because the tests start it hundreds of times.
PYTEST = PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 .venv/bin/python -m pytest --numprocesses $(WORKERS) --dist loadscope --no-loadscope-reorder
test: .venv/installed ## run all tests, side by side: WORKERS=3
	@$(PYTEST)
quick: .venv/installed ## run the tests that need no Snakemake
	@$(PYTEST) -m "not workflow and not slow" tests/unit tests/physics tests/scripts tests/golden
soak: .venv/installed ## kill processes at random on a Slurm test cluster: KILLS=50 SEED=1 (root; minutes)
	@OMP_NUM_THREADS=1 .venv/bin/python tests/cluster/soak.py --kills $(or $(KILLS),50) --seed $(or $(SEED),1)
check: .venv/installed ## check lint, format and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/snakefmt --check Snakefile workflow/rules
	.venv/bin/mypy
	.venv/bin/snakemake --lint
format: .venv/installed ## apply the formatters
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .
	.venv/bin/snakefmt Snakefile workflow/rules
compare: .venv/installed ## compare signals with abTEM, for docs/abtem.md (minutes)
	@test -x .venv-abtem/bin/python || python3 -m venv .venv-abtem
	@.venv-abtem/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r envs/abtem.lock.txt
	@.venv-abtem/bin/python docs/comparison/abtem_comparison.py
readers: .venv-readers/installed ## install HyperSpy and py4DSTEM, which the tests open exported files with (minutes)
.venv-readers/installed: envs/readers.lock.txt
	@test -x .venv-readers/bin/python || python3 -m venv .venv-readers
	@.venv-readers/bin/python -m pip install --no-compile --quiet --disable-pip-version-check --require-hashes -r envs/readers.lock.txt
	@touch $@
bench: .venv/installed ## measure a wave and a job, for docs/performance.md and performance-more.md (minutes)
	@.venv/bin/python docs/benchmarks/ours.py
	@.venv/bin/python docs/benchmarks/directions.py
	@.venv/bin/python docs/benchmarks/estimate.py
bench-peers: .venv/installed ## measure the same work with abTEM, for docs/performance.md and performance-more.md (minutes)
	@test -x .venv-abtem/bin/python || python3 -m venv .venv-abtem
	@.venv-abtem/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r envs/abtem.lock.txt
	@.venv/bin/python docs/benchmarks/peers.py
	@.venv/bin/python docs/benchmarks/symmetric.py
bench-growth: .venv/installed ## measure how the cost grows, for docs/explanation/performance.md (minutes)
	@OMP_NUM_THREADS=1 .venv/bin/python docs/benchmarks/growth.py
regression: .venv/installed ## fail if a wave became more expensive
	@.venv/bin/python docs/benchmarks/regression.py
bench-scale: .venv/installed ## run 10,000 jobs without physics, for docs/performance.md and performance-more.md (half an hour)
	@OMP_NUM_THREADS=1 .venv/bin/python docs/benchmarks/scale.py
bench-reporting: .venv/installed ## measure what status reports cost, for docs/status-api.md (minutes)
	@.venv/bin/python docs/benchmarks/reporting.py
