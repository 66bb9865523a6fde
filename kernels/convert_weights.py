#!/usr/bin/env python3
"""PySlowFast's weights in and out of safetensors.

    convert_weights.py FROM TO

What a file is, its name tells: .safetensors; .pkl is Caffe2's (the model zoo's); .pyth is PySlowFast's own checkpoint.
One of the two is .safetensors.  Needs numpy, and torch for .pyth alone; sfscale itself needs none of them.

From a checkpoint come the 662 tensors of the model under their own names, momentum as "momentum.NAME", epoch and
configuration as metadata; and they go back into one that PySlowFast resumes from.  A .pkl has weights and running
statistics; what it counts batches with, nobody reads, so counters start at 0.  The head of Kinetics (400 or 600 classes)
is taken as it is: `sfscale run --init FILE` says that its shape is another, and starts with a random one.
"""
import collections
import json
import os
import pickle
import re
import struct
import sys

import numpy as np

TYPES = {"F32": np.dtype("<f4"), "I64": np.dtype("<i8")}
COUNTER = ".num_batches_tracked"


def fail(text):
    sys.exit("convert_weights: " + text)


# ---- safetensors -----------------------------------------------------------------------------------------------------


def safetensors_read(path):
    """Tensors in the order of the file's data, and the metadata."""
    with open(path, "rb") as f:
        head = f.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 1 << 63
        text = f.read(length) if length <= 100_000_000 else b""
        if len(text) != length:
            fail(f"'{path}' is no safetensors file, or cut short")
        data = f.read()
    header = json.loads(text)
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, t in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        if t["dtype"] not in TYPES:
            fail(f"'{path}': tensor '{name}' is of type '{t['dtype']}'; F32 and I64 can be read")
        values = np.frombuffer(data[slice(*t["data_offsets"])], TYPES[t["dtype"]])
        if values.size != int(np.prod(t["shape"])):
            fail(f"'{path}': tensor '{name}' is cut short")
        tensors[name] = values.reshape(t["shape"])
    return tensors, metadata


def safetensors_write(path, tensors, metadata):
    header, at = {"__metadata__": metadata} if metadata else {}, 0
    order = sorted(tensors, key=lambda name: tensors[name].dtype.kind != "i")     # stable; values of 8 bytes first
    for name in order:
        values = tensors[name]
        kind = "I64" if values.dtype.kind == "i" else "F32"
        end = at + values.size * TYPES[kind].itemsize
        header[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            f.write(np.ascontiguousarray(tensors[name], TYPES[header[name]["dtype"]]).tobytes())


def parameters(tensors):
    """Names in the order of registration: that of the file."""
    return [n for n in tensors if not n.startswith(("momentum.", "grad.")) and n not in ("loss", "preds")
            and not n.endswith((".running_mean", ".running_var", COUNTER))]


def in_optimizer_order(tensors):
    """PySlowFast's two groups: batch norms, then the others."""
    names = parameters(tensors)
    norms = [n for n in names if n.rpartition(".")[0] + ".running_mean" in tensors]
    return norms, [n for n in names if n not in set(norms)]


# ---- Caffe2 ----------------------------------------------------------------------------------------------------------

ENDINGS = {"s": "weight", "b": "bias", "rm": "running_mean", "riv": "running_var"}
LAST_BLOCK = {"2": "2", "3": "3", "4": "5"}     # of a stage that is fused


def module_of(blob):
    """The module that the name of a blob, without its ending, means; None: none."""
    fast, name = (1, blob[2:]) if blob.startswith("t_") else (0, blob)
    if name == "conv1" or name == "res_conv1_bn":
        return f"s1.pathway{fast}_stem." + ("conv" if name == "conv1" else "bn")
    if fast and re.fullmatch(r"pool1_subsample(_bn)?", name):
        return "s1_fuse." + ("bn" if name.endswith("_bn") else "conv_f2s")
    m = re.fullmatch(r"res([234])_(\d)_branch2c_bn_subsample(_bn)?", name)
    if fast and m and LAST_BLOCK[m[1]] == m[2]:
        return f"s{m[1]}_fuse." + ("bn" if m[3] else "conv_f2s")
    m = re.fullmatch(r"res([2345])_(\d)_branch(1|2[abc])(_bn)?", name)
    if m:
        branch = "branch1" if m[3] == "1" else "branch2." + m[3][1]
        return f"s{m[1]}.pathway{fast}_res{m[2]}.{branch}" + (m[4] or "")
    return None


def name_of(blob):
    """PySlowFast's name of a Caffe2 blob; None: nothing of the model."""
    if blob in ("pred_w", "pred_b"):
        return "head.projection." + ("weight" if blob == "pred_w" else "bias")
    stem, _, ending = blob.rpartition("_")
    module = module_of(stem)
    if module is None:
        return None
    if module.endswith("bn"):
        return f"{module}.{ENDINGS[ending]}" if ending in ENDINGS else None
    return module + ".weight" if ending == "w" else None


def blob_of(name):
    """The inverse, for the names of a model."""
    if name.startswith("head.projection."):
        return "pred_w" if name.endswith("weight") else "pred_b"
    module, _, ending = name.rpartition(".")
    if module.endswith("bn"):
        ending = next(short for short, long in ENDINGS.items() if long == ending)
    else:
        ending = "w"
    m = re.fullmatch(r"s(\d)(?:\.pathway([01])_(?:stem|res(\d))|_fuse)\.(.+)", module)
    if not m:
        fail(f"tensor '{name}' has no name in Caffe2")
    stage, fast, block, part = m.groups()
    prefix = "" if fast == "0" else "t_"
    if fast is None:
        stem = "pool1" if stage == "1" else f"res{stage}_{LAST_BLOCK[stage]}_branch2c_bn"
        stem += "_subsample" + ("_bn" if part == "bn" else "")
    elif block is None:
        stem = "conv1" if part == "conv" else "res_conv1_bn"
    else:
        stem = f"res{stage}_{block}_" + part.replace("branch2.", "branch2")
    return f"{prefix}{stem}_{ending}"


class Plain(pickle.Unpickler):
    """Arrays and containers alone: a pickle can call anything."""

    def find_class(self, module, name):
        allowed = {"_reconstruct", "ndarray", "dtype", "scalar", "OrderedDict", "encode"}
        if name in allowed and module.partition(".")[0] in ("numpy", "collections", "_codecs"):
            return super().find_class(module, name)
        fail(f"the pickle asks for '{module}.{name}', which no file of weights needs")


def pkl_read(path):
    with open(path, "rb") as f:
        blobs = Plain(f, encoding="latin1").load()
    blobs = blobs.get("blobs", blobs)
    tensors, passed_over = {}, []
    for blob, values in blobs.items():
        name = name_of(blob)
        if name is None:
            if not re.search("momentum|lr|model_iter", blob):
                passed_over.append(blob)
            continue
        values = np.asarray(values, np.float32)
        if not blob.startswith("pred_") and blob.endswith("_w"):    # fewer dimensions than a 3-D convolution
            values = values.reshape(values.shape + (1,) * (5 - values.ndim))
        tensors[name] = values
    if not tensors:
        fail(f"'{path}' has no blob of a SlowFast network")
    if passed_over:
        print(f"passed over: {', '.join(sorted(passed_over))}", file=sys.stderr)
    for name in [n for n in tensors if n.endswith(".running_mean")]:
        tensors[name.replace(".running_mean", COUNTER)] = np.zeros((), np.int64)
    return tensors, {"format": "pt", "from": "caffe2"}


def pkl_write(path, tensors, metadata):
    keep = parameters(tensors) + [n for n in tensors if n.endswith((".running_mean", ".running_var"))]
    with open(path, "wb") as f:
        pickle.dump({"blobs": {blob_of(n): tensors[n] for n in keep}}, f, protocol=2)


# ---- PySlowFast ------------------------------------------------------------------------------------------------------


def pyth_read(path):
    import torch
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    tensors = {n: t.numpy() if n.endswith(COUNTER) else t.float().numpy()
               for n, t in checkpoint["model_state"].items()}
    metadata = {"format": "pt"}
    for key in ("epoch", "cfg"):
        if key in checkpoint:
            metadata[key] = str(checkpoint[key])
    optimizer = checkpoint.get("optimizer_state")
    if optimizer:
        # In old PyTorch the numbers are memory addresses; their order in the groups is that of the parameters.
        numbers = [i for group in optimizer["param_groups"] for i in group["params"]]
        names = [n for group in in_optimizer_order(tensors) for n in group]
        if len(numbers) != len(names):
            fail(f"'{path}' optimises {len(numbers)} tensors, and the model has {len(names)}")
        for number, name in zip(numbers, names):
            buffer = optimizer["state"].get(number, {}).get("momentum_buffer")
            if buffer is not None:
                tensors["momentum." + name] = buffer.float().numpy()
    return tensors, metadata


def pyth_write(path, tensors, metadata):
    import torch
    model = collections.OrderedDict()
    for name in parameters(tensors):
        module, _, kind = name.rpartition(".")
        model[name] = torch.from_numpy(tensors[name].copy())
        if kind == "bias" and module + ".running_mean" in tensors:
            for buffer in (".running_mean", ".running_var", COUNTER):
                model[module + buffer] = torch.from_numpy(tensors[module + buffer].copy())
    norms, others = ([torch.nn.Parameter(model[n]) for n in group] for group in in_optimizer_order(tensors))
    options = json.loads(metadata.get("options", "{}"))     # of the run that wrote a checkpoint; else as published
    sgd = torch.optim.SGD([{"params": norms, "weight_decay": 0.0},
                           {"params": others, "weight_decay": options.get("weight-decay", 1e-7)}],
                          lr=options.get("lr", 0.1), momentum=options.get("momentum", 0.9), nesterov=options.get("nesterov", True))
    for name, parameter in zip((n for group in in_optimizer_order(tensors) for n in group), norms + others):
        if "momentum." + name in tensors:
            sgd.state[parameter]["momentum_buffer"] = torch.from_numpy(tensors["momentum." + name].copy())
    torch.save({"epoch": int(metadata.get("epoch", 0)), "model_state": model, "optimizer_state": sgd.state_dict(),
                "cfg": metadata.get("cfg", "")}, path)


KINDS = {
    ".safetensors": (safetensors_read, safetensors_write),
    ".pkl": (pkl_read, pkl_write),
    ".pyth": (pyth_read, pyth_write),
}


def kind_of(path):
    kind = next((k for k in KINDS if path.endswith(k)), None)
    return kind or fail(f"'{path}' should end in one of {' '.join(KINDS)}")


def main():
    if len(sys.argv) != 3 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    source, target = sys.argv[1:]
    if [kind_of(source), kind_of(target)].count(".safetensors") != 1:
        fail("one of the two is .safetensors")
    tensors, metadata = KINDS[kind_of(source)][0](source)
    KINDS[kind_of(target)][1](target + ".tmp", tensors, metadata)
    os.replace(target + ".tmp", target)
    print(f"{target}: {len(tensors)} tensors")


if __name__ == "__main__":
    main()
