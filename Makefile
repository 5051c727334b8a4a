# `make demo` shows that toxproxy works on this machine. `make test` runs every check.
# Both install what is missing first; see tools/install.

bin = .venv/bin

.PHONY: help demo test lint bench faults outages nats fuzz valgrind man site pictures dist deb toxcores audit lock clean

help:
	@echo 'make demo      install toxproxy in .venv and try it: a private Tox network, a server, a client, a page'
	@echo 'make test      every check: linters, types, layers, then the tests with their coverage'
	@echo 'make lint      the linters only'
	@echo 'make bench     the performance table; three hours, as root (python -m bench --help)'
	@echo 'make faults    thousands of streams over a link with every fault, downloads over 100 paths; 40 minutes, as root'
	@echo 'make outages   downloads and ssh through cuts, a change of address, no UDP; 25 minutes, as root'
	@echo 'make nats      a client and a server behind NATs of every kind; two hours, as root'
	@echo 'make fuzz      arbitrary input for every parser; 8 minutes (better with: .venv/bin/pip install atheris)'
	@echo 'make valgrind  whether a lying friend makes ENet misuse memory; 5 minutes (needs valgrind)'
	@echo 'make toxcores  the tests of Tox with the libtoxcore of each Debian; 40 minutes, as root; asks Debian'
	@echo 'make man       write the manual page anew, from the command line (man/toxproxy.1)'
	@echo 'make site      the documentation as a site, in build/site'
	@echo 'make pictures  pictures of the page, in docs/pictures; 3 minutes (needs chromium)'
	@echo 'make dist      wheel and source distribution in dist/, built and checked; asks PyPI'
	@echo 'make deb       a Debian package in dist/ for this Debian; asks PyPI (first: sudo apt build-dep ./)'
	@echo 'make audit     whether anything in the locks is known to be vulnerable; asks PyPI'
	@echo 'make lock      write the locks anew, with the newest versions that pyproject.toml allows; asks PyPI'
	@echo 'make clean     remove .venv and whatever the tools left behind'

demo:
	@tools/install run
	@$(bin)/toxproxy demo

test: lint
	@$(bin)/pytest --cov --numprocesses 5 --dist loadfile --no-loadscope-reorder

lint:
	@tools/install test
	@$(bin)/ruff check
	@$(bin)/ruff format --check
	@$(bin)/mypy
	@$(bin)/mypy --platform darwin --cache-dir .mypy_cache/darwin
	@$(bin)/mypy --platform win32 --cache-dir .mypy_cache/win32
	@$(bin)/lint-imports --no-logo

bench:
	@tools/install run
	@$(bin)/python -m bench

faults:
	@tools/install run
	@$(bin)/python -m faults
	@$(bin)/python -m faults.paths

outages:
	@tools/install run
	@$(bin)/python -m faults.outages

nats:
	@tools/install test
	@$(bin)/python -m faults.nats

fuzz:
	@tools/install test
	@$(bin)/python -m fuzz --seconds 20

valgrind:
	@tools/install test
	@$(bin)/python -m fuzz --valgrind --seconds 240

toxcores:
	@tools/install test
	@tools/toxcores

man:
	@tools/install run
	@$(bin)/python tools/manual

site:
	@tools/install test
	@NO_MKDOCS_2_WARNING=1 $(bin)/mkdocs build --quiet
	@echo 'build/site/index.html is written'

pictures:
	@tools/install test
	@TOXPROXY_PICTURES=docs/pictures $(bin)/pytest --quiet tests/web/test_pictures.py

dist:
	@tools/install run
	@tools/dist

deb:
	@tools/deb

audit:
	@tools/install run
	@tools/audit

lock:
	@tools/audit lock

clean:
	rm -rf .venv .cache build dist *.egg-info .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find toxproxy tests bench faults fuzz -name __pycache__ -prune -exec rm -rf {} +
