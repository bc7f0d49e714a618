"""The graphs of a bundle on a device, held against torch on the CPU; part of gpu_check.sh.

    python benchmarks/gpu_decoding.py MODEL [--device cuda|cpu]       in a folder with models/ and data/tokens/

The portable graph must give torch's logits. The fp16 graph must cost no more than a thousandth; and the text that it
writes when model and sampler run on the device by themselves (on CUDA: two captured graphs, replayed) must be the text
that the host's sampler writes from the same logits, for every way of sampling, batch size, and past the context.
"""

import argparse

import numpy as np
import torch

from gptmodel import layout
from gptmodel.data.dataset import Dataset
from gptmodel.decoding.engine import Decoder, generate
from gptmodel.decoding.sampling import Sampling, sample_rng
from gptmodel.export import parity
from gptmodel.model import checkpoint
from gptmodel.model.gpt import GPT
from gptmodel.model.loss import total_nats
from gptmodel.model.torch_decoder import TorchDecoder
from gptmodel.runtime import graphs
from gptmodel.runtime.fast_decoder import FastDecoder

SAMPLINGS = [Sampling(0), Sampling(0.8, top_p=0.95), Sampling(1.0, top_k=9, repetition_penalty=1.2)]


def write(decoder: Decoder, rows: int, sampling: Sampling, count: int) -> list[list[int]]:
    """Return `count` tokens of rows whose prompts differ in length."""
    prompts = [list(range(1, 3 + row)) for row in range(rows)]
    rngs = [sample_rng(0, row) for row in range(rows)]
    rows_of_tokens: list[list[int]] = np.stack(list(generate(decoder, prompts, count, sampling, rngs))).tolist()
    return rows_of_tokens


def main() -> None:
    """Check one model; an assertion or an error line says what differs."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model")
    arguments.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    asked = arguments.parse_args()
    folder = layout.ModelFolder(asked.model)
    network, meta = checkpoint.load(folder.checkpoint)
    data, reference = Dataset.read(layout.TOKENS / meta.level), TorchDecoder(network)
    portable = graphs.GRAPHS["portable"].open(folder.bundle, reference.context, asked.device, 1)
    print(asked.model, parity.check(reference, portable, data.ids["validation"], network.context, 1e-3).model_dump())
    if not isinstance(network, GPT):
        return
    chunks = graphs.GRAPHS["fp16"].open(folder.bundle, reference.context, asked.device, 1)
    paid = total_nats(network, data.ids["test"], torch.device("cpu"))
    print(asked.model, parity.cost(chunks, data.ids["test"], network.context, paid, 1e-3).model_dump())
    host = FastDecoder(folder.bundle / graphs.GRAPHS["fp16"].file, asked.device)
    for rows in (1, 3, 8):
        for sampling in SAMPLINGS:
            count = 2 * network.context
            assert write(chunks, rows, sampling, count) == write(host, rows, sampling, count), (rows, sampling)
    print(asked.model, "fp16: the device's sampler writes what the host's writes, past the context too")


if __name__ == "__main__":
    main()
