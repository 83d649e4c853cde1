#!/usr/bin/env bash
# What a GPU gives: needs torch, numpy, scipy, pydantic and dynamic-network-architectures, no data, no SimpleITK, no Ray.
# PYTHON=... benchmarks/gpu.sh
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python}
# nnU-Net's network for patch 128^3, batch 2: its own autocast (float16), then bfloat16 as ours.
step=(-m benchmarks.training_step --device cuda --patch 128 128 128 --batch 2 --stages 6 --steps 30)
"$PYTHON" "${step[@]}"
"$PYTHON" "${step[@]}" --peer-precision bf16
"$PYTHON" -m benchmarks.gpu_augmentation
