"""SlowFast for AVA, with torch alone: written from the published configuration (SLOWFAST_32x2_R50_SHORT.yaml),
names as PySlowFast registers them.  `width` is 64 for R50; every channel count scales with it.
"""
import math

import torch
from torch import nn
from torch.nn import functional as F

ALPHA, BETA_INV, CLASSES, ROI_OUT, ROI_STRIDE = 4, 8, 80, 7, 16
#        name  blocks  temporal kernel (slow, fast)  stride  dilation
STAGES = [("s2", 3, (1, 3), 1, 1), ("s3", 4, (1, 3), 2, 1), ("s4", 6, (3, 3), 2, 1), ("s5", 3, (3, 3), 1, 2)]


def conv(cin, cout, kernel, stride=(1, 1, 1), padding=(0, 0, 0), dilation=(1, 1, 1)):
    return nn.Conv3d(cin, cout, kernel, stride, padding, dilation, bias=False)


def norm(channels):
    return nn.BatchNorm3d(channels, eps=1e-5, momentum=0.1)


class Stem(nn.Module):
    def __init__(self, cout, frames):
        super().__init__()
        self.conv = conv(3, cout, (frames, 7, 7), (1, 2, 2), (frames // 2, 3, 3))
        self.bn = norm(cout)

    def forward(self, x):
        return F.max_pool3d(F.relu(self.bn(self.conv(x))), (1, 3, 3), (1, 2, 2), (0, 1, 1))


class Fuse(nn.Module):
    def __init__(self, cin):
        super().__init__()
        self.conv_f2s = conv(cin, 2 * cin, (7, 1, 1), (ALPHA, 1, 1), (3, 0, 0))
        self.bn = norm(2 * cin)

    def forward(self, slow, fast):
        return torch.cat([slow, F.relu(self.bn(self.conv_f2s(fast)))], 1), fast


class Branch2(nn.Module):
    def __init__(self, cin, inner, cout, frames, stride, dilation):
        super().__init__()
        self.a = conv(cin, inner, (frames, 1, 1), padding=(frames // 2, 0, 0))
        self.a_bn = norm(inner)
        self.b = conv(inner, inner, (1, 3, 3), (1, stride, stride), (0, dilation, dilation), (1, dilation, dilation))
        self.b_bn = norm(inner)
        self.c = conv(inner, cout, (1, 1, 1))
        self.c_bn = norm(cout)

    def forward(self, x):
        x = F.relu(self.a_bn(self.a(x)))
        x = F.relu(self.b_bn(self.b(x)))
        return self.c_bn(self.c(x))


class Block(nn.Module):
    def __init__(self, cin, inner, cout, frames, stride, dilation, first):
        super().__init__()
        self.first = first
        if first:
            self.branch1 = conv(cin, cout, (1, 1, 1), (1, stride, stride))
            self.branch1_bn = norm(cout)
        self.branch2 = Branch2(cin, inner, cout, frames, stride, dilation)

    def forward(self, x):
        return F.relu((self.branch1_bn(self.branch1(x)) if self.first else x) + self.branch2(x))


class Stage(nn.Module):
    def __init__(self, cin, inner, blocks, frames, stride, dilation):
        super().__init__()
        self.blocks = blocks
        for p in range(2):
            for i in range(blocks):
                self.add_module(f"pathway{p}_res{i}",
                                Block(4 * inner[p] if i else cin[p], inner[p], 4 * inner[p], frames[p],
                                      1 if i else stride, dilation, i == 0))

    def forward(self, *x):
        x = list(x)
        for p in range(2):
            for i in range(self.blocks):
                x[p] = getattr(self, f"pathway{p}_res{i}")(x[p])
        return x


def interpolation(low, high, length, like):
    """(7, length): how much each pixel of a row of the map adds to each bin of a box side from `low` to `high` (pixels of
    the crop).  ROIAlign, aligned, as many samples as a bin has pixels: it is the product of one such matrix per direction.
    """
    low, high = low / ROI_STRIDE - 0.5, high / ROI_STRIDE - 0.5
    side = (high - low) / ROI_OUT
    samples = max(math.ceil(side), 0)
    m = torch.zeros(ROI_OUT, length, dtype=like.dtype)
    for i in range(ROI_OUT):
        for s in range(samples):
            at = low + (i + (s + 0.5) / samples) * side
            if at < -1 or at > length:
                continue
            at = min(max(at, 0.0), length - 1.0)
            pixel = min(int(at), length - 2)
            m[i, pixel] += (1 - (at - pixel)) / samples
            m[i, pixel + 1] += (at - pixel) / samples
    return m


def roi_align(maps, boxes):
    """(N,C,H,W) and (R,5) to (R,C,7,7)."""
    h, w = maps.shape[2:]
    return torch.stack([interpolation(b[2], b[4], h, maps) @ maps[int(b[0])] @ interpolation(b[1], b[3], w, maps).T
                        for b in boxes.double().tolist()])


class Head(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.projection = nn.Linear(features, CLASSES)

    def forward(self, slow, fast, boxes):
        features = [F.max_pool2d(roi_align(x.mean(2), boxes), ROI_OUT).flatten(1) for x in (slow, fast)]
        return torch.sigmoid(self.projection(torch.cat(features, 1)))


class SlowFast(nn.Module):
    def __init__(self, width):
        super().__init__()
        fast = width // BETA_INV
        self.s1 = nn.Module()
        self.s1.pathway0_stem = Stem(width, 1)
        self.s1.pathway1_stem = Stem(fast, 5)
        self.s1_fuse = Fuse(fast)
        channels = [width + 2 * fast, fast]
        for k, (name, blocks, frames, stride, dilation) in enumerate(STAGES):
            inner = [width << k, fast << k]
            self.add_module(name, Stage(channels, inner, blocks, frames, stride, dilation))
            channels = [4 * inner[0], 4 * inner[1]]
            if name != "s5":
                self.add_module(name + "_fuse", Fuse(channels[1]))
                channels[0] += 2 * channels[1]
        self.head = Head(sum(channels))

    def forward(self, slow, fast, boxes):
        x = self.s1_fuse(self.s1.pathway0_stem(slow), self.s1.pathway1_stem(fast))
        for name, *_ in STAGES[:-1]:
            x = getattr(self, name + "_fuse")(*getattr(self, name)(*x))
        return self.head(*self.s5(*x), boxes)
