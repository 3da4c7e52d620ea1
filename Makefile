# make book   set up and build the book          make notebooks  run the notebooks again, in place
# make test   set up and pass every test         make lab        open JupyterLab
# make reliability  break it in every way we know, print the figures, write the record (hours)
# make bench  time hypergradients beside their peers, in an environment of its own (PROFILE=full: all)
BIN := .venv/bin
STAMP := .venv/.stamp
BENCH := .venv-bench/bin
PROFILE ?= page
export OMP_NUM_THREADS := 1

.PHONY: book test notebooks lab bench reliability clean

book: $(STAMP)
	$(BIN)/python tests/tools/build_book.py

test: $(STAMP)
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	$(MAKE) book
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov=bmo --cov-fail-under=95 --nbval \
	  --nbval-current-env --nbval-cell-timeout=300 --nbval-sanitize-with=tests/nbval.cfg bmo tests notebooks

notebooks: $(STAMP)
	$(BIN)/python tests/tools/run_notebooks.py
	$(BIN)/python tests/tools/readme_figure.py

reliability: $(STAMP)
	$(BIN)/python -m tests.reliability

lab: $(STAMP)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[lab]'
	$(BIN)/jupyter lab

bench: .venv-bench/.stamp
	KINETO_LOG_LEVEL=99 $(BENCH)/python -W ignore -m bmo bench --profile $(PROFILE) --peers tests/bench/peers $(ARGS)

# One of the peers states its needs in a way that newer versions of pip refuse.
.venv-bench/.stamp: pyproject.toml tests/bench/peers.txt tests/bench/constraints.txt
	python3 -m venv .venv-bench
	$(BENCH)/pip install --quiet 'pip<24.1'
	$(BENCH)/pip install --quiet -c tests/bench/constraints.txt -r tests/bench/peers.txt -e .
	touch $@

$(STAMP): pyproject.toml constraints.txt
	python3 -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e '.[book,test,certificates,wavelets]'
	touch $@

clean:
	rm -rf .venv .venv-bench _build .pytest_cache .mypy_cache .ruff_cache .coverage
