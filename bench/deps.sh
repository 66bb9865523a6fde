#!/bin/sh
# bench/deps.sh [--explain] PACKAGE... - installs Debian packages, or says what a person would have to do (exit 2).
explain=
[ "$1" = --explain ] && { explain=1; shift; }
if [ "$(id -u)" = 0 ]; then sudo=; elif sudo -n true 2>/dev/null; then sudo='sudo -n'; else explain=1; fi
command -v apt-get >/dev/null || explain=1
if [ -n "$explain" ]; then
	cat >&2 <<EOF
sfscale: missing on this machine; with Debian or Ubuntu packages:

    apt-get install $*

A site's own trees are named with MPI_HOME= CUDA_HOME= NCCL_HOME= CUDNN_HOME= HWLOC_HOME= DNNL_HOME=,
for example: make MPI_HOME=/opt/openmpi DNNL_HOME=/opt/onednn
EOF
	exit 2
fi
echo "installing: $*"
export DEBIAN_FRONTEND=noninteractive
install="$sudo apt-get install -y -qq --no-install-recommends $*"
# The package lists of a fresh machine may be absent or old: then one update, and again.
$install >/dev/null 2>&1 || { $sudo apt-get update -qq && $install >/dev/null; } || {
	echo "sfscale: cannot install: $*" >&2
	exit 2
}
