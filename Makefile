# sfscale - scalability benchmark and profiler of the SlowFast training step
#
# make              the program, build/sfscale
# make demo         data set, sweep over 1, 2 and 4 emulated nodes, report: results/demo/report/index.html
# make test         builds everything, runs all tests
# make bench        speeds against their yardsticks: results/bench/
# make gpu-check    on a machine with a GPU: checks and speeds of the CUDA back end, results/reference/CHIP/
# make gpu-carry    that, packed for a machine with a GPU that lacks the packages: gpu-carry.tar.xz
# make fuzz         fuzz targets by clang's libFuzzer: build/fuzz/; a few minutes over each reader is FUZZ_S=300
# make install      PREFIX=/usr/local DESTDIR=
# make deps         what demo and test do first: Debian packages that are missing, by apt-get
#
# Knobs
#   SAN=1           address and undefined-behaviour sanitizers, objects in build/san
#   MPI_HOME CUDA_HOME HWLOC_HOME DNNL_HOME    a site's own trees
#   CUDA=0          without libsfscale-cuda.so, which is built where nvcc, cuDNN and NCCL's header are found
#   CUDNN_HOME NCCL_HOME    where those are, if not in CUDA_HOME
#   CUDA_ARCHS      compute capabilities it is compiled for: "80 90", with a CUDA before 13 "70 80 90"
#   CC CFLAGS LDFLAGS; V=1 shows whole commands

PREFIX ?= /usr/local
CC = gcc
CFLAGS ?= -O2 -g
BUILD := $(if $(SAN),build/san,build)

MPI_HOME ?=
CUDA_HOME ?= $(firstword $(wildcard /usr/local/cuda))
HWLOC_HOME ?=
DNNL_HOME ?=

# Debian keeps MPI's headers in a folder of their own, which its compiler wrapper knows.
MPI_CFLAGS := $(if $(MPI_HOME),-I$(MPI_HOME)/include,$(shell mpicc --showme:compile 2>/dev/null))
MPI_LIBS := $(if $(MPI_HOME),-L$(MPI_HOME)/lib -Wl$(comma)-rpath$(comma)$(MPI_HOME)/lib) -lmpi
comma := ,
tree = $(if $1,-I$1/include)
lib_tree = $(if $1,-L$1/lib -Wl$(comma)-rpath$(comma)$1/lib)

override CPPFLAGS += -I. -D_GNU_SOURCE $(MPI_CFLAGS) $(call tree,$(HWLOC_HOME)) $(call tree,$(DNNL_HOME)) \
	$(call tree,$(CUDA_HOME))
override CFLAGS += -std=c11 -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -fno-math-errno \
	-pthread
override LDFLAGS += -pthread $(call lib_tree,$(HWLOC_HOME)) $(call lib_tree,$(DNNL_HOME))
# oneDNN runs on OpenMP; the operators beside it must use the same threads.
override LDFLAGS += -fopenmp
CPU_CFLAGS := -fopenmp -O3
$(BUILD)/kernels/cpu/%.o: override CFLAGS += $(CPU_CFLAGS)
ifdef SAN
override CFLAGS += -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
override LDFLAGS += -fsanitize=address,undefined
endif

# $(call probe,header,libraries) is 1 when a program with both links.
probe = $(shell printf '\043include <stddef.h>\n\043include <stdio.h>\n\043include <$1>\nint main(void){return 0;}\n' | \
	$(CC) $(CPPFLAGS) -x c - $(LDFLAGS) $2 -o /dev/null 2>/dev/null && echo 1)

# The needs: for each its header, libraries, Debian package.  The program is linked with LINKED; tests with cmocka too.
LINKED := mpi hwloc dnnl turbojpeg jpeg cjson expat zlib
NEEDS := $(LINKED) cmocka
mpi_header := mpi.h
mpi_libs := $(MPI_LIBS)
mpi_package := libopenmpi-dev
hwloc_header := hwloc.h
hwloc_libs := -lhwloc
hwloc_package := libhwloc-dev
dnnl_header := oneapi/dnnl/dnnl.h
dnnl_libs := -ldnnl
dnnl_package := libdnnl-dev
turbojpeg_header := turbojpeg.h
turbojpeg_libs := -lturbojpeg
turbojpeg_package := libturbojpeg0-dev
jpeg_header := jpeglib.h
jpeg_libs := -ljpeg
jpeg_package := libjpeg-dev
cjson_header := cjson/cJSON.h
cjson_libs := -lcjson
cjson_package := libcjson-dev
expat_header := expat.h
expat_libs := -lexpat
expat_package := libexpat1-dev
zlib_header := zlib.h
zlib_libs := -lz
zlib_package := zlib1g-dev
cmocka_header := setjmp.h>\n\043include <stdarg.h>\n\043include <cmocka.h
cmocka_libs := -lcmocka
cmocka_package := libcmocka-dev
# Programs that a sweep, a report and the tests start: name and package.
PROGRAMS := mpirun:openmpi-bin gnuplot:gnuplot-nox

ifneq ($(filter-out clean deps demo test,$(or $(MAKECMDGOALS),all)),)
$(foreach n,$(NEEDS),$(eval HAVE_$n := $(call probe,$($n_header),$($n_libs))))
HAVE_NVTX := $(call probe,nvtx3/nvToolsExt.h,-ldl)
# $(call missing,needs) is the packages of those that were not found.
missing = $(strip $(foreach n,$1,$(if $(HAVE_$n),,$($n_package))))
MISSING_LINKED := $(call missing,$(LINKED))
MISSING_PACKAGES := $(strip $(call missing,$(NEEDS)) $(foreach p,$(PROGRAMS),$(if \
	$(shell command -v $(firstword $(subst :, ,$p))),,$(lastword $(subst :, ,$p)))))
endif
ifdef HAVE_NVTX
override CPPFLAGS += -DHAVE_NVTX
endif

# The shared object that holds everything which needs CUDA; the program opens it when it is asked for.
NVCC ?= $(wildcard $(CUDA_HOME)/bin/nvcc)
CUDNN_HOME ?= $(CUDA_HOME)
NCCL_HOME ?= $(CUDA_HOME)
CUDA_LIB := $(firstword $(wildcard $(CUDA_HOME)/lib64 $(CUDA_HOME)/lib))
CUDA_LIBS := $(foreach d,$(sort $(CUDA_LIB) $(wildcard $(CUDNN_HOME)/lib)),-L$d -Wl$(comma)-rpath$(comma)$d) -lcudnn -lcudart
# Of NCCL the header alone: the library is opened by path.
CUDA_CPPFLAGS := $(foreach d,$(sort $(filter-out $(CUDA_HOME),$(CUDNN_HOME) $(NCCL_HOME))),-I$d/include)
ifneq ($(CUDA),0)
HAVE_CUDA := $(if $(NVCC),$(call probe,cudnn.h>\n\043include <nccl.h,$(CUDA_CPPFLAGS) $(CUDA_LIBS)))
endif
ifdef HAVE_CUDA
CUDA_ARCHS ?= $(if $(filter-out 8 9 10 11 12,$(shell $(NVCC) --version | sed -n 's/.*release \([0-9]*\)\..*/\1/p')),80 90,70 80 90)
NVCC_FLAGS := -std=c++17 -O3 -g -Xcompiler -fPIC,-fvisibility=hidden,-Wall,-Wextra \
	$(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$a$(comma)code=sm_$a) \
	-gencode arch=compute_$(lastword $(CUDA_ARCHS))$(comma)code=compute_$(lastword $(CUDA_ARCHS))
CUDA_SOURCES := $(wildcard kernels/cuda/*.c kernels/cuda/*.cu comm/nccl/*.c)
CUDA_LIBRARY := $(BUILD)/libsfscale-cuda.so
# The same files for the CPU, with a runtime and a cuDNN that the tests bring (tests/emulated/): for programs that call them, and
# as the library of a program of its own, $(BUILD)/emulated/sfscale.
EMULATED := $(CUDA_SOURCES:%=$(BUILD)/emulated/%.o) $(patsubst %,$(BUILD)/emulated/%.o,$(wildcard tests/emulated/*.c tests/emulated/*.cc))
$(BUILD)/emulated/tests/emulated/cudnn.c.o: override CFLAGS += $(CPU_CFLAGS)
EMULATED_PROGRAM := $(BUILD)/emulated/sfscale $(BUILD)/emulated/libsfscale-cuda.so
# And the tests themselves over the real ones, but for those of the emulation: only a machine with a GPU can run them (make gpu-check).
GPU_TESTS := $(patsubst tests/%.c,$(BUILD)/gpu/%,$(filter-out tests/test_cuda_emulated.c,$(wildcard tests/test_cuda_*.c)))
# Ranks of comm/nccl alone.
EMULATED_NCCL := $(patsubst %,$(BUILD)/emulated/%.o,$(wildcard comm/nccl/*.c) \
	$(addprefix kernels/cuda/,device.c memory.c timeline.c stamp.cu gradient.cu) $(addprefix tests/emulated/,cudart.c stream.cc kernel.cc))
$(BUILD)/tests/test_cuda_%.o $(BUILD)/tests/test_nccl.o $(BUILD)/tests/test_device_run.o $(BUILD)/tests/ranks_nccl.o: \
	override CPPFLAGS += -DHAVE_CUDA $(CUDA_CPPFLAGS)
$(BUILD)/tests/test_cuda_%.o: override CFLAGS += -fopenmp
endif

ifneq ($(filter-out clean deps demo test,$(or $(MAKECMDGOALS),all)),)
$(info found:$(foreach n,$(NEEDS),$(if $(HAVE_$n), $n)) $(if $(HAVE_NVTX),nvtx) $(if $(HAVE_CUDA),cuda))
endif

LIBS := $(foreach n,$(LINKED),$($n_libs)) -ldl -lm
SOURCES := $(filter-out bench/main.c,$(wildcard bench/*.c bench/base/*.c kernels/*.c kernels/cpu/*.c loader/*.c \
	comm/*.c comm/topo/*.c report/*.c report/import/*.c))
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o)
TESTS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/test_*.c))
# Programs that tests start: ranks of a job, libraries that are injected or opened in place of others, the real CUDA libraries
# without a GPU.
HELPERS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(filter-out $(if $(HAVE_CUDA),,tests/ranks_nccl.c),$(wildcard tests/ranks_*.c))) \
	$(patsubst tests/%.c,$(BUILD)/tests/%.so,$(wildcard tests/inject_*.c) $(if $(HAVE_CUDA),$(wildcard tests/fake_*.c))) \
	$(if $(HAVE_CUDA),$(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/described_*.c)))

Q := $(if $(V),,@)
VERSION := $(shell git describe --always --dirty 2>/dev/null || echo unknown)
# Expanded here, where no target has flags of its own yet.
FLAGS := $(strip $(CC) $(CPPFLAGS) $(CFLAGS) (kernels/cpu: $(CPU_CFLAGS)) $(LDFLAGS))
quoted = '$(subst ','\'',$1)'
c_string = "$(subst ",\",$(subst \,\\,$1))"
# $(call rewrite,lines) writes the target where that changes it.
rewrite = mkdir -p $(@D) && printf '%s\n' $1 > $@.new && { cmp -s $@.new $@ && rm $@.new || mv $@.new $@; }

all: $(BUILD)/sfscale $(CUDA_LIBRARY)

# Exports its symbols: libsfscale-cuda.so calls back.
$(BUILD)/sfscale: $(BUILD)/bench/main.o $(BUILD)/libsfscale.a
	$(if $(V),,@echo '  LD  $@')
	$(Q)$(CC) $(LDFLAGS) -rdynamic $^ $(LIBS) -o $@

$(CUDA_LIBRARY): $(CUDA_SOURCES:%=$(BUILD)/cuda/%.o)
	$(if $(V),,@echo '  LD  $@')
	$(Q)$(CC) -shared $(LDFLAGS) $^ $(CUDA_LIBS) -lstdc++ -o $@

$(BUILD)/cuda/%.c.o: %.c $(BUILD)/flags | $(BUILD)/build.h
	@mkdir -p $(@D)
	$(if $(V),,@echo '  CC  $@')
	$(Q)$(CC) $(CPPFLAGS) $(CUDA_CPPFLAGS) -I$(BUILD) $(CFLAGS) -fPIC -fvisibility=hidden -MMD -MP -c $< -o $@

$(BUILD)/cuda/%.cu.o: %.cu $(BUILD)/flags
	@mkdir -p $(@D)
	$(if $(V),,@echo '  NVCC  $@')
	$(Q)$(NVCC) -I. $(NVCC_FLAGS) -MMD -MP -c $< -o $@

$(BUILD)/emulated/%.c.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(if $(V),,@echo '  CC  $@')
	$(Q)$(CC) $(CPPFLAGS) $(CUDA_CPPFLAGS) $(CFLAGS) -fPIC -fopenmp -MMD -MP -c $< -o $@

$(BUILD)/emulated/libsfscale-cuda.so: $(EMULATED)
	$(if $(V),,@echo '  LD  $@')
	$(Q)$(CC) -shared $(LDFLAGS) $^ -lstdc++ -lm -o $@

# Not a link: a program looks for its library beside itself.
$(BUILD)/emulated/sfscale: $(BUILD)/sfscale
	@mkdir -p $(@D)
	$(Q)cp $< $@

$(BUILD)/gpu/test_%: $(BUILD)/tests/test_%.o $(CUDA_SOURCES:%=$(BUILD)/cuda/%.o) $(BUILD)/libsfscale.a
	@mkdir -p $(@D)
	$(if $(V),,@echo '  LD  $@')
	$(Q)$(CC) $(LDFLAGS) $^ $(LIBS) $(CUDA_LIBS) $(cmocka_libs) -lstdc++ -o $@

$(BUILD)/emulated/%.o: % $(BUILD)/flags
	@mkdir -p $(@D)
	$(if $(V),,@echo '  CXX  $@')
	$(Q)$(CXX) $(CPPFLAGS) $(CUDA_CPPFLAGS) -std=c++17 -O2 -g -Wall -Wextra -Wno-unknown-pragmas -fPIC -fopenmp $(if $(SAN),-fsanitize=address$(comma)undefined) \
		-include tests/emulated/kernel.h -x c++ -MMD -MP -c $< -o $@

$(BUILD)/libsfscale.a: $(OBJECTS)
	$(Q)rm -f $@ && ar rcs $@ $^

# Compiled in: what the record says of the build.
$(BUILD)/build.h: FORCE
	@$(call rewrite,$(call quoted,#define BUILD_VERSION $(call c_string,$(VERSION))) \
		$(call quoted,#define BUILD_FLAGS $(call c_string,$(FLAGS))))

# Whatever was built with other flags is built again.
$(BUILD)/flags: FORCE
	@$(call rewrite,$(call quoted,$(FLAGS)))

$(BUILD)/%.o: %.c $(BUILD)/flags | $(BUILD)/build.h need-linked
	@mkdir -p $(@D)
	$(if $(V),,@echo '  CC  $@')
	$(Q)$(CC) $(CPPFLAGS) -I$(BUILD) $(CFLAGS) -MMD -MP -c $< -o $@

$(TESTS:=.o) $(HELPERS): | need-all

$(BUILD)/tests/test_%: $(BUILD)/tests/test_%.o $(BUILD)/libsfscale.a
	$(if $(V),,@echo '  LD  $@')
	$(Q)$(CC) $(LDFLAGS) $^ $(LIBS) $(cmocka_libs) -o $@

$(BUILD)/tests/test_cuda_%: $(BUILD)/tests/test_cuda_%.o $(EMULATED) $(BUILD)/libsfscale.a
	$(if $(V),,@echo '  LD  $@')
	$(Q)$(CC) $(LDFLAGS) $^ $(LIBS) $(cmocka_libs) -lstdc++ -o $@

$(BUILD)/tests/ranks_%: $(BUILD)/tests/ranks_%.o $(BUILD)/libsfscale.a
	$(if $(V),,@echo '  LD  $@')
	$(Q)$(CC) $(LDFLAGS) $^ $(LIBS) -o $@

$(BUILD)/tests/described_%.o: override CPPFLAGS += $(CUDA_CPPFLAGS)
$(BUILD)/tests/described_%: $(BUILD)/tests/described_%.o $(CUDA_SOURCES:%=$(BUILD)/cuda/%.o) $(BUILD)/libsfscale.a
	$(if $(V),,@echo '  LD  $@')
	$(Q)$(CC) $(LDFLAGS) $^ $(LIBS) $(CUDA_LIBS) -lstdc++ -o $@

$(BUILD)/tests/ranks_nccl: $(BUILD)/tests/ranks_nccl.o $(EMULATED_NCCL) $(BUILD)/libsfscale.a
	$(if $(V),,@echo '  LD  $@')
	$(Q)$(CC) $(LDFLAGS) $^ $(LIBS) -fopenmp -lstdc++ -o $@

$(BUILD)/tests/%.so: tests/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(if $(V),,@echo '  CC  $@')
	$(Q)$(CC) $(CPPFLAGS) $(CUDA_CPPFLAGS) -std=c11 -O2 -g -Wall -Wextra -fPIC -pthread -shared $< -o $@

# Stop with the list when something is missing: what the program is linked with; what the tests need besides.
need-linked:
ifneq ($(MISSING_LINKED),)
	@bench/deps.sh --explain $(MISSING_LINKED)
endif

need-all:
ifneq ($(MISSING_PACKAGES),)
	@bench/deps.sh --explain $(MISSING_PACKAGES)
endif

# First a make of its own, that installs; then one that probes afresh.
deps:
	@$(MAKE) --no-print-directory install-missing

install-missing:
ifneq ($(MISSING_PACKAGES),)
	@bench/deps.sh $(MISSING_PACKAGES)
endif

test: deps
	@$(MAKE) --no-print-directory build-tests
	@tests/run.sh $(BUILD)

build-tests: all $(TESTS) $(HELPERS) $(EMULATED_PROGRAM)

demo: deps
	@$(MAKE) --no-print-directory all
	@bench/demo.sh $(BUILD)/sfscale results/demo

bench: all
	@mkdir -p results/bench
	$(BUILD)/sfscale bench --out results/bench

# Every reader of files that others made, one after the other (tests/fuzz/).  Without seeds, but for frame lists, and records: those
# are made by a run; give build/fuzz/PROGRAM folders of seeds for more.  hwloc's own leaks on files that it half reads (topo reader 4)
# are not ours.  Headers of tensors are 4 kB at most, so a reader that asks for a megabyte believed something that it read.
FUZZ_S ?= 60
FUZZ_SOURCES_topo := $(wildcard comm/topo/*.c)
FUZZ_SOURCES_safetensors := kernels/safetensors.c
FUZZ_SOURCES_eval := loader/ava_eval.c loader/ava.c
FUZZ_SOURCES_ava := loader/ava.c
FUZZ_SOURCES_record := $(wildcard report/*.c loader/*.c)
FUZZ_PROGRAMS := topo safetensors eval ava record
FUZZ_FLAGS = -max_total_time=$(FUZZ_S) -close_fd_mask=3 -artifact_prefix=build/fuzz/
FUZZ_RUN = $(BUILD)/sfscale run --kernels null --policy null --net nano --epochs 2 --iterations 3 --log-period 0 --out build/fuzz/record
$(FUZZ_PROGRAMS:%=build/fuzz/fuzz_%): build/fuzz/fuzz_%: tests/fuzz/fuzz_%.c FORCE | $(BUILD)/build.h
	@mkdir -p build/fuzz
	clang -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined $(CPPFLAGS) -I$(BUILD) -std=c11 -pthread \
		$< $(FUZZ_SOURCES_$*) $(wildcard bench/base/*.c) $(foreach n,cjson expat hwloc zlib turbojpeg jpeg,$($n_libs)) -ldl -lm -o $@
fuzz: $(FUZZ_PROGRAMS:%=build/fuzz/fuzz_%) $(BUILD)/sfscale
	for r in 1 2 3 4 5 6 7 8; do FUZZ_TOPO_READER=$$r build/fuzz/fuzz_topo $(FUZZ_FLAGS)topo-$$r- -detect_leaks=$$([ $$r = 4 ] && \
		echo 0 || echo 1) || exit 1; done
	build/fuzz/fuzz_safetensors $(FUZZ_FLAGS)safetensors- -malloc_limit_mb=1
	build/fuzz/fuzz_eval $(FUZZ_FLAGS)eval-
	rm -rf build/fuzz/ava && mkdir -p build/fuzz/ava
	printf '%s\n' head 'v 0 0 v/v_008.jpg ""' 'v 0 1 v/v_009.jpg ""' 'v 0 2 v/v_010.jpg ""' 'w 1 0 9 ""' 'w 1 1 10 ""' >build/fuzz/ava/list
	build/fuzz/fuzz_ava $(FUZZ_FLAGS)ava- build/fuzz/ava
	rm -rf build/fuzz/record && mkdir -p build/fuzz/record/seeds build/fuzz/record/corpus
	$(FUZZ_RUN)/one && OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun --oversubscribe -n 3 $(FUZZ_RUN)/three --nodes 3
	FUZZ_RECORD_RUN="build/fuzz/record/one build/fuzz/record/three" FUZZ_RECORD_SEEDS=build/fuzz/record/seeds build/fuzz/fuzz_record \
		$(FUZZ_FLAGS)record- -max_len=32768 build/fuzz/record/corpus build/fuzz/record/seeds

# Everything that only a machine with a GPU can show: checks and speeds into results/reference/CHIP.
gpu-check: build-tests $(GPU_TESTS)
	@tests/gpu/check.sh $(BUILD)

# The same, packed for a GPU machine that lacks the packages: there `tests/gpu/carried.sh gpu-carry.tar.xz`.
gpu-carry: all $(GPU_TESTS)
	@tests/gpu/carry.sh $(BUILD) gpu-carry.tar.xz

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/doc/sfscale
	install -m 755 $(BUILD)/sfscale $(DESTDIR)$(PREFIX)/bin/
	$(if $(CUDA_LIBRARY),install -d $(DESTDIR)$(PREFIX)/lib && install -m 755 $(CUDA_LIBRARY) $(DESTDIR)$(PREFIX)/lib/)
	install -m 644 README.md CHANGELOG.md $(DESTDIR)$(PREFIX)/share/doc/sfscale/

clean:
	rm -rf build

FORCE:
.PHONY: all need-linked need-all deps install-missing test build-tests demo bench fuzz gpu-check gpu-carry install clean FORCE
.SECONDARY:

-include $(OBJECTS:.o=.d) $(BUILD)/bench/main.d $(TESTS:=.d) $(HELPERS:=.d) $(EMULATED:.o=.d) \
	$(CUDA_SOURCES:%=$(BUILD)/cuda/%.d)
