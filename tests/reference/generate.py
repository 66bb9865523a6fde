"""The weights and the batch of a check, out of nothing: value i of tensor NAME is a hash of both.

tests/reference/generate.h is the same in C, to the last bit: only integers, and products and sums
that double holds exactly before the one rounding to float.
"""
import numpy as np


def fnv1a(text):
    h = 0xcbf29ce484222325
    for byte in text.encode():
        h = (h ^ byte) * 0x100000001b3 % 2**64
    return h


def words(name, count):
    """splitmix64 (Steele, Lea and Flood 2014), seeded with the name."""
    z = np.uint64(fnv1a(name)) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9e3779b97f4a7c15)
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xbf58476d1ce4e5b9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94d049bb133111eb)
    return z ^ z >> np.uint64(31)


def units(name, count):
    """In (-1, 1), odd multiples of 2^-24, as double."""
    return ((words(name, count) >> np.uint64(40)).astype(np.int64) * 2 + 1 - 2**24) * 2.0**-24


def values(name, shape, middle, spread):
    return (middle + spread * units(name, int(np.prod(shape)))).astype(np.float32).reshape(shape)


# The first ending that fits tells middle and spread.  No gamma is zero, so that every branch counts.  Beta lifts what
# ReLU sees by some 2.5 deviations: one value in a hundred is cut off, enough to tell a wrong ReLU by a tenth, and those
# within rounding of zero, where two programs decide differently and all gradients before notice, are a twentieth of what
# the middle of a bell would have.  Without lift two correct programs are tenths apart after three steps.
RULES = [
    ("stem.bn.bias", -1, 0.25),     # behind it the largest of nine counts
    ("branch2.c_bn.weight", 0.25, 0.125),
    ("branch2.c_bn.bias", 0.5, 0.25),
    ("head.projection.weight", 0, 0.02),
    ("head.projection.bias", 0, 0.5),
    ("conv.weight", 0, None),       # None: sqrt(6 / (Cin kT kH kW)), variance 2 / fan_in
    ("conv_f2s.weight", 0, None),
    ("branch1.weight", 0, None),
    ("branch2.a.weight", 0, None),
    ("branch2.b.weight", 0, None),
    ("branch2.c.weight", 0, None),
    ("running_mean", 0, 0.25),
    ("running_var", 1, 0.5),
    (".weight", 1, 0.25),
    (".bias", 2.5, 0.25),
]


def state_tensor(name, shape):
    if name.endswith("num_batches_tracked"):
        return np.array(3, dtype=np.int64)
    middle, spread = next((m, s) for end, m, s in RULES if name.endswith(end))
    return values(name, shape, middle, np.sqrt(6.0 / np.prod(shape[1:])) if spread is None else spread)


def batch(clips, boxes, frames, crop):
    """Boxes lie in order of their clips; the last one is a line on the right border, without area."""
    unit = (1 + units("boxes", 4 * boxes).reshape(boxes, 4)) / 2
    rois = np.zeros((boxes, 5))
    rois[:, 0] = np.arange(boxes) * clips // boxes
    rois[:, 1:3] = unit[:, :2] * (crop / 2)
    rois[:, 3:5] = rois[:, 1:3] + unit[:, 2:] * (crop / 2)
    rois[-1, 1] = rois[-1, 3] = crop - 1
    return {
        "slow": values("slow", (clips, 3, frames // 4, crop, crop), 0, 2),
        "fast": values("fast", (clips, 3, frames, crop, crop), 0, 2),
        "boxes": rois.astype(np.float32),
        "labels": (units("labels", boxes * 80) > 0.75).astype(np.float32).reshape(boxes, 80),
    }
