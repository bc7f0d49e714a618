"""Tokens per second of a trained model: our ONNX bundle beside PyTorch, same weights, same run.

    python benchmarks/decode.py [MODEL] [--device cpu|cuda]      default: gpt-char, cpu

Rungs: `torch without cache` reads the whole window for every token (as nanoGPT's generate does), `torch with cache` is
our network in PyTorch, `onnx` is what a user of the bundle gets. All run the same generation loop with the same
sampling. The runs alternate, the first of each does not count, medians and ratios are reported. The result goes to
benchmarks/results/decode-MODEL-DEVICE.json.
"""

import argparse
import statistics
import time
from typing import Any

import numpy as np
import torch
from environment import RESULTS, ROOT, environment

from gptmodel import checkpoint, files
from gptmodel.decoding import Decoder, Ids, Logits, Sampling, generate, sample_rng
from gptmodel.onnx_decoder import OnnxDecoder
from gptmodel.torch_decoder import TorchDecoder

ROUNDS, NEW_TOKENS, PROMPT_TOKENS = 5, 64, 16


class WithoutCache:
    """A decoder whose cache is the text so far."""

    def __init__(self, decoder: TorchDecoder) -> None:
        self._decoder, self.context, self.vocab_size = decoder, decoder.context, decoder.vocab_size

    def empty_cache(self, pad_B: Ids) -> Ids:
        """Return no text."""
        return np.empty((len(pad_B), 0), dtype=np.int64)

    def __call__(self, ids_BT: Ids, cache: Ids) -> tuple[Logits, Ids]:
        """Return logits of the whole text, (B, S, V), and the text."""
        text_BS = np.concatenate((cache, ids_BT), axis=1)
        logits_BTV, _ = self._decoder(text_BS, None)
        return logits_BTV, text_BS


def rate(decoder: Decoder, batch: int) -> float:
    """Return tokens per second of one generation, prefill included."""
    prompt = np.random.default_rng(0).integers(0, decoder.vocab_size, PROMPT_TOKENS).tolist()
    rngs = [sample_rng(0, row) for row in range(batch)]
    started = time.perf_counter()
    for _ in generate(decoder, [prompt] * batch, NEW_TOKENS, Sampling(0.8, top_p=0.95), rngs):
        pass
    return batch * NEW_TOKENS / (time.perf_counter() - started)


def main() -> None:
    """Measure, print and record."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model", nargs="?", default="gpt-char")
    arguments.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    asked = arguments.parse_args()
    folder = ROOT / "models" / asked.model
    network, meta = checkpoint.load(folder / "checkpoint", asked.device)
    with_cache = TorchDecoder(network)
    decoders: dict[str, Any] = {
        "torch without cache": WithoutCache(with_cache),
        "torch with cache": with_cache,
        "onnx": OnnxDecoder(folder / "bundle" / "model.onnx", with_cache.context, asked.device),
    }
    figures: dict[str, dict[str, float]] = {}
    for batch in (1, 8):
        rounds = [{name: rate(decoder, batch) for name, decoder in decoders.items()} for _ in range(ROUNDS + 1)][1:]
        medians = {name: statistics.median(each[name] for each in rounds) for name in decoders}
        ratio = statistics.median(each["onnx"] / each["torch with cache"] for each in rounds)
        figures[f"batch_{batch}"] = {**medians, "onnx over torch with cache": ratio}
        print(
            f"batch {batch}: " + ", ".join(f"{name} {value:,.1f}" for name, value in figures[f"batch_{batch}"].items())
        )
    result = {
        "tokens_per_second": figures,
        "model": {"name": asked.model, "network": meta.network.model_dump(mode="json"), "vocab_size": meta.vocab_size},
        "conditions": {"new_tokens": NEW_TOKENS, "prompt_tokens": PROMPT_TOKENS, "rounds": ROUNDS, "warm_up_rounds": 1},
        **environment(
            *("torch", "onnxruntime", "onnxruntime-gpu", "numpy"),
            torch_threads=torch.get_num_threads(),
            gpu=torch.cuda.get_device_name() if asked.device == "cuda" else None,
        ),
    }
    files.write_json(RESULTS / f"decode-{asked.model}-{asked.device}.json", result)


if __name__ == "__main__":
    main()
