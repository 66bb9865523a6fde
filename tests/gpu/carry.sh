#!/bin/bash
# tests/gpu/carry.sh BUILD TAR - packs what gpu-check runs, and the libraries that it needs, for a GPU machine that lacks them.
#
# Into TAR (.tar.xz): the program, the tests of the CUDA back end, and as of Debian's packages here Open MPI with its plugins,
# hwloc, libjpeg-turbo, oneDNN and all that these need.  They find each other by their own paths (patchelf), so no other program
# there meets them.  Not the C and C++ libraries, whose versions there must not be older, and nothing of CUDA, cuDNN or NCCL:
# tests/gpu/carried.sh finds those that PyTorch brought.  gnuplot is not carried: what gpu-check makes are tables.
set -eu
build=$1
tar=$2
command -v patchelf > /dev/null || { echo "gpu-carry: wants patchelf (Debian: apt-get install patchelf)" >&2; exit 2; }
work=$(mktemp -d "${TMPDIR:-/tmp}/sfscale-carry-XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/build/gpu" "$work/lib" "$work/mpi/bin"

cp "$build/sfscale" "$build"/libsfscale-*.so "$work/build/"
cp "$build"/gpu/test_cuda_* "$work/build/gpu/"
strip -g "$work"/build/sfscale "$work"/build/*.so "$work"/build/gpu/*

# Open MPI under one prefix, as OPAL_PREFIX and its siblings will name it.
path_of() { ompi_info --parsable --path "$1" | cut -d: -f3; }
cp -L "$(path_of bindir)/mpirun" "$(path_of bindir)/orted" "$work/mpi/bin/"
cp -rL "$(path_of pkglibdir)" "$work/mpi/plugins"
cp -rL "$(path_of pkgdatadir)" "$work/mpi/share"
cp -rL "$(path_of sysconfdir)" "$work/mpi/etc"

# Everything that these are linked with, by its name, except what belongs to the system or to CUDA.
find "$work/build" "$work/mpi/bin" "$work/mpi/plugins" -type f -print0 | xargs -0 ldd 2> /dev/null |
	awk '$2 == "=>" && $3 ~ /^\// { print $1, $3 }' | sort -u |
	grep -vE '^(libc|libm|libdl|librt|libpthread|libresolv|libutil|libstdc\+\+|libgcc_s|ld-linux[^ ]*|libcu[^ ]*|libnccl)\.so' |
	while read -r name file; do cp -L "$file" "$work/lib/$name"; done
find "$work" -type f \( -perm -u+x -o -name '*.so*' \) | while read -r file; do
	folder=$(realpath --relative-to="$(dirname "$file")" "$work/lib")
	patchelf --force-rpath --set-rpath "\$ORIGIN/$folder" "$file" 2> /dev/null || true	# a script
done

tar -C "$work" -cJf "$tar" build lib mpi
ls -l "$tar" | awk '{ printf "%s: %.1f MiB\n", $NF, $5 / 1048576 }'
