#!/usr/bin/env python3
"""tests/peers/slowfast_torch.py - the training step of SlowFast in PyTorch, to be set beside `sfscale run --kernels cuda`.

Development only.  The net is that of tests/reference/model.py, the boxes by torchvision's ROIAlign; inputs are resident, weights
fp32 with autocast to bf16, channels_last_3d, cudnn.benchmark, SGD with momentum and Nesterov over all parameters (foreach).
Prints one line of JSON per mode: eager and compiled, median milliseconds of a step over --steps behind --warmup, and peak memory.
"""
import argparse
import json
import os
import statistics
import sys
import time

import torch
from torch.nn import functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "reference"))
import model as reference  # noqa: E402

BOXES_PER_CLIP = 3


def use_torchvision():
    try:
        from torchvision.ops import roi_align
    except ImportError:
        return "reference"
    reference.roi_align = lambda maps, boxes: roi_align(maps.float(), boxes, reference.ROI_OUT, 1 / reference.ROI_STRIDE, -1, True)
    return "torchvision"


def batch(clips, frames, crop, device):
    slow = torch.randn(clips, 3, frames // reference.ALPHA, crop, crop, device=device)
    fast = torch.randn(clips, 3, frames, crop, crop, device=device)
    corner = torch.rand(clips * BOXES_PER_CLIP, 2, device=device) * crop / 2
    clip = torch.arange(clips, device=device).repeat_interleave(BOXES_PER_CLIP)[:, None].float()
    boxes = torch.cat([clip, corner, corner + crop / 2], 1)
    labels = (torch.rand(len(boxes), reference.CLASSES, device=device) < 0.05).float()
    slow, fast = (x.contiguous(memory_format=torch.channels_last_3d) for x in (slow, fast))
    return slow, fast, boxes, labels


def measure(step, warmup, steps, device):
    times = []
    for i in range(warmup + steps):
        begin = time.perf_counter()
        if device == "cuda":
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
        step()
        if device == "cuda":
            last.record()
            last.synchronize()
        if i >= warmup:
            times.append(first.elapsed_time(last) if device == "cuda" else 1e3 * (time.perf_counter() - begin))
    return times


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--width", type=int, default=64)
    p.add_argument("--frames", type=int, default=32)
    p.add_argument("--crop", type=int, default=224)
    p.add_argument("--clips", type=int, default=8)
    p.add_argument("--steps", type=int, default=30)
    p.add_argument("--warmup", type=int, default=10)
    p.add_argument("--precision", default="bf16", choices=["bf16", "tf32", "fp32"])
    p.add_argument("--modes", default="eager,compile")
    p.add_argument("--device", default="cuda")
    o = p.parse_args()
    torch.manual_seed(1)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = o.precision == "tf32"
    align = use_torchvision()
    slow, fast, boxes, labels = batch(o.clips, o.frames, o.crop, o.device)
    for mode in o.modes.split(","):
        net = reference.SlowFast(o.width).to(o.device).to(memory_format=torch.channels_last_3d).train()
        forward = torch.compile(net) if mode == "compile" else net
        sgd = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-7, nesterov=True, foreach=True)

        def step():
            sgd.zero_grad(set_to_none=True)
            with torch.autocast(o.device, torch.bfloat16, enabled=o.precision == "bf16"):
                preds = forward(slow, fast, boxes)
            loss = F.binary_cross_entropy(preds.float(), labels)
            loss.backward()
            sgd.step()

        if o.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        times = measure(step, o.warmup, o.steps, o.device)
        print(json.dumps({
            "mode": mode, "precision": o.precision, "width": o.width, "frames": o.frames, "crop": o.crop, "clips": o.clips,
            "steps": len(times), "median_ms": statistics.median(times), "min_ms": min(times), "max_ms": max(times),
            "ms_per_clip": statistics.median(times) / o.clips, "roi_align": align,
            "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if o.device == "cuda" else None,
            "torch": torch.__version__, "cudnn": torch.backends.cudnn.version(),
            "device": torch.cuda.get_device_name() if o.device == "cuda" else "cpu"}), flush=True)


if __name__ == "__main__":
    main()
