#!/usr/bin/env bash
# Every check that needs a GPU, in one command. Run it from anywhere after `make repro`'s install step, or in an
# environment that has torch, onnxruntime-gpu (or onnxruntime), tokenizers, onnx, pandas, pydantic, pyyaml, safetensors,
# filelock, charset-normalizer, typer and rich.
#
#   benchmarks/gpu_check.sh                 on a machine with CUDA: checks and speeds, a few minutes
#   FULL=1 benchmarks/gpu_check.sh          and trains the recipe tinyshakespeare-gpu (SEEDS="1 2 3": once per seed)
#   DEVICE=cpu benchmarks/gpu_check.sh      the dry run: the same steps on the CPU, smaller
#
# It works in a temporary copy, without DVC and MLflow. On CUDA it leaves benchmarks/results/*-cuda.json and, with
# FULL=1, train-tinyshakespeare-gpu.json (or all of them in $OUT/); a dry run leaves nothing unless OUT is set.
# FULL=1 needs the text tinyshakespeare: from the network, or from the folder that GPTMODEL_MIRROR names.
set -euo pipefail
device=${DEVICE:-cuda}
python=${PYTHON:-python3}
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export GPTMODEL_TRACKING=off GOMP_SPINCOUNT=10000
out=$root/benchmarks/results
[ "$device" = cuda ] || out=$work/out
out=${OUT:-$out}
mkdir -p "$out"
out=$(cd "$out" && pwd)
[ -z "${GPTMODEL_MIRROR:-}" ] || GPTMODEL_MIRROR=$(cd "$GPTMODEL_MIRROR" && pwd)
case $python in */*) python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python") ;; esac
steps=200
[ "$device" = cuda ] || steps=30

mkdir "$work/data"
cp -r "$root/src" "$root/pipelines" "$root/benchmarks" "$root/recipes" "$root/params.yaml" "$work/"
cp "$root/data/catalog.yaml" "$work/data/"
cp "${TEXT:-$root/tests/fixtures/roman.txt}" "$work/text.txt"
cd "$work"
rm -f benchmarks/results/*
sed -i "s|^corpus:.*|corpus: text.txt|; s|^device:.*|device: $device|; s|^    steps: .*|    steps: $steps|;
    s|^    warmup_steps: .*|    warmup_steps: 10|; s|^    context: .*|    context: 32|" params.yaml
export PYTHONPATH="$work/src:$work${PYTHONPATH:+:$PYTHONPATH}"

echo "== environment"
"$python" - <<PY
import torch, onnxruntime
print("torch", torch.__version__, "cuda", torch.cuda.is_available(), "onnxruntime", onnxruntime.__version__)
PY
echo "== training on $device: precisions, executions, non-finite gradients, synchronisation, resume, processes, speed"
"$python" benchmarks/gpu_training.py text.txt --device "$device"
echo "== the recipe tinyshakespeare-gpu"
if [ "${FULL:-0}" = 1 ]; then
    # shellcheck disable=SC2086 # SEEDS is a list
    "$python" benchmarks/train.py tinyshakespeare-gpu --seeds ${SEEDS:-1}
else
    short=("corpus=$work/text.txt" "device=$device" "models.*.steps=30" "models.*.context=128" "models.*.batch_size=4")
    [ "$device" = cuda ] || short+=("models.*.n_layer=1" "models.*.n_head=2" "models.*.n_embd=64" engine.execution=eager)
    "$python" benchmarks/train.py tinyshakespeare-gpu --seeds 1 --set "${short[@]}" --name short
    rm benchmarks/results/train-short.json
fi
echo "== stages on $device"
"$python" -m pipelines.fetch
"$python" -m pipelines.clean
for level in char word bpe; do "$python" -m pipelines.encode $level; done
"$python" -m pipelines.baselines
for model in bigram-char classic-char gpt-char gpt-word gpt-bpe; do
    for stage in train evaluate export; do "$python" -m pipelines.$stage $model; done
done
echo "== the ONNX graphs on $device: parity with torch on the CPU, then text"
for model in bigram-char classic-char gpt-char gpt-word gpt-bpe; do
    "$python" benchmarks/gpu_decoding.py "$model" --device "$device"
    "$python" -m gptmodel generate "models/$model/bundle" "Le " --max-new-tokens 80 --seed 1 --device "$device"
    echo
done
echo "== decoding speed, 10 and 85 million parameters, beside torch (other peers need the network)"
short=()
[ "$device" = cuda ] || short=(--size 10m --batch 1 8 --rounds 1 --threads 1)
"$python" benchmarks/decode.py --device "$device" --peers ours torch_eager torch_compiled "${short[@]}" \
    --results benchmarks/results
cp benchmarks/results/*.json "$out/"
echo "gpu check on $device: passed"
