#!/bin/bash
# tests/gpu/carried.sh TAR [OUT] - gpu-check with what tests/gpu/carry.sh packed, on a machine with a GPU and PyTorch.
#
# CUDA's runtime, cuDNN and NCCL are those of the python3 on the path.  The rest is tests/gpu/check.sh's: tables, OUT, exit status.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
at=$(mktemp -d "${TMPDIR:-/tmp}/sfscale-carried-XXXXXX")
trap 'rm -rf "$at"' EXIT
tar -C "$at" -xJf "$1"

# Folders of shared libraries in the packages beside torch.
cuda=$("${PYTHON:-python3}" -c '
import glob, os, sys, sysconfig
root = os.path.join(sysconfig.get_paths()["purelib"], "nvidia")
print(":".join(sorted({os.path.dirname(f) for f in glob.glob(root + "/*/lib/lib*.so*")})))')
export LD_LIBRARY_PATH="$cuda${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export PATH="$at/mpi/bin:$PATH" OPAL_PREFIX="$at/mpi" OPAL_BINDIR="$at/mpi/bin" OPAL_LIBDIR="$at/lib" \
	OPAL_PKGLIBDIR="$at/mpi/plugins" OPAL_PKGDATADIR="$at/mpi/share" OPAL_SYSCONFDIR="$at/mpi/etc"
"$here/check.sh" "$at/build" ${2:+"$2"}
