#!/usr/bin/env python3
"""tests/peers/dataloader.py DATA - the same files through PyTorch's DataLoader, with OpenCV doing the same transform.

Development only.  Prints clips/s from an epoch's first batch on, and the boundary (from an epoch's begin to its first batch),
for persistent workers off and on: to be set beside `sfscale loader --data DATA` with the same clips, frames, crop and workers.
"""
import argparse
import glob
import json
import os
import time

import cv2
import numpy as np
import torch


class Clips(torch.utils.data.Dataset):
    def __init__(self, data, frames, crop):
        self.videos = [sorted(glob.glob(os.path.join(v, "*.jpg"))) for v in sorted(glob.glob(os.path.join(data, "frames", "*")))]
        self.keys = [(v, c) for v, files in enumerate(self.videos) for c in range(60, len(files) - 60, 30)]
        self.frames, self.crop = frames, crop
        cv2.setNumThreads(0)

    def __len__(self):
        return len(self.keys)

    def __getitem__(self, i):
        video, centre = self.keys[i]
        files = self.videos[video]
        at = np.clip(np.arange(self.frames) * 2 + centre - self.frames, 0, len(files) - 1)
        images = [cv2.imread(files[a]) for a in at]
        height, width = images[0].shape[:2]
        rng = np.random.default_rng(i)
        side = round(1 / rng.uniform(1 / (self.crop * 320 / 224), 1 / (self.crop * 256 / 224)))
        wide, high = (side, height * side // width) if width < height else (width * side // height, side)
        y, x, flip = rng.integers(0, max(1, high - self.crop)), rng.integers(0, max(1, wide - self.crop)), rng.random() < 0.5
        out = []
        for image in images:
            image = cv2.resize(image, (wide, high), interpolation=cv2.INTER_LINEAR)[y:y + self.crop, x:x + self.crop]
            out.append(image[:, ::-1] if flip else image)
        clip = torch.from_numpy(np.ascontiguousarray(np.stack(out)[..., ::-1])).float().div_(255).sub_(0.45).div_(0.225)
        fast = clip.permute(3, 0, 1, 2).contiguous()
        slow = fast[:, torch.linspace(0, self.frames - 1, self.frames // 4).long()]
        return slow, fast


def measure(loader, epochs):
    rates, boundaries = [], []
    for _ in range(epochs):
        begin, first, clips = time.perf_counter(), None, 0
        for _, fast in loader:
            if first is None:
                first = time.perf_counter()
            else:
                clips += len(fast)
        boundaries.append(first - begin)
        rates.append(clips / (time.perf_counter() - first) if clips else float("nan"))
    return float(np.median(rates)), float(np.median(boundaries[1:] or boundaries))


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("data")
    p.add_argument("--workers", default="0,1,2,4")
    p.add_argument("--clips", type=int, default=1)
    p.add_argument("--frames", type=int, default=32)
    p.add_argument("--crop", type=int, default=224)
    p.add_argument("--epochs", type=int, default=3)
    o = p.parse_args()
    data = Clips(o.data, o.frames, o.crop)
    print(json.dumps({"torch": torch.__version__, "opencv": cv2.__version__, "cores": len(os.sched_getaffinity(0))}))
    for workers in map(int, o.workers.split(",")):
        for persistent in (False, True) if workers else (False,):
            loader = torch.utils.data.DataLoader(data, batch_size=o.clips, shuffle=True, num_workers=workers, drop_last=True,
                                                 persistent_workers=persistent)
            rate, boundary = measure(loader, o.epochs)
            print(f"{workers} workers{', persistent' if persistent else ''}: {rate:.1f} clips/s, boundary {boundary:.3f} s", flush=True)


if __name__ == "__main__":
    main()
