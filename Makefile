# Two commands do everything: `make demo` and `make test`. `make ui` shows what was made.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test ui clean

demo: $(READY)
	$(BIN)/evsim run ev_shift

test: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 25

ui: $(READY)
	$(BIN)/evsim ui

# torch first and alone: a bare torch would pull gigabytes of CUDA packages on Linux
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,ray,postgres]'
	touch $(READY)

clean:
	rm -rf .evsim $(VENV)
