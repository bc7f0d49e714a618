"""Our generation loop, taking the likeliest token, as a peer's `Decode`."""

import workload

from gptmodel.decoding import engine
from gptmodel.decoding.engine import Decoder
from gptmodel.decoding.sampling import Sampling, sample_rng


def greedy(decoder: Decoder) -> workload.Decode:
    """Return the loop over a decoder."""
    return workload.ticked(
        lambda prompts, new_tokens: engine.generate(
            decoder, prompts, new_tokens, Sampling(0), [sample_rng(0, row) for row in range(len(prompts))]
        )
    )
