# Everything that is downloaded or built lies in $(CACHE); remove that folder to start afresh.
# CI keeps it between its fresh clones.
CACHE ?= $(if $(CI),$(HOME)/.cache/lorascope,.kernel)
override CACHE := $(abspath $(CACHE))
ifneq ($(words $(CACHE)),1)
$(error "$(CACHE)" has a space in it, which make cannot handle: say make CACHE=FOLDER)
endif
VENV := $(CACHE)/venv
PYTHON ?= python3
FEATURES := --features cli,tensorboard
# Features of the lorascope that cells use: `cuda`.
KERNEL_FEATURES ?=

# One target folder for the library, its tests and the command line (.cargo/config.toml and
# [profile.dev] make the flags those of a notebook's cells), and hard links from it for the kernel.
export CARGO_TARGET_DIR := $(CACHE)/target
export CARGO_BUILD_BUILD_DIR := $(CARGO_TARGET_DIR)
# As in .cargo/config.toml; said here too, it wins over what the user's own config says.
export RUSTFLAGS := -Cprefer-dynamic
export LORASCOPE_VENV := $(VENV)
export LORASCOPE_TEMPLATES := $(CACHE)/templates
CARGO := $(if $(shell command -v mold),mold -run )cargo
NEXTEST := $(shell command -v cargo-nextest)

# The notebook kernel (src/kernel), and what it is told of the cells.
KERNEL := $(CACHE)/kernel/lorascope-kernel
KERNEL_TARGET := $(CACHE)/target-kernel
KERNEL_PLACES = --source $(CURDIR) --cache $(CACHE) --features=$(KERNEL_FEATURES)
# A crate of it (ra_ap_stdx) is built anew when CI is set or unset, and minutes of crates behind it.
KERNEL_CARGO = env -u CI CARGO_ENCODED_RUSTFLAGS= CARGO_TARGET_DIR=$(KERNEL_TARGET) CARGO_BUILD_BUILD_DIR=$(KERNEL_TARGET) $(CARGO)
KERNEL_BUILD = --locked --release --manifest-path src/kernel/Cargo.toml --target $$(rustc --print host-tuple)

# The compute capability that candle's kernels are compiled for: 90 is that of an H100, and runs on no other kind.
CUDA_ARCH ?= 90
CUDA_ENV = CUDA_HOME=$$(echo $(CUDA)) PATH=$$(echo $(CUDA))/bin:$$PATH CUDA_COMPUTE_CAP=$(CUDA_ARCH)
KIT := $(CACHE)/target-kit

FUZZ_SECONDS ?= 600
FUZZ := $(CACHE)/target-fuzz
FUZZ_BIN = env LD_LIBRARY_PATH=$$(rustc --print target-libdir):$(FUZZ)/$$(rustc --print host-tuple)/debug \
    LORASCOPE_CACHE=$(CURDIR)/out/fuzz/cache $(FUZZ)/$$(rustc --print host-tuple)/debug

# A folder of hard links to what is built, without lorascope itself. Fingerprints and what build scripts wrote are
# copies: cargo writes them in place, and a link would make everything stale in all folders.
link_target = mkdir -p $(1) && cp -al $(CARGO_TARGET_DIR)/. $(1) 2>/dev/null; \
    find $(1) \( -name '*lorascope*' -o -name .cargo-lock \) -prune -exec rm -rf {} +; \
    find $(1) -mindepth 2 -maxdepth 3 \( -name .fingerprint -o -name build \) -prune \
        -exec sh -c 'cp -a "$$1" "$$1.own" && rm -rf "$$1" && mv "$$1.own" "$$1"' sh {} \;

MODEL := models/smollm2-135m.gguf
GOLDEN := $(CACHE)/golden-venv/bin
RUN_NOTEBOOK := $(VENV)/bin/python src/kernel/run_notebook.py

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

## help            this list
.PHONY: help
help:
	@echo "make TARGET, where TARGET is one of"
	@sed -n 's/^## /  /p' $(firstword $(MAKEFILE_LIST))

## demo            set everything up and run the main job: data, LoRA, spectra, in one notebook
.PHONY: demo
demo: kernel model
	@$(RUN_NOTEBOOK) notebooks/quickstart.ipynb out/quickstart.ipynb
	@echo "executed notebook: $(abspath out/quickstart.ipynb)"
	@echo "as a page:         $(abspath out/quickstart.html)"

## lab             open the notebooks in JupyterLab
.PHONY: lab
lab: kernel model
	$(VENV)/bin/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) --notebook-dir=. notebooks/quickstart.ipynb

## test            every test, that of the notebooks included
.PHONY: test
test: kernel model templates
ifdef NEXTEST
	$(CARGO) nextest run --locked $(FEATURES) -E 'not binary(notebooks)'
	$(CARGO) nextest run --locked $(FEATURES) -E 'binary(notebooks)'
else
	$(CARGO) test --locked $(FEATURES) --lib --bins --tests --no-fail-fast
endif
	$(CARGO) test --locked $(FEATURES) --doc
	$(KERNEL_CARGO) test $(KERNEL_BUILD)

## check           formatting, clippy (of the kernel too) and the documentation, without a warning
.PHONY: check
check: tools check-kernel
	cargo fmt --check
	cargo fmt --check --manifest-path src/kernel/Cargo.toml
	cargo metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml > /dev/null
	cargo clippy --locked --all-targets $(FEATURES) -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps $(FEATURES)

## check-kernel    clippy of the kernel's package alone
.PHONY: check-kernel
check-kernel: tools
	$(KERNEL_CARGO) clippy $(KERNEL_BUILD) --all-targets -- -D warnings

## layers          draw the picture of the layers in docs/architecture.md again, from the imports
.PHONY: layers
layers:
	LORASCOPE_DRAW=1 $(CARGO) test --locked $(FEATURES) --test house architecture::

## check-cuda      compile the features cuda and nccl; needs no GPU. CUDA_ARCH is the compute capability (90)
.PHONY: check-cuda
check-cuda: $(CACHE)/cuda/installed
	env $(CUDA_ENV) CARGO_TARGET_DIR=$(CACHE)/target-cuda cargo check --locked --features cuda,nccl,cli

## cuda-kit        out/cuda-kit and an archive of it: the command, the device tests and a script for a GPU machine that has nothing
.PHONY: cuda-kit
cuda-kit: model $(CACHE)/kit/link/made
	@test -d $(KIT) || { $(call link_target,$(KIT)); }
	env $(CUDA_ENV) RUSTC_WRAPPER=$(CURDIR)/benches/kit/rustc.sh KIT_LINK=$(CACHE)/kit/link CARGO_TARGET_DIR=$(KIT) CARGO_BUILD_BUILD_DIR=$(KIT) \
	$(CARGO) test --locked --features cuda,nccl,cli --test devices --no-run
	sh benches/kit/pack.sh $(KIT)/$$(rustc --print host-tuple)/debug $(MODEL) out/cuda-kit
	sh benches/kit/check.sh out/cuda-kit

## bench           our speed and memory beside that of the peers (PyTorch, PEFT, Python)
.PHONY: bench
bench: model $(CACHE)/models/smollm2-hf/config.json
	$(CARGO) build --locked $(FEATURES)
	LD_LIBRARY_PATH=$$(rustc --print target-libdir):$(CARGO_TARGET_DIR)/$$(rustc --print host-tuple)/debug \
	$(GOLDEN)/python benches/compare.py $(CARGO_TARGET_DIR)/$$(rustc --print host-tuple)/debug/lorascope \
	    $(MODEL) $(CACHE)/models/smollm2-hf
	LD_LIBRARY_PATH=$$(rustc --print target-libdir):$(CARGO_TARGET_DIR)/$$(rustc --print host-tuple)/debug \
	$(GOLDEN)/python benches/memory.py $(CARGO_TARGET_DIR)/$$(rustc --print host-tuple)/debug/lorascope \
	    $(MODEL) $(CACHE)/models/smollm2-hf
	LORASCOPE_PEER=$(GOLDEN)/python $(CARGO) bench --locked $(FEATURES) --profile dev
	$(GOLDEN)/python benches/peers/torch_spectra.py

## bench-handle    how soon a run answers in the middle of a step, what snapshots and spectra take
.PHONY: bench-handle
bench-handle: model
	$(CARGO) build --locked $(FEATURES)
	LD_LIBRARY_PATH=$$(rustc --print target-libdir):$(CARGO_TARGET_DIR)/$$(rustc --print host-tuple)/debug \
	$(CARGO_TARGET_DIR)/$$(rustc --print host-tuple)/debug/lorascope bench handle --model $(MODEL)

## bench-spectra   spectra of all adapters of an 8B Llama beside PyTorch's QR, in turns
.PHONY: bench-spectra
bench-spectra: tools $(CACHE)/golden-venv/installed
	LORASCOPE_PEER=$(GOLDEN)/python $(CARGO) bench --locked $(FEATURES) --profile dev --bench spectra

## bench-generate  128 tokens beside transformers and llama.cpp, in turns
.PHONY: bench-generate
bench-generate: model $(CACHE)/models/smollm2-hf/config.json $(CACHE)/golden-venv/peers
	$(CARGO) build --locked $(FEATURES)
	LD_LIBRARY_PATH=$$(rustc --print target-libdir):$(CARGO_TARGET_DIR)/$$(rustc --print host-tuple)/debug \
	$(GOLDEN)/python benches/generate.py $(CARGO_TARGET_DIR)/$$(rustc --print host-tuple)/debug/lorascope \
	    $(MODEL) $(CACHE)/models/smollm2-hf

$(CACHE)/golden-venv/peers: benches/peers/requirements.txt $(CACHE)/golden-venv/installed
	$(GOLDEN)/pip install --quiet --disable-pip-version-check -r $<
	touch $@

## bench-convert   rewriting 250,000 rows beside polars in Python and a Python script
.PHONY: bench-convert
bench-convert: tools venv
	$(CARGO) build --locked $(FEATURES)
	$(PYTHON) -m venv $(CACHE)/polars-venv && $(CACHE)/polars-venv/bin/pip install --quiet --disable-pip-version-check polars
	LD_LIBRARY_PATH=$$(rustc --print target-libdir):$(CARGO_TARGET_DIR)/$$(rustc --print host-tuple)/debug \
	$(CACHE)/polars-venv/bin/python benches/convert.py $(CARGO_TARGET_DIR)/$$(rustc --print host-tuple)/debug/lorascope --big

$(CACHE)/models/smollm2-hf/config.json: $(CACHE)/golden-venv/installed | model
	$(GOLDEN)/python benches/peers/smollm2_to_hf.py $(MODEL) $(@D)

## fuzz            damage files at random, FUZZ_SECONDS (600) for each of three targets
.PHONY: fuzz
fuzz: tools
	@test -d $(FUZZ) || { $(call link_target,$(FUZZ)); }
	RUSTC_WRAPPER=$(CURDIR)/fuzz/rustc.sh CARGO_TARGET_DIR=$(FUZZ) CARGO_BUILD_BUILD_DIR=$(FUZZ) \
	$(CARGO) build --locked --manifest-path fuzz/Cargo.toml
	@for target in container record parquet; do \
	    mkdir -p out/fuzz/$$target && FUZZ_SEEDS=out/fuzz/seeds $(FUZZ_BIN)/fuzz_$$target -max_total_time=$(FUZZ_SECONDS) -timeout=20 \
	        -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 -artifact_prefix=out/fuzz/$$target- \
	        out/fuzz/$$target out/fuzz/seeds/$$target || exit 1; \
	done
	@rm -rf /dev/shm/lorascope-fuzz-*

## golden          make the reference numbers of the tests again, with PyTorch and PEFT
.PHONY: golden
golden: $(CACHE)/models/smollm2-hf/config.json templates
	cd tests/golden && for script in layers tiny families autocast variants tying tied_head signs quantised foreign loralib_layers spectrum subspace llama3_frequencies pieces; do $(GOLDEN)/python $$script.py || exit 1; done
	$(GOLDEN)/python tests/golden/logits.py $(CACHE)/models/smollm2-hf
	$(GOLDEN)/python tests/golden/text.py $(MODEL) > $(CACHE)/text.json && mv $(CACHE)/text.json tests/golden/
	$(GOLDEN)/python tests/golden/templates.py $(CACHE)/templates > $(CACHE)/templates.json && mv $(CACHE)/templates.json tests/golden/

## test-peft       adapters written here, loaded with the real PEFT: equal logits
.PHONY: test-peft
test-peft: tools $(CACHE)/golden-venv/installed
	$(CARGO) nextest run --locked $(FEATURES) --test lora golden_variants:: warm_peft::
	cd tests/golden && left=$(CARGO_TARGET_DIR)/$$(rustc --print host-tuple)/tmp && \
	$(GOLDEN)/python check_round_trip.py $$left/for-peft $$left/runs-for-peft

## test-formats    every schema, container and pair of schemas, read by datasets and polars; minutes
.PHONY: test-formats
test-formats: tools $(CACHE)/formats-venv/installed
	$(CARGO) build --locked $(FEATURES)
	LD_LIBRARY_PATH=$$(rustc --print target-libdir):$(CARGO_TARGET_DIR)/$$(rustc --print host-tuple)/debug \
	$(CACHE)/formats-venv/bin/python -B tests/readers/check.py $(CARGO_TARGET_DIR)/$$(rustc --print host-tuple)/debug/lorascope

## test-mpi        training over several processes; as root also on two "hosts" (network namespaces)
.PHONY: test-mpi
test-mpi: FEATURES := $(FEATURES),mpi
test-mpi: tools mpi-tools model
	$(CARGO) build --locked $(FEATURES) --bin lorascope
	$(CARGO) $(if $(NEXTEST),nextest run,test) --locked $(FEATURES) --test processes
	@[ "$$(id -u)" = 0 ] || echo "not run: tests/two_hosts.sh makes network namespaces, which takes root"
	@[ "$$(id -u)" != 0 ] || LD_LIBRARY_PATH=$$(rustc --print target-libdir):$(CARGO_TARGET_DIR)/$$(rustc --print host-tuple)/debug \
	tests/two_hosts.sh $(CARGO_TARGET_DIR)/$$(rustc --print host-tuple)/debug/lorascope $(MODEL)

.PHONY: mpi-tools
mpi-tools:
	@for tool in mpicc mpirun; do command -v $$tool >/dev/null || { \
	    echo "$$tool is missing: apt-get install libopenmpi-dev openmpi-bin"; exit 1; }; done
	@command -v clang >/dev/null && { ldconfig -p; ls "$${LIBCLANG_PATH:-/usr/lib}" /usr/lib/llvm-*/lib; } 2>/dev/null \
	    | grep -q libclang || { echo "clang and libclang are missing: apt-get install clang libclang-dev"; exit 1; }
	@command -v ip >/dev/null || { echo "ip is missing: apt-get install iproute2"; exit 1; }

## test-kernel     the notebook kernel from outside: protocol, errors, stop, death, clients; SLOW=1 adds what takes minutes
.PHONY: test-kernel
test-kernel: kernel $(CACHE)/kernel-venv/installed
	JUPYTER_PATH=$(VENV)/share/jupyter $(CACHE)/kernel-venv/bin/python -B -m pytest tests/kernel $(if $(SLOW),-s,-m "not slow")

## test-lab        what a notebook shows, and a run in it, in a real JupyterLab in Chromium; LAB names notebooks to look at as well, SLOW=1 adds the tour
.PHONY: test-lab
test-lab: kernel $(if $(SLOW),model) $(CACHE)/lab-venv/installed
	@command -v chromium >/dev/null || { echo "chromium is missing: apt-get install chromium"; exit 1; }
	mkdir -p out/lab
	LORASCOPE_PAGES=$(CURDIR)/out/lab $(CARGO) nextest run --locked $(FEATURES) --test display awkward::
	$(CACHE)/lab-venv/bin/python -B tests/lab/check.py $(VENV)/bin/python out/lab out/lab/awkward_*.json $(LAB)
	$(CACHE)/lab-venv/bin/python -B tests/lab/live.py $(VENV)/bin/python out/lab
	$(if $(SLOW),$(CACHE)/lab-venv/bin/python -B tests/lab/live.py $(VENV)/bin/python out/lab --quickstart)

## model           fetch SmolLM2-135M-Instruct (98 MB) and check its hash
.PHONY: model
model: venv
	@$(VENV)/bin/python src/kernel/fetch_model.py $(CACHE)/models/smollm2-135m.gguf
	@mkdir -p $(dir $(MODEL)) && ln -sf $(CACHE)/models/smollm2-135m.gguf $(MODEL)

## templates       fetch the chat templates of real models that the tests render (2.5 MB)
.PHONY: templates
templates: venv
	@$(VENV)/bin/python tests/golden/fetch_templates.py $(CACHE)/templates

## kernel          build the notebook kernel; once, half an hour on 2 cores
.PHONY: kernel
kernel: tools venv $(KERNEL)
	@echo "building lorascope for the tests and the command line"
	@$(CARGO) build --locked $(FEATURES)
	@echo "building lorascope for notebooks"
	@$(KERNEL) build $(KERNEL_PLACES)
	@$(KERNEL) install --prefix $(VENV) $(KERNEL_PLACES)
	@$(KERNEL) install --stock --prefix $(VENV) $(KERNEL_PLACES)

## venv            install the Python environment of the notebooks
.PHONY: venv
venv: $(VENV)/requirements.txt

## clean           remove what was built and executed; keeps what was downloaded
.PHONY: clean
clean:
	rm -rf out target $(addprefix $(CACHE)/,base cells kernel kernels target target-cuda target-fuzz target-kernel target-kit)

# --- what the targets above stand on ---

.PHONY: tools
tools:
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust 1.95 or newer with rustup"; exit 1; }
	@cargo --version | awk '{split($$2, v, "."); exit !(v[1] > 1 || v[2] >= 95)}' || { echo "cargo is older than 1.95: rustup update"; exit 1; }
	@command -v cc >/dev/null || { echo "a C compiler is missing: apt-get install gcc"; exit 1; }
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10))" || { echo "Python 3.10 or newer is needed: make PYTHON=..."; exit 1; }
	@$(PYTHON) -c "import venv, ensurepip" 2>/dev/null || { echo "Python's venv is missing: apt-get install python3-venv"; exit 1; }

# The stamp of a virtual environment lies inside it and is written last.
$(VENV)/requirements.txt: src/kernel/requirements.txt src/kernel/constraints.txt | tools
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r $< -c src/kernel/constraints.txt
	cp $< $@

# A package of its own, with Rust's library in it: it starts without the folders of a build.
$(KERNEL): $(wildcard src/kernel/*.rs) src/kernel/Cargo.toml src/kernel/Cargo.lock src/kernel/logo.svg | tools
	@echo "building the kernel"
	$(KERNEL_CARGO) build $(KERNEL_BUILD)
	@mkdir -p $(@D) && cp $(KERNEL_TARGET)/$$(rustc --print host-tuple)/release/lorascope-kernel $@.new && mv $@.new $@

# nvcc as Python packages: compiles for any GPU, needs none.
CUDA := $(CACHE)/cuda/lib/python3*/site-packages/nvidia/cu13
$(CACHE)/cuda/installed: | tools
	$(PYTHON) -m venv --clear $(CACHE)/cuda
	$(CACHE)/cuda/bin/pip install --quiet --disable-pip-version-check \
	    $(addsuffix ==13.0.*,nvidia-cuda-nvcc nvidia-cuda-crt nvidia-cuda-cccl nvidia-cuda-runtime nvidia-nvvm)
	cd $(CUDA)/lib && ln -sf libcudart.so.13 libcudart.so
	touch $@

# Where a program links against these, CUDA's libraries are loaded when it first calls them.
$(CACHE)/kit/link/made: benches/kit/stubs.py benches/kit/stub.c Cargo.lock | $(CACHE)/cuda/installed
	rm -rf $(KIT)/*/debug/deps/*lorascope* $(KIT)/*/debug/deps/devices-*
	env $(CUDA_ENV) $(PYTHON) benches/kit/stubs.py $(@D)
	sh benches/kit/check_stubs.sh $(@D)
	touch $@

$(CACHE)/golden-venv/installed: tests/golden/requirements.txt | tools
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

$(CACHE)/kernel-venv/installed: tests/kernel/requirements.txt | tools
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

$(CACHE)/lab-venv/installed: tests/lab/requirements.txt | tools
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

$(CACHE)/formats-venv/installed: tests/readers/requirements.txt | tools
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@
