"""What PyTorch makes of a few steps of a net: the reference of `sfscale verify` and of tests/test_verify.c.

    reference.py nano                       writes nano.safetensors beside this file
    reference.py nano --full DIR            writes state, batch and every tensor of the result, for
                                            sfscale verify --state DIR/state --batch DIR/batch --against DIR/result
    reference.py nano --dtype float32       says how far PyTorch's own single precision is from the file

A development tool: needs torch and numpy, which nothing else here does.  See README.md beside it.
"""
import argparse
import json
import os
import struct
import sys

import numpy as np
import torch
from torch.nn import functional as F

import generate
from model import SlowFast

#        width frames crop clips boxes steps
NETS = {
    "nano": (8, 8, 64, 2, 5, 3),
    "tiny": (16, 8, 64, 2, 5, 3),
    "r50": (64, 32, 224, 1, 3, 1),
}
LR, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 1e-2    # a decay that shows
SIGNS = 16


def save(path, tensors):
    """safetensors, values of 8 bytes first."""
    header, at = {}, 0
    order = sorted(tensors, key=lambda n: -tensors[n].itemsize)
    for name in order:
        t = tensors[name]
        header[name] = {"dtype": {"float32": "F32", "int64": "I64"}[t.dtype.name], "shape": list(t.shape),
                        "data_offsets": [at, at + t.nbytes]}
        at += t.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            f.write(np.ascontiguousarray(tensors[name]).tobytes())


def load(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    kinds = {"F32": np.float32, "I64": np.int64}
    return {n: np.frombuffer(data[slice(*t["data_offsets"])], kinds[t["dtype"]]).reshape(t["shape"])
            for n, t in header.items()}


def run(net, dtype):
    """Everything `sfscale verify --out` writes, as double, and what went in."""
    width, frames, crop, clips, boxes, steps = NETS[net]
    model = SlowFast(width).to(dtype)
    state = {n: generate.state_tensor(n, tuple(t.shape)) for n, t in model.state_dict().items()}
    model.load_state_dict({n: torch.from_numpy(t.copy()) for n, t in state.items()})
    batch = generate.batch(clips, boxes, frames, crop)
    slow, fast, labels = (torch.from_numpy(batch[k]).to(dtype) for k in ("slow", "fast", "labels"))
    rois = torch.from_numpy(batch["boxes"])
    is_norm = [isinstance(m, torch.nn.BatchNorm3d) for m in model.modules() for _ in m.parameters(recurse=False)]
    groups = [[p for p, n in zip(model.parameters(), is_norm) if n == want] for want in (True, False)]
    sgd = torch.optim.SGD([{"params": groups[0], "weight_decay": 0}, {"params": groups[1]}], lr=LR, momentum=MOMENTUM,
                          weight_decay=WEIGHT_DECAY, nesterov=True)
    losses, preds = [], []
    model.train()
    for _ in range(steps):
        p = model(slow, fast, rois)
        loss = F.binary_cross_entropy(p, labels)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        losses.append(loss.item())
        preds.append(p.detach().double().numpy())
    out = {n: t.double().numpy() if t.is_floating_point() else t.numpy() for n, t in model.state_dict().items()}
    for n, p in model.named_parameters():
        out["grad." + n] = p.grad.double().numpy()
        out["momentum." + n] = sgd.state[p]["momentum_buffer"].double().numpy()
    out["loss"], out["preds"] = np.array(losses), np.stack(preds)
    return state, batch, out


def digest_of(name, x):
    """The norm, and 16 sums of all values under signs that a hash of the name draws."""
    x = x.astype(np.float64).ravel()
    row = [np.linalg.norm(x)] + [0.0] * SIGNS
    piece = 1 << 22
    bits = generate.words("signs." + name, x.size)
    for at in range(0, x.size, piece):
        for k in range(SIGNS):
            sign = 1.0 - 2.0 * (bits[at:at + piece] >> np.uint64(k) & np.uint64(1)).astype(np.float64)
            row[k + 1] += float(sign @ x[at:at + piece])
    return row


def digests(state, out):
    params = [n[5:] for n in out if n.startswith("grad.")]
    norms = [n[:-len(".running_mean")] for n in out if n.endswith(".running_mean")]
    rows = {
        "grad": [digest_of("grad." + n, out["grad." + n]) for n in params],
        "momentum": [digest_of("momentum." + n, out["momentum." + n]) for n in params],
        "change": [digest_of("change." + n, out[n] - state[n]) for n in params],
        "running_mean": [digest_of(n + ".running_mean", out[n + ".running_mean"]) for n in norms],
        "running_var": [digest_of(n + ".running_var", out[n + ".running_var"]) for n in norms],
        "loss": out["loss"], "preds": out["preds"],
    }
    return {k: np.array(v, dtype=np.float32) for k, v in rows.items()}


def compare(got, want):
    """The largest distance of each kind, relative to the norm; and of all."""
    worst = 0.0
    for kind in got:
        a, b = got[kind].astype(np.float64), want[kind].astype(np.float64)
        if kind in ("loss", "preds"):
            print(f"{kind:13} largest difference {np.abs(a - b).max():.3g}")
            worst = max(worst, np.abs(a - b).max())
            continue
        far = np.sqrt(((a - b)[:, 1:] ** 2).mean(1)) / b[:, 0]
        print(f"{kind:13} largest relative distance {far.max():.3g}, of tensor {far.argmax()}; median {np.median(far):.3g}")
        worst = max(worst, far.max())
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", choices=NETS)
    parser.add_argument("--full", metavar="DIR")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float64")
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    args = parser.parse_args()
    state, batch, out = run(args.net, getattr(torch, args.dtype))
    own = os.path.join(os.path.dirname(os.path.abspath(__file__)), args.net + ".safetensors")
    print(f"{args.net}: torch {torch.__version__}, numpy {np.__version__}, python {sys.version.split()[0]}, {args.dtype}: "
          f"losses {', '.join('%.9f' % x for x in out['loss'])}")
    if args.full:
        os.makedirs(args.full, exist_ok=True)
        save(os.path.join(args.full, "state"), state)
        save(os.path.join(args.full, "batch"), batch)
        save(os.path.join(args.full, "result"),
             {n: t if t.dtype == np.int64 else t.astype(np.float32) for n, t in out.items()})
    elif args.check or args.dtype == "float32":
        worst = compare(digests(state, out), load(own))
        if args.check and not worst <= 1e-6:
            sys.exit(f"{own} is not what comes out here")
    else:
        save(own, digests(state, out))


if __name__ == "__main__":
    main()
