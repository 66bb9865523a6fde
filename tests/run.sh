#!/bin/sh
# tests/run.sh BUILD - runs every test program, all of them even when one fails, and counts.
#
# cmocka says "RUN" before each test and a verdict behind it, and lists the failed ones once more at the end; a skipped
# one says why on a line "SKIP: why".  Only names that were run are counted, and once.  A program that leaves a test
# without verdict, whose group could not be set up or taken down, or that fails without a failed test, took its count
# with it: it is one failure more.
build=$1
log=$build/tests/log
mkdir -p "$log"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export SFSCALE_BUILD="$build" CMOCKA_MESSAGE_OUTPUT=stdout
passed=0 failed=0 skipped=0
broken=
for test in "$build"/tests/test_*; do
	case $test in *.o|*.d) continue ;; esac
	name=$(basename "$test")
	"$test" >"$log/$name" 2>&1
	rc=$?
	cat "$log/$name"
	set -- $(awk '
		/^\[ RUN      \] / { ran[substr($0, 14)] = 1 }
		/^\[       OK \] / { passed[substr($0, 14)] = 1 }
		/^\[  SKIPPED \] / { skipped[substr($0, 14)] = 1 }
		/^\[  (FAILED |ERROR  ) \] / { failed[substr($0, 14)] = 1 }
		/^\[  FAILED  \] GROUP / { none++ }
		END {
			for (t in ran)
				if (t in failed) f++
				else if (t in skipped) s++
				else if (t in passed) p++
				else none++
			print p + 0, f + 0, s + 0, none + 0
		}' "$log/$name")
	passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
	if [ "$4" != 0 ] || { [ $rc != 0 ] && [ "$2" = 0 ]; }; then
		broken="$broken $name($rc)"
		failed=$((failed + 1))
	fi
done
for b in $broken; do
	echo "$b took its count with it"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
