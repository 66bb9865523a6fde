#!/bin/sh
# bench/study.sh PROGRAM OUT - the study's table of workers against stall and ten iterations, at a hundredth of its times.
#
# The study saw 90 s for ten iterations without workers.  Here a batch is a clip of 8 files, and each of them takes 10.4 ms longer
# to come than it does (emulated storage), so that an iteration without workers takes 90 ms, of which nearly all is waiting: eight
# workers find room on two cores.  A worker takes 120 ms to start (emulated: an interpreter and its imports), where the study's
# took 12.5 to 13.8 s.  The step takes 4 ms (emulated compute).  What is measured: processes, the index that each of them gets,
# decoding, the ring, and that one is started after another.
#
# The same with threads that are kept over epochs shows what the cure brings.  A second call goes on where the first was stopped.
set -e
program=$1
out=$2
[ -d "$out/data" ] || { rm -rf "$out"/data.tmp-*; "$program" data make "$out/data" --videos 8 --seconds 13; }
"$program" sweep --out "$out/sweep" --over policy=respawn,threads --over workers=0,4,6,8 --repeat 3 -- \
	--data "$out/data" --net nano --clips 1 --crop 64 --epochs 3 --iterations 100 --log-period 0 \
	--kernels null --emulate-kernels forward=const:4 --emulate-storage-ms 10.4 --emulate-start-ms 120
"$program" report "$out/sweep" --out "$out/report" > "$out/report.log" || { cat "$out/report.log"; exit 1; }
sed -n '1,/^$/p;/^- /p' "$out/report.log"
echo "$out/report/study.svg"
