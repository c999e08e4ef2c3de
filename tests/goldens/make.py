"""Writes goldens.json beside itself: scores of small networks by the NumPy reference, which lies outside this repository.

    python3 tests/goldens/make.py path/to/qmamba_reference.py

Weights and image come from a counter-based generator that tests/goldens.rs states again, so that no weights are stored.
"""

import importlib.util
import json
import math
import pathlib
import sys

import numpy as np

MASK = (1 << 64) - 1


def mix(z):
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def uniform(name, n):
    """n values in -1..1 that depend on the name alone."""
    key = 0xCBF29CE484222325
    for byte in name.encode():
        key = ((key ^ byte) * 0x100000001B3) & MASK
    with np.errstate(over="ignore"):
        bits = mix(np.arange(n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key))
    return ((bits >> np.uint64(40)).astype(np.float64) / (1 << 23) - 1.0).astype(np.float32)


def weight(name, shape):
    leaf = name.rsplit(".", 1)[1]
    values = uniform(name, math.prod(shape)).reshape(shape)
    if leaf == "Ds" or (leaf == "weight" and len(shape) == 1):
        return (1 + np.float32(0.25) * values).astype(np.float32)
    if leaf == "dt_projs_bias":
        return (values - 3).astype(np.float32)
    if leaf in ("A_logs", "prompts"):
        return values
    if leaf == "bias":
        return (values * np.float32(0.1)).astype(np.float32)
    fan_in = math.prod(shape[1:]) if leaf == "weight" else shape[-1]
    return (values * np.float32(math.sqrt(3 / fan_in))).astype(np.float32)


def main():
    spec = importlib.util.spec_from_file_location("reference", sys.argv[1])
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    rgb = ((uniform("image", 224 * 224 * 3) + 1) * 127.5).astype(np.uint8).reshape(224, 224, 3)
    goldens = []
    for name in ("test", "ltest", "ltest-padded"):
        c = reference.CONFIGS[name]
        for prompt in (False, True):
            weights = {n: weight(n, s) for n, s in reference.tensor_shapes(name, prompt).items()}
            features, score = reference.forward(reference.normalise(rgb), weights, name)
            config = {"depths": c["depths"], "width": c["dim"], "windows": c["windows"]}
            norm = float(np.linalg.norm(features))
            goldens.append({"config": config, "style_prompt": prompt, "score": score, "features": norm})
    text = ",\n".join(json.dumps(g) for g in goldens)
    pathlib.Path(__file__).with_name("goldens.json").write_text(f"[\n{text}\n]\n")


if __name__ == "__main__":
    main()
