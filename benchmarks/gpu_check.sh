#!/usr/bin/env bash
# Every check that needs a GPU, in one command. Run it from anywhere after `make repro`'s install step, or in an
# environment that has torch, onnxruntime-gpu (or onnxruntime), tokenizers, onnx, pandas, pydantic, pyyaml, safetensors.
#
#   benchmarks/gpu_check.sh          on a machine with CUDA
#   DEVICE=cpu benchmarks/gpu_check.sh    the dry run: the same steps on the CPU
#
# It works in a temporary copy, without DVC and MLflow, and leaves benchmarks/results/*-cuda.json (or $OUT/ if set).
set -euo pipefail
device=${DEVICE:-cuda}
python=${PYTHON:-python3}
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export GPTMODEL_TRACKING=off

mkdir "$work/data"
cp -r "$root/src" "$root/pipelines" "$root/benchmarks" "$root/params.yaml" "$work/"
cp "$root/data/catalog.yaml" "$work/data/"
cp "${TEXT:-$root/tests/fixtures/roman.txt}" "$work/text.txt"
cd "$work"
sed -i "s|^corpus:.*|corpus: text.txt|; s|^device:.*|device: $device|; s|steps: [0-9]*$|steps: 200|; s|warmup_steps: .*|warmup_steps: 10|; s|  context: .*|  context: 32|" params.yaml
export PYTHONPATH="$work/src:$work${PYTHONPATH:+:$PYTHONPATH}"

echo "== environment"
"$python" - <<PY
import torch, onnxruntime
print("torch", torch.__version__, "cuda", torch.cuda.is_available(), "onnxruntime", onnxruntime.__version__)
PY
echo "== stages on $device"
"$python" -m pipelines.fetch
"$python" -m pipelines.clean
for level in char word bpe; do "$python" -m pipelines.encode $level; done
for model in bigram-char classic-char gpt-char gpt-word gpt-bpe; do
    for stage in train evaluate export; do "$python" -m pipelines.$stage $model; done
done
echo "== the ONNX graph on $device: parity with torch on the CPU, then text"
for model in bigram-char classic-char gpt-char gpt-word gpt-bpe; do
    "$python" - "$model" "$device" <<'PY'
import sys
from dataclasses import asdict
from pathlib import Path

from gptmodel import checkpoint, parity
from gptmodel.dataset import Dataset
from gptmodel.onnx_decoder import OnnxDecoder
from gptmodel.torch_decoder import TorchDecoder

model, device = sys.argv[1:]
folder = Path("models") / model
network, meta = checkpoint.load(folder / "checkpoint")
reference = TorchDecoder(network)
decoder = OnnxDecoder(folder / "bundle" / "model.onnx", reference.context, device)
assert decoder.device == device, decoder.device
ids = Dataset.read(Path("data/tokens") / meta.level).ids["validation"]
print(model, asdict(parity.check(reference, decoder, ids, network.context, tolerance=1e-3)))
PY
    "$python" -m gptmodel.cli generate "models/$model/bundle" "Le " --max-new-tokens 80 --seed 1 --device "$device"
    echo
done
echo "== speed"
"$python" benchmarks/decode.py gpt-char --device "$device"
cp benchmarks/results/decode-gpt-char-"$device".json "${OUT:-$root/benchmarks/results}/"
echo "gpu check on $device: passed"
