# `make demo` shows that it works here, `make test` checks that it is right.
# Both install what is missing first; see tools/install.

bin = .venv/bin

.PHONY: help demo test lint bench faults outages fuzz valgrind audit lock clean

help:
	@echo 'make demo    install toxproxy here and try it: a private Tox network, a server, a client, a page'
	@echo 'make test    all checks: linters, types, layers, then the tests with their coverage'
	@echo 'make lint    the linters only'
	@echo 'make bench   the performance table, about 40 minutes, as root (python -m bench --help)'
	@echo 'make faults  thousands of streams over a link with every fault, 15 minutes, as root'
	@echo 'make outages downloads and ssh through cuts, a change of address, no UDP; 25 minutes, as root'
	@echo 'make fuzz    arbitrary input for every parser, 5 minutes (better with: pip install atheris)'
	@echo 'make valgrind  does ENet misuse memory behind the filter; 5 minutes (apt install valgrind)'
	@echo 'make audit   known vulnerabilities of what is used; asks PyPI'
	@echo 'make lock    take the newest versions that pyproject.toml allows into the locks'
	@echo 'make clean   remove .venv and whatever the tools left behind'

demo:
	@tools/install run
	@$(bin)/toxproxy demo

test: lint
	@$(bin)/pytest --cov

lint:
	@tools/install test
	@$(bin)/ruff check
	@$(bin)/ruff format --check
	@$(bin)/mypy
	@$(bin)/lint-imports --no-logo

bench:
	@tools/install run
	@$(bin)/python -m bench

faults:
	@tools/install run
	@$(bin)/python -m faults

outages:
	@tools/install run
	@$(bin)/python -m faults.outages

fuzz:
	@tools/install test
	@$(bin)/python -m fuzz --seconds 20

valgrind:
	@tools/install test
	@$(bin)/python -m fuzz --valgrind --seconds 240

audit:
	@tools/install run
	@tools/audit

lock:
	@tools/audit lock

clean:
	rm -rf .venv build dist *.egg-info .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find toxproxy tests bench faults fuzz -name __pycache__ -prune -exec rm -rf {} +
