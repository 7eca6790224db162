# Everything a newcomer needs: `make demo` and `make test` build their own environment first. `make help` lists the rest.
PYTHON  ?= python3
VENV    := .venv
BIN     := $(VENV)/bin
# One stamp for each set of requirements: a second run with the same set installs nothing and needs no network.
STAMP   := $(VENV)/.ready-$(shell cat requirements.lock pyproject.toml | cksum | cut -d' ' -f1)
# More than there are cores to work on, of tests and of scenarios: many wait for real time.
WORKERS ?= 4
JOBS    ?= 3
DATA    ?=
TESTS   ?= tests
PORT    ?= 4200
DESK_PORT ?= 8470

# Modules are compiled once, whatever the caller's environment says: else each of the many processes of a run compiles them anew.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-accounts demo-hedging up down test lint bench chaos chaos-hedging fuzz workers drill clients clean

help:
	@echo 'make demo [DATA=../shared/data [START=2025-09-01 HOURS=240]]  the whole trade on local venues, a minute or two; pictures and account in out/demo'
	@echo 'make demo-accounts               managed accounts on local venues: set-up, trades by delegation, stops, the share (needs npm once)'
	@echo 'make demo-hedging                two days of hedged market making on local venues: four brokers, 300 fills, flat to the cent; out/demo-hedging'
	@echo 'make up [HEDGING=1 OSTIUM=1 PORT=4200 DESK_PORT=8470]  paper trading: local venues, Prefect, worker, monitors, watchdog, sender; make down stops them'
	@echo 'make test [TESTS=tests/unit]     every test, on WORKERS=$(WORKERS) processes'
	@echo 'make lint                        ruff, format, types, and the rule by which imports run one way'
	@echo 'make bench                       the figures we promise, measured, some 10 minutes; out/bench/summary.json'
	@echo 'make bench ONLY=growth           what a day adds to the database of Prefect, or any other part by its name'
	@echo 'make chaos [ONLY=text]           every outside call of every story, killed, lost, late and refused; out/chaos/summary.json'
	@echo 'make chaos SEEDS=n [SEED=k]      n whole lives drawn by seed, a schedule of faults each; a failure is shrunk; out/chaos/seeded.json'
	@echo 'make chaos-hedging [ONLY=text] [PART=2/5]  hedging: every outside call with every fault, deaths at each commit; out/chaos-hedging/summary.json'
	@echo 'make fuzz [ONLY=text] [SEED=k]   every field of every answer null, missing, of another type, a new word; ONLY=calls: 100,000 bent calls, ONLY=trades: 500 drawn trades of managed accounts; out/fuzz/summary.json'
	@echo 'make workers [SEED=k]            100 entries and exits of 20 accounts at once: PostgreSQL, Redis, two Prefect servers, three workers'
	@echo 'make drill [ONLY=fresh|kills|alone TIMES=10]  paper trading from a bare clone, and every process of it killed (Chromium); out/drills'
	@echo 'make clients                     @solana/web3.js, ccxt, alpaca-py, schwab-py and the SDK of Ostium for the tests that try the twins with them, prefect-redis (needs npm and an index)'
	@echo 'make setup                       only build .venv (PYTHON=python3.12 chooses the interpreter; 3.11 or newer)'
	@echo 'make clean                       remove .venv, out/ and every cache'

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "evenkeel needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11")'
	@echo "building $(VENV) with $$($(PYTHON) --version); this takes a minute or two the first time"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@rm -f $(VENV)/.ready-*
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/evenkeel demo $(if $(DATA),--data $(DATA)) $(if $(START),--start $(START)) $(if $(HOURS),--hours $(HOURS))

demo-accounts: $(STAMP)
	$(BIN)/python -m app.demo.accounts

demo-hedging: $(STAMP)
	$(BIN)/python -m app.demo.hedging

up: $(STAMP)
	$(BIN)/evenkeel up --port $(PORT) --desk-port $(DESK_PORT) $(if $(HEDGING),--hedging) $(if $(OSTIUM),--ostium)

down:
	$(BIN)/evenkeel down

test: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(TESTS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(STAMP)
	$(BIN)/python -m tests.benchmarks.run $(if $(ONLY),--only "$(ONLY)")

chaos: $(STAMP)
	$(BIN)/python -m tests.chaos --jobs $(JOBS) $(if $(ONLY),--only "$(ONLY)") $(if $(SEEDS),--seeds $(SEEDS)) $(if $(SEED),--seed $(SEED))

# Hedging at each broker: every outside call with every fault, and a death before and after each commit. PART=K/N plays each Nth.
chaos-hedging: $(STAMP)
	$(BIN)/python -m tests.chaos.hedging --jobs $(JOBS) $(if $(ONLY),--only "$(ONLY)") $(if $(PART),--part $(PART))

fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz --jobs $(WORKERS) $(if $(ONLY),--only "$(ONLY)") $(if $(SEED),--seed $(SEED))

# Needs a PostgreSQL server, redis-server and, from `make clients`, prefect-redis.
workers: $(STAMP)
	$(BIN)/python -m tests.workers $(if $(SEED),--seed $(SEED))

# Wants Chromium, and for its clone what `make setup` wants. Some 45 minutes with ten kills of each kind.
drill: $(STAMP)
	$(BIN)/python -m tests.drills $(if $(ONLY),--only $(ONLY)) $(if $(TIMES),--times $(TIMES))

# Foreign clients, none of them a dependency of ours. Without them their tests skip, visibly.
clients: $(STAMP)
	cd tests/node && npm ci
	$(PYTHON) -m venv .venv-ccxt
	.venv-ccxt/bin/python -m pip install --quiet --disable-pip-version-check 'ccxt>=4.5,<5'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target .prefect-redis 'prefect-redis==0.3.0'
	$(PYTHON) -m venv .venv-ostium
	.venv-ostium/bin/python -m pip install --quiet --disable-pip-version-check 'ostium-python-sdk==3.3.1'
	$(PYTHON) -m venv .venv-alpaca
	.venv-alpaca/bin/python -m pip install --quiet --disable-pip-version-check 'alpaca-py==0.44.0'
	$(PYTHON) -m venv .venv-schwab
	.venv-schwab/bin/python -m pip install --quiet --disable-pip-version-check 'schwab-py==1.5.1'

clean:
	rm -rf $(VENV) .venv-ccxt .venv-ostium .venv-alpaca .venv-schwab .prefect-redis tests/node/node_modules out build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
