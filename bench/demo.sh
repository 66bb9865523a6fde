#!/bin/sh
# bench/demo.sh PROGRAM OUT - the main job on one machine: a data set of JPEG files, the training step over
# 1, 2 and 4 emulated nodes with two loader policies, a report.  A second call finds all runs done and makes the
# report again; `rm -r OUT` starts afresh.
set -e
program=$1
out=$2
# A kill leaves an unfinished data set under another name.
[ -d "$out/data" ] || { rm -rf "$out"/data.tmp-*; "$program" data make "$out/data" --videos 4 --seconds 10; }
# One compute thread per node: nodes are alike as long as there are cores for them.  Bucket limits shrink with the
# network, so that there are as many buckets as for the full one.
"$program" sweep --out "$out/sweep" --nodes 1,2,4 --over policy=respawn,threads --over workers=1,2,4 --repeat 3 -- \
	--data "$out/data" --net tiny --clips 1 --threads 1 --epochs 3 --lr 0.02 --lr-clips 0 --warmup-epochs 0 \
	--bucket-bytes 1600K --first-bucket-bytes 64K --log-period 0
"$program" report "$out/sweep" --out "$out/report" > "$out/report.log" || { cat "$out/report.log"; exit 1; }
sed -n '1,/^$/p;/^- /p' "$out/report.log"
echo "$out/report/index.html"
