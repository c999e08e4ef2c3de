#!/usr/bin/env python3
"""Scales the output of an adapter's own head.

    examples/rescale_head.py IN.safetensors OUT.safetensors --scale 0.8 --offset 0.1

Scores end at 0 and 100. A head that was fitted to labels over the whole scale gives the best pictures more than 100 and the
worst less than 0, so that it tells them no longer apart; scaled, it does. Order and correlations stay as they are.
"""

import argparse

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapter")
    parser.add_argument("out")
    parser.add_argument("--scale", type=float, required=True)
    parser.add_argument("--offset", type=float, default=0.0)
    args = parser.parse_args()
    tensors = load_file(args.adapter)
    with safe_open(args.adapter, "np") as file:
        about = file.metadata()
    weight, bias = "classifier.head.weight", "classifier.head.bias"
    if weight not in tensors:
        raise SystemExit(f"{args.adapter}: has no head of its own")
    for name, offset in ((weight, 0.0), (bias, args.offset)):
        values = tensors[name].astype(np.float64) * args.scale + offset
        tensors[name] = values.astype(tensors[name].dtype)
    save_file(tensors, args.out, about)


if __name__ == "__main__":
    main()
