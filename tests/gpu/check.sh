#!/bin/bash
# tests/gpu/check.sh BUILD [OUT] - everything that only a GPU can show: a table of checks and one of speeds.
#
# What `make gpu-check` runs once all is built.  Works in a folder of its own, and leaves in OUT (default:
# results/reference/ and the chip's name) machine.txt, checks.csv, speeds.csv, what each step said in log/, and fixtures that
# only a GPU can make (NCCL's logs and graphs).  Exit 0 when every check that could be tried is ok; 3 when one failed; 2 when
# there is no GPU.  A check that lacks something (python3 with torch, mpirun, compute-sanitizer) is "not tried", by name.
#
# GPU_PROGRAM: another program to check, as that over the emulated library, whose tables say nothing of a GPU.
# GPU_NCCL: the libnccl to take, by its path.  GPU_QUICK=1: small nets and few steps, to try the script itself.
set -u
build=$1
program=${GPU_PROGRAM:-$build/sfscale}
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
chip=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -1 | tr 'A-Z ' 'a-z-')
[ -n "$chip" ] || [ -n "${GPU_PROGRAM:-}" ] || { echo "gpu-check: no GPU here (nvidia-smi names none)" >&2; exit 2; }
out=${2:-results/reference/${chip:-emulated}}
work=$(mktemp -d "${TMPDIR:-/tmp}/sfscale-gpu-XXXXXX") || exit 2
trap 'rm -rf "$work"' EXIT
mkdir -p "$out/log" "$out/nccl"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
failed=0

echo "check,verdict,detail" > "$out/checks.csv"
echo "what,precision,clips,ms_per_step,ms_per_clip,idle_percent,peak_gib,note" > "$out/speeds.csv"

# say VERDICT NAME DETAIL
say() {
	printf '%-10s %s  %s\n' "$1" "$2" "$3"
	printf '"%s",%s,"%s"\n' "$2" "$1" "$(echo "$3" | tr '"\n' "' ")" >> "$out/checks.csv"
	[ "$1" != FAILED ] || failed=1
}

# check NAME LOG COMMAND...: by its exit status; the detail is the last line that it said
check() {
	local name=$1 log=$out/log/$2; shift 2
	if timeout 300 "$@" > "$log" 2>&1; then say ok "$name" "$(tail -1 "$log")"; else say FAILED "$name" "exit $?: $(tail -1 "$log")"; fi
}

# refused NAME LOG EXIT TEXT COMMAND...: ends with this status and these words
refused() {
	local name=$1 log=$out/log/$2 want=$3 words=$4 rc; shift 4
	timeout 120 "$@" > "$log" 2>&1; rc=$?
	if [ $rc = "$want" ] && grep -q "$words" "$log"; then say ok "$name" "$(grep -m1 "$words" "$log")"
	else say FAILED "$name" "exit $rc, wanted $want with '$words': $(tail -1 "$log")"; fi
}

have() { command -v "$1" > /dev/null 2>&1; }
has_torch() { "$python" -c 'import torch, numpy' 2> /dev/null; }

{
	date -u '+%Y-%m-%d %H:%M UTC'
	"$program" --version
	nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.mem,power.limit --format=csv 2>/dev/null
	lscpu | grep -E 'Model name|^CPU\(s\)'
	has_torch && "$python" -c 'import torch; print("PyTorch", torch.__version__, "cuDNN", torch.backends.cudnn.version())'
} > "$out/machine.txt" 2>&1

# ---- operators, and two steps against the CPU back end, by the tests that run emulated elsewhere ----

for test in "$build"/gpu/test_cuda_*; do
	[ -n "$chip" ] || { say "not tried" "$(basename "$test" | tr _ ' ') on the chip" "no GPU"; continue; }
	check "$(basename "$test" | tr _ ' ') on the chip" "$(basename "$test")" env SFSCALE_BUILD="$build" "$test"
done

# ---- whole steps against PyTorch in double precision ----

nets="nano tiny r50"
[ -n "${GPU_QUICK:-}" ] && nets=nano
for net in $nets; do
	has_torch || { say "not tried" "verify $net" "no python3 with torch and numpy"; continue; }
	check "reference of $net" "reference-$net" "$python" "$here/../reference/reference.py" "$net" --full "$work/$net"
	# The state that keeps r50's ReLUs off their edges is beyond 8 bits of mantissa: under autocast PyTorch's own loss is 3.06
	# on it, and 1.12 in double.
	steps=3 precisions="fp32 tf32 bf16"
	[ "$net" = r50 ] && steps=1 precisions=fp32
	for precision in $precisions; do
		check "verify $net in $precision" "verify-$net-$precision" "$program" verify --net "$net" --kernels cuda \
			--precision $precision --steps $steps --lr 0.01 --weight-decay 1e-2 --state "$work/$net/state" \
			--batch "$work/$net/batch" --out "$work/$net/got-$precision" --against "$work/$net/result" --csv
	done
done

# ---- training: the loss of bf16 follows that of fp32, and both the CPU's ----

steps=200; [ -n "${GPU_QUICK:-}" ] && steps=20
check "a data set" data "$program" data make "$work/data" --videos 2 --seconds 16
train() {	# NAME PRECISION KERNELS RANKS LAUNCH...
	local name=$1 precision=$2 kernels=$3; shift 3
	check "train $name" "train-$name" "$@" "$program" run --data "$work/data" --net nano --clips 2 --epochs 4 --iterations $((steps / 4)) \
		--kernels "$kernels" --precision "$precision" --workers 2 --out "$work/$name"
}
train cpu fp32 cpu
train cuda-fp32 fp32 cuda
train cuda-bf16 bf16 cuda
if have "$python"; then
	check "losses of fp32 are the CPU's, within 1 %" losses-fp32 "$python" "$here/rows.py" losses "$work/cpu" "$work/cuda-fp32" 0.01
	check "losses of bf16 follow fp32's, within 5 %" losses-bf16 "$python" "$here/rows.py" losses "$work/cuda-fp32" "$work/cuda-bf16" 0.05
fi

# ---- several ranks on one GPU, each a node of its own for NCCL: their times mean nothing ----

for ranks in 2 4; do
	have mpirun || { say "not tried" "$ranks ranks over NCCL" "no mpirun"; continue; }
	check "$ranks ranks over NCCL train" "nccl-$ranks" env NCCL_DEBUG=INFO NCCL_DEBUG_SUBSYS=INIT,ENV,GRAPH,NET,TUNING \
		NCCL_DEBUG_FILE="$PWD/$out/nccl/$ranks-ranks.%h.%p.log" NCCL_TOPO_DUMP_FILE="$PWD/$out/nccl/$ranks-topo.xml" \
		NCCL_GRAPH_DUMP_FILE="$PWD/$out/nccl/$ranks-graph.xml" mpirun --oversubscribe -n $ranks "$program" run --data "$work/data" \
		--net nano --clips 1 --epochs 1 --iterations 5 --kernels cuda --precision fp32 --comm nccl --one-gpu on ${GPU_NCCL:+--nccl "$GPU_NCCL"} --workers 1 \
		--out "$work/nccl-$ranks"
	check "$ranks ranks on the CPU, in one process" "emulate-$ranks" "$program" run --data "$work/data" --net nano --clips 1 --epochs 1 \
		--iterations 5 --kernels cpu --emulate-ranks $ranks --workers 1 --out "$work/cpu-$ranks"
	have "$python" && check "their losses are equal, within 0.1 %" "nccl-losses-$ranks" "$python" "$here/rows.py" losses "$work/cpu-$ranks" \
		"$work/nccl-$ranks" 0.001
done

# ---- memory, and what bad input gets ----

if have compute-sanitizer && [ -n "$chip" ] && has_torch; then
	for tool in memcheck racecheck initcheck; do
		check "compute-sanitizer $tool" "sanitizer-$tool" compute-sanitizer --tool $tool --error-exitcode 9 "$program" verify --net nano \
			--kernels cuda --steps 1 --state "$work/nano/state" --batch "$work/nano/batch" --out "$work/nano/sane"
	done
else
	say "not tried" "compute-sanitizer" "no compute-sanitizer, or no GPU"
fi
refused "no GPU is a sentence" no-gpu 2 "cannot run here" env CUDA_VISIBLE_DEVICES= "$build/sfscale" run --kernels cuda --policy null \
	--net nano --epochs 1 --iterations 1 --out "$work/no-gpu"
refused "too large a batch says which one fits" no-memory 2 "enough for" "$program" run --kernels cuda --policy null --net r50 \
	--clips 512 --epochs 1 --iterations 1 --out "$work/no-memory"

# ---- speeds: a step with its inputs resident on the host, no loader, one rank ----

# speed NAME NET PRECISION CLIPS [OPTION...]
speed() {
	local name=$1 net=$2 precision=$3 clips=$4 folder=$work/speed-$1-$3 log=$out/log/speed-$1-$3; shift 4
	if ! "$program" run --kernels cuda --precision "$precision" --policy null --comm null --net "$net" --clips "$clips" --epochs 2 \
		--iterations "${GPU_STEPS:-30}" --log-period 0 --out "$folder" "$@" > "$log" 2>&1 ||
		! "$program" report "$folder" > "$log-report" 2>&1; then
		say FAILED "speed of $name in $precision" "$(tail -1 "$log")"
		return
	fi
	"$python" "$here/rows.py" speed "$folder" "$name" "$*" >> "$out/speeds.csv"
}
if [ -n "${GPU_QUICK:-}" ]; then
	speed nano nano fp32 2
	speed nano-launched nano fp32 2 --graph off
else
	for precision in bf16 tf32 fp32; do speed r50 r50 $precision 8; done
	speed r50-launched r50 bf16 8 --graph off
	speed r50-uint8 r50 bf16 8 --pixels uint8
	speed r50-16 r50-16 bf16 8
	for precision in bf16 tf32; do
		has_torch || break
		"$python" "$here/../peers/slowfast_torch.py" --precision $precision > "$out/log/torch-$precision.jsonl" 2> "$out/log/torch-$precision"
		"$python" "$here/rows.py" peer "$out/log/torch-$precision.jsonl" >> "$out/speeds.csv"
	done
fi

echo
column -s, -t < "$out/speeds.csv" 2>/dev/null || cat "$out/speeds.csv"
[ $failed = 0 ] || exit 3
