/*
 * bench/base/folder.h - what a run folder and a sweep folder hold.
 *
 * The only meeting place of those who run and those who report: `run` and `sweep` write
 * these files, report/ reads them, importers will write them too.
 *
 * Run folder
 *   run.json          one object, below; written with status "running" before the first step
 *   rank-NNNNN.sfr    one record file per rank (bench/base/record.h)
 *   detections.csv, groundtruth.csv    of the latest validation, as `sfscale eval` reads them
 *   checkpoints/      weights and momentum behind an epoch (bench/checkpoint.h)
 *   log/              what the ranks and the launcher said, when a sweep started them
 *
 *   run.json: {
 *     "schema": 1, "status": "running"|"ok"|"failed", "reason": text or null,
 *     "id": text, of this run alone,
 *     "version", "build", "command": texts, "started": ISO 8601 in UTC,
 *     "options": { every option of `run` by name },
 *     "place": { "ranks", "nodes", "ranks_per_node", "hosts", "cores": numbers, "cpu", "memory_bytes",
 *                "text": one line that stands above every table, such as
 *                "2 emulated nodes, one host, 2 cores"; "bound_by": "sfscale", "launcher", "nobody"; "bound": one line },
 *     "libraries": { name: version },
 *     "step": { "parameters", "gradient_bytes", "macs_per_clip", "clips_per_rank", "iterations_per_epoch" (means),
 *               "epochs" (of this run), "first_epoch", "emulate_ranks" (that each process stands for; absent: 1): numbers,
 *               "resumed": checkpoint or null, "emulated": bool, "buckets": [{ "tensors", "bytes" }] },
 *     "event_cost": { "pair_ns", "next_ns" (of spans of the host); with a device "stamp_ns" (of its stream; a span has two),
 *                     "clock_bound_ns" (how wrong its clock may be on the host's) },
 *     "results": { "epochs": [{ "loss": mean of the epoch, "lr": at its end,
 *                               "checksum": hex of the order of samples over all ranks,
 *                               "mAP": of the validation behind it, null: no ground truth; absent: none,
 *                               "skipped_clips": damaged and replaced, over all ranks }] } or null,
 *     "warnings": [ texts ] }
 *
 *   Head of a record file: { "run": id of its run, "rank", "world", "node", "local_rank": numbers, "host", "boot_id", "pus" (it is bound to): texts, "pid",
 *   "libraries": as in run.json, of this rank; "device_bound_ns": how wrong its device's stamps may be on the host's clock, as far as
 *   was known then; the tail has what it came to (absent: no device) }
 *   and what the recorder adds.  Lane 0 is the training thread, lane 1 is of collectives.  Where the training thread only launches
 *   (CLS_LAUNCH, under the names of what it launches), what a device did lies on lane 1, on lane 2 (it computes) and on
 *   lane 3 (copies), each in order and with the iteration it belongs to, and may come later in the file.  Sync points, taken before the first and
 *   after the last event and at each epoch between, map its times to the clock of rank 0's node:
 *   sync_init(&s, rec.syncs, rec.sync_count), bench/base/sync.h.
 *
 * The time of a run, on the training thread: SPAN_EPOCH_BEGIN opens the *boundary window* of its
 * epoch, or SPAN_CKPT or SPAN_EVAL in front of it (or of the end); the first SPAN_LOAD of an iteration opens the
 * window of that one, and the mark SPAN_RUN_END ends the last one.  Windows touch; together they
 * are the whole time from the first SPAN_EPOCH_BEGIN to SPAN_RUN_END.  Spans of a window carry its iteration, counted over all epochs.
 *
 * Sweep folder
 *   ledger.jsonl      append only; the newest line of a key counts
 *   runs/KEY/         the run folder of a point
 *
 *   a line: {
 *     "schema": 1, "key": 16 hex digits, "point": { "nodes": number, option: text as swept, ... },
 *     "repeat": number from 0, "status": "ok"|"failed", "reason": text or null, "exit": number,
 *     "wall_s": number (launcher included; 0: not known), "folder": "runs/KEY", "version", "launcher": texts,
 *     "finished": ISO 8601 in UTC }
 */
#ifndef SFSCALE_BASE_FOLDER_H
#define SFSCALE_BASE_FOLDER_H

enum { FOLDER_SCHEMA = 1 };

#define FOLDER_RUN "run.json"
#define FOLDER_RECORD "rank-%05zu.sfr"
#define FOLDER_DETECTIONS "detections.csv"
#define FOLDER_TRUTH "groundtruth.csv"
#define FOLDER_LEDGER "ledger.jsonl"

#endif
