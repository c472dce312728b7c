# hull's build, demonstration and tests. Each target installs what it needs and says how long it took.
#
#   make demo      build everything, start a registry with real images, run the main job
#   make test      every test: unit, property, end to end in real guests
#   make test-kvm  the kvm engine, with the end-to-end tests' core, on emulated CPUs with
#                  virtualization, x86-64 and ARM
#   make test-buildx  docker buildx with BuildKit in a container, compiled from Debian's source
#   make load      500 clients of hull serve for three minutes, and a kill of it in the middle
#   make fuzz      search for bytes that break a device or a decoder (FUZZ_SECONDS=10 per target)
#   make arm       hull for ARM boards, a static program, with its agent, kernel and emulators
#   make build     target/release/hull with its agent, kernel and emulators
#   make kernels   all guest kernels (build makes only the one that this machine uses by default)
#   make registry  the seeded registry; target/demo/config.toml names it as docker.io's mirror
#   make bench     hull beside docker, podman and the bare kernel
#   make conformance  hull build beside docker's classic builder, Dockerfile by Dockerfile
#   make lint      formatting, clippy, shellcheck, dependencies
#   make clean     remove target/ (kernels and images stay in the cache, ~/.cache/hull)

.PHONY: all build arm setup hull agent kernel emulators kernels guests registry registry-stop demo test kvm test-kvm test-buildx load fuzz bench conformance lint clean
.NOTPARALLEL:

step := @scripts/step
# For scripts that call cargo themselves: the one that is new enough comes first.
path := PATH="$$(dirname "$$(scripts/cargo --find)"):$$PATH"
native := $(shell uname -m)
kernel_x86_64 := um
kernel_aarch64 := aarch64

all: build

build: setup hull agent kernel emulators

setup:
	$(step) "Checking the build's packages" scripts/setup build run

hull:
	$(step) "Building hull" scripts/cargo build --release --package hull

agent:
	@$(path) scripts/step "Building the guest agent for $(native)" guest-agent/build $(native)

kernel:
	$(step) "Building the guest kernel $(kernel_$(native))" kernel-config/build --target $(kernel_$(native)) --output target/kernels

emulators:
	$(step) "Collecting the emulators" scripts/emulators

# Everything that any engine can start.
guests: build kernels
	$(step) "Checking the cross compiler's packages" scripts/setup cross
	@$(path) scripts/step "Building the guest agent for all architectures" guest-agent/build x86_64 aarch64

kernels:
	$(step) "Building all guest kernels" kernel-config/build --output target/kernels

registry:
	$(step) "Checking the demonstration's packages" scripts/setup demo
	$(step) "Starting the seeded registry" demo/registry start

registry-stop:
	$(step) "Stopping the seeded registry" demo/registry stop

demo: build
	$(step) "Checking the demonstration's packages" scripts/setup demo
	$(step) "Running the main job" demo/run

test: guests
	$(step) "Checking the tests' packages" scripts/setup demo test
	$(step) "Getting docker-compose" scripts/compose
	$(step) "Getting the clients of Docker's API" scripts/clients
	$(step) "Running every test" scripts/test

arm: setup
	$(step) "Checking the cross compiler's packages" scripts/setup cross
	$(step) "Building hull for aarch64" scripts/cross aarch64 $(cross_tests)
	@$(path) scripts/step "Building the guest agent for aarch64" guest-agent/build aarch64
	$(step) "Building the guest kernel aarch64" kernel-config/build --target aarch64 --output target/kernels
	$(step) "Collecting the emulators for aarch64" scripts/emulators aarch64

kvm: build arm
	$(step) "Checking the tests' packages" scripts/setup demo test run
	$(step) "Building the guest kernel x86_64" kernel-config/build --target x86_64 --output target/kernels

test-kvm: cross_tests = --tests
test-kvm: kvm
	$(step) "Testing the kvm engine" tests/kvm/run

test-buildx: build
	$(step) "Checking the demonstration's packages" scripts/setup demo
	$(step) "Building BuildKit" tests/buildx/buildkit target/buildkit
	$(step) "Testing docker buildx" tests/buildx/run

load: build
	$(step) "Checking the tests' packages" scripts/setup demo test
	$(step) "Loading hull serve" scripts/load

FUZZ_SECONDS ?= 10

fuzz: setup
	$(step) "Checking the fuzzers' packages" scripts/setup fuzz
	$(step) "Fuzzing" scripts/fuzz --seconds $(FUZZ_SECONDS)

bench: build kernels
	$(step) "Checking the benchmark's packages" scripts/setup demo peers
	$(step) "Running the benchmark" benches/run

conformance: build registry
	$(step) "Checking the peers' packages" scripts/setup peers
	HULL_CONFIG=$(CURDIR)/target/demo/config.toml tests/build-conformance/run

lint:
	$(step) "Checking the linters' packages" scripts/setup build lint
	$(step) "Linting" scripts/lint

clean: registry-stop
	$(step) "Removing target/" rm -rf target
