#!/bin/sh
# tests/run.sh BUILD - runs every test program, all of them even when one fails, and counts.
# cmocka prints a line per test; a skipped one says why on a line "SKIP: why".
build=$1
log=$build/tests/log
mkdir -p "$log"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export SFSCALE_BUILD="$build"
broken=
for test in "$build"/tests/test_*; do
	case $test in *.o|*.d) continue ;; esac
	name=$(basename "$test")
	"$test" >"$log/$name" 2>&1
	rc=$?
	cat "$log/$name"
	# A program that dies takes its count with it: that is a failure too.
	[ $rc = 0 ] || grep -q 'FAILED TEST\|\[  FAILED  \]' "$log/$name" || broken="$broken $name($rc)"
done
passed=$(cat "$log"/test_* | grep -c '^\[       OK \]')
failed=$(cat "$log"/test_* | grep -c '^\[  FAILED  \] [a-z_0-9A-Z]*$')
skipped=$(cat "$log"/test_* | grep -c '^\[  SKIPPED \] [a-z_0-9A-Z]*$')
for b in $broken; do
	echo "$b ended without a verdict"
	failed=$((failed + 1))
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
