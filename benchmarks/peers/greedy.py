"""Our generation loop, taking the likeliest token, as a peer's `Decode`."""

import workload

from gptmodel import decoding
from gptmodel.decoding import Decoder, Sampling, sample_rng


def greedy(decoder: Decoder) -> workload.Decode:
    """Return the loop over a decoder."""
    return workload.ticked(
        lambda prompts, new_tokens: decoding.generate(
            decoder, prompts, new_tokens, Sampling(0), [sample_rng(0, row) for row in range(len(prompts))]
        )
    )
