#!/bin/sh
# bench/study.sh PROGRAM OUT - the study's table of workers against stall and ten iterations, at a hundredth of its times.
#
# The study saw 90 s for ten iterations without workers: 9 s for the batch of a rank, 32 files for each of 8 clips.  Here a
# batch is one clip of 32 files, and each file takes 2.8 ms longer to come than it does (emulated storage): 90 ms, of which nearly
# all is waiting, so that eight workers find room on two cores.  A worker takes 130 ms to start (emulated: an interpreter
# and its imports), where the study's took 12.5 to 13.8 s.  The step takes 8 ms (emulated compute).  What is measured: processes,
# the index that each of them gets, decoding, the ring, and that one is started after another.
#
# The same with threads that are kept over epochs shows what the cure brings.  A second call goes on where the first was stopped.
set -e
program=$1
out=$2
[ -d "$out/data" ] || { rm -rf "$out"/data.tmp-*; "$program" data make "$out/data" --videos 4 --seconds 12; }
"$program" sweep --out "$out/sweep" --over policy=respawn,threads --over workers=0,4,6,8 --repeat 3 -- \
	--data "$out/data" --net nano --clips 1 --crop 64 --epochs 4 --iterations 40 --log-period 0 \
	--kernels null --emulate-kernels forward=const:8 --emulate-storage-ms 2.8 --emulate-start-ms 130
"$program" report "$out/sweep" --out "$out/report" > "$out/report.log" || { cat "$out/report.log"; exit 1; }
sed -n '1,/^$/p;/^- /p' "$out/report.log"
echo "$out/report/study.svg"
