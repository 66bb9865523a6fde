#!/usr/bin/env python3
"""What check.sh reads from JSON.

    rows.py losses A B SHARE    mean losses of the epochs of two run folders; exit 1 when B is further from A than SHARE of it
    rows.py speed FOLDER NAME OPTIONS   a row of speeds.csv from a run folder with its report
    rows.py peer FILE           rows of speeds.csv from the lines of slowfast_torch.py
"""
import json
import os
import sys


def run(folder):
    with open(os.path.join(folder, "run.json")) as f:
        return json.load(f)


def losses(a, b, share):
    want, got = ([e["loss"] for e in run(folder)["results"]["epochs"]] for folder in (a, b))
    far = max(abs(g - w) / abs(w) for g, w in zip(got, want)) if len(got) == len(want) and want else float("inf")
    print(f"furthest epoch: {100 * far:.3f} % apart; " + " ".join(f"{w:.5f}/{g:.5f}" for w, g in zip(want, got)))
    return not far <= float(share)


def steady(folder):
    with open(os.path.join(folder, "report", "summary.json")) as f:
        rows = json.load(f)["tables"]["breakdown"]["rows"]
    return next(row for row in rows if row["scope"] == "steady")


def speed(folder, name, options):
    """Idle: the device has nothing to do, for whatever its host does meanwhile."""
    r, s = run(folder), steady(folder)
    ms, clips = s["iteration_ms"], int(r["options"]["clips"])
    idle = 100 * (s["loader_ms"] + s["launch_ms"] + s["other_ms"] + s["unattributed_ms"]) / ms
    gib = r["step"]["device_bytes"] / 2**30
    note = f"sfscale: null loader and null comm{' ' + options if options else ''}; a stamp {r['event_cost']['stamp_ns']:.0f} ns"
    print(f"{name},{r['step']['precision']},{clips},{ms:.3f},{ms / clips:.3f},{idle:.2f},{gib:.2f},{note}")
    return 0


def peer(path):
    for line in open(path):
        r = json.loads(line)
        gib = f"{r['peak_gib']:.2f}" if r["peak_gib"] else ""
        print(f"r50,{r['precision']},{r['clips']},{r['median_ms']:.3f},{r['ms_per_clip']:.3f},,{gib},PyTorch {r['torch']} {r['mode']}")
    return 0


if __name__ == "__main__":
    sys.exit({"losses": losses, "speed": speed, "peer": peer}[sys.argv[1]](*sys.argv[2:]))
