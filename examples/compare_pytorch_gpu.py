#!/usr/bin/env python3
"""Times PyTorch's networks on the GPU beside ours: `benchmark_gpu` and PyTorch alternately, same card, same run, same batch.

pip install torch timm (for VMamba also fvcore einops); cargo build --release --features cuda --example benchmark_gpu
examples/compare_pytorch_gpu.py [--ours PATH] [--batch 64 128 256] [--vmamba FOLDER]

FOLDER is a checkout of the public VMamba repository (github.com/MzeroMiko/VMamba), whose network of QMamba-T's topology is then
timed too, in its own environment's terms: with Triton's cross-scan, and its CUDA scan where that is installed. Without it that
line says "not run". Nothing of it is kept here. Not run on any GPU yet.
"""

import argparse
import re
import statistics
import subprocess
import sys
from pathlib import Path

ROUNDS = 3
# Of QMamba-T (`qmambaiqa inspect qmamba-t`), and so of a network of its topology.
PARAMETERS = 27_993_409


def find_ours():
    here = Path(__file__).resolve().parent
    paths = [here / "benchmark_gpu", here.parent / "target/release/examples/benchmark_gpu"]
    return next((path for path in paths if path.exists()), None)


def ours(program):
    """Images a second of our network by (batch, type)."""
    text = subprocess.run([program, "qmamba-t"], check=True, capture_output=True, text=True).stdout
    found = re.findall(r"qmamba-t, batch (\d+), (\w+): [\d.]+ ms, (\d+) images/s", text)
    return {(int(batch), kind): float(rate) for batch, kind, rate in found}


def vmamba(folder):
    """VMamba-T with one state, depths 2 2 4 2 and MLP ratio 4, without a classifier's weights to load."""
    sys.path[:0] = [str(folder), str(folder / "classification")]
    from models.vmamba import VSSM

    model = VSSM(depths=[2, 2, 4, 2], dims=96, ssm_d_state=1, ssm_ratio=2.0, ssm_dt_rank="auto", ssm_conv_bias=False,
                 forward_type="v05_noz", mlp_ratio=4.0, downsample_version="v3", patchembed_version="v2",
                 norm_layer="ln2d", channel_first=True, num_classes=1)
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters == PARAMETERS, f"{parameters} parameters, QMamba-T has {PARAMETERS}"
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", type=Path, default=find_ours())
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--vmamba", type=Path)
    args = parser.parse_args()
    try:
        import torch
    except ImportError:
        sys.exit("not run: torch is not installed")
    if not torch.cuda.is_available():
        sys.exit("not run: torch sees no GPU")
    models, notes = {}, []
    try:
        import timm

        for name in ("swin_tiny_patch4_window7_224", "convnext_tiny"):
            models[name] = timm.create_model(name, num_classes=1)
    except ImportError:
        notes.append("not run Swin-T and ConvNeXt-T: timm is not installed")
    if args.vmamba:
        models["VMamba-T"] = vmamba(args.vmamba)
    else:
        notes.append("not run VMamba-T: no checkout of it (--vmamba)")

    def rate(run, batch):
        """Images a second, the median of 7 runs of 10."""
        for _ in range(3):
            run()
        times = []
        for _ in range(7):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            for _ in range(10):
                run()
            end.record()
            torch.cuda.synchronize()
            times.append(begin.elapsed_time(end) / 10)
        return batch / statistics.median(times) * 1e3

    rates = {}
    for _ in range(ROUNDS):
        if args.ours:
            for (batch, kind), value in ours(args.ours).items():
                rates.setdefault(("qmamba-t", kind, batch), []).append(value)
        for name, model in models.items():
            model = model.eval().cuda().half()
            for how in ("eager", "compiled"):
                try:
                    run = model if how == "eager" else torch.compile(model)
                    for batch in args.batch:
                        crops = torch.randn(batch, 3, 224, 224, device="cuda", dtype=torch.half)
                        with torch.inference_mode():
                            rates.setdefault((name, f"f16 {how}", batch), []).append(rate(lambda: run(crops), batch))
                except Exception as error:  # whatever a compiler says: one line, and on
                    notes.append(f"not run {name} {how}: {str(error).splitlines()[0][:100] if str(error) else type(error)}")
    if not args.ours:
        notes.append("not run qmamba-t: no benchmark_gpu here")
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}, {ROUNDS} rounds; images a second, median (least to greatest)")
    for (name, kind, batch), values in rates.items():
        print(f"{name:30} {kind:13} batch {batch:4}: {statistics.median(values):8.0f} ({min(values):.0f} to {max(values):.0f})")
    print("\n".join(dict.fromkeys(notes)))


if __name__ == "__main__":
    main()
