# Everything here sets up what it needs: a virtual environment in .venv, and the weights in the platform's cache folder.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := agent,live,train,dev

.PHONY: demo chatbot test check bench install weights lint clean help

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

demo: install ## replay a recorded conversation and print the emotions that arrive over MQTT
	@$(BIN)/mer-agent demo

chatbot: install ## talk to a chatbot whose tone follows your emotion
	@$(BIN)/mer-agent weights pull mpnet ge2e yunet
	@$(BIN)/python examples/chatbot.py

test: install weights ## run all tests
	@$(BIN)/mer-agent weights pull minilm sample-face >/dev/null # which only tests need
	@$(BIN)/python -m pytest

check: lint test ## what CI runs

bench: install weights ## train what docs/results.md lists and has no record yet (hours), and rewrite that page
	@$(BIN)/mer-agent weights pull minilm >/dev/null # for the comparison of text encoders
	@$(BIN)/mer-agent bench accuracy --jobs 2
	@$(BIN)/mer-agent bench report --page docs/results.md

lint: install ## style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy -p mer_agent

weights: install ## pull and verify the pretrained weights that are missing
	@$(BIN)/mer-agent weights pull

# An editable install links each file, so it is repeated when the list of files changes, and only then.
FILES := $(sort $(wildcard agent/* agent/*/* config/* encoders/* encoders/trained/* models/* models/*/* streams/*))
STAMP := $(VENV)/installed-$(shell (cat pyproject.toml constraints.txt; echo $(FILES)) | cksum | cut -d' ' -f1)

install: $(STAMP)

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "mer-agent needs Python 3.11 or newer; call: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "Python's venv module is missing; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing mer-agent into $(VENV) (the first time takes a few minutes) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]' || \
		{ echo "Installing failed: is a package registry reachable?" >&2; exit 1; }
	@rm -f $(VENV)/installed-*
	@touch $@

clean: ## remove the virtual environment (weights stay in the cache)
	rm -rf $(VENV)
