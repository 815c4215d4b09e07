# make demo   train, score and draw a detector on synthetic data, from a bare machine
# make test   style checks and the whole test suite
# Both make .venv first, once. Options: PYTHON=python3.11  TORCH="torch==2.13.0"  EXTRAS=...  TEST_EXTRAS=...  JOBS=2
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3 || command -v python)
TORCH ?= torch==2.13.0
EXTRAS ?= nuscenes,viz,train
# What the tests need besides, so that nothing is skipped for want of a package.
TEST_EXTRAS ?= coco,dev,export,mmdet3d,points,pretrained,prune,tensorrt-rtx,triton
# Processes of the test suite.
JOBS ?= 2
BIN := .venv/bin
INSTALLED := .venv/.installed
TESTABLE := .venv/.testable

# Packages of the extras bring two builds of cv2 into one folder; the last one written is the one without a GUI.
define CV2_WITHOUT_GUI
$(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps \
	"opencv-python-headless==$$($(BIN)/python -m pip list --format=freeze --disable-pip-version-check 2>/dev/null \
	| sed -n 's/^opencv-python-headless==//p')"
endef

.PHONY: help install lint test demo gpu bench-synthetic bench-bccd clean

help:
	@sed -n '1,3s/^# //p' Makefile

install: $(INSTALLED)

# The stamp depends on what says what to install, so that a second call installs nothing.
$(INSTALLED): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python >= 3.10 is needed, this is " + sys.version)'
	@date +%s > .install-start
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip setuptools wheel
	@# torch alone first: where its CPU build is what the name gives, nothing later may pull another one.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$(EXTRAS)]"
	$(CV2_WITHOUT_GUI)
	@bash tools/install_system_packages.sh
	@echo $$(( $$(date +%s) - $$(cat .install-start) )) > $@ && rm -f .install-start

$(TESTABLE): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$(EXTRAS),$(TEST_EXTRAS)]"
	$(CV2_WITHOUT_GUI)
	@touch $@

lint: $(TESTABLE)
	$(BIN)/flake8 bev tools tests benchmarks configs projects
	$(BIN)/isort --check-only --quiet bev tools tests benchmarks projects
	$(BIN)/mypy bev projects tools benchmarks --exclude 'tests/|configs/'

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

demo: $(INSTALLED)
	$(BIN)/python tools/demo.py

# Tests that need a CUDA device, then benchmarks/results/gpu.{json,md}.
gpu: $(TESTABLE)
	$(BIN)/python -m pytest -m gpu
	$(BIN)/python -m benchmarks.gpu

clean:
	rm -rf .venv build dist *.egg-info work_dirs .pytest_cache .mypy_cache

# One row a family, twins without a past and ablations, on a world of their own: hours; finished rows are kept.
# ARGS="--families" or ARGS="--only lift-splat" for some of them.
bench-synthetic: $(INSTALLED)
	$(BIN)/python -m benchmarks.synthetic $(ARGS)

# Table of five 2D detectors trained on blood cells; BCCD=folder with Annotations, ImageSets and JPEGImages.
BCCD ?= data/bccd/BCCD
bench-bccd: $(TESTABLE)
	$(BIN)/python -m benchmarks.bccd --root "$(BCCD)"
