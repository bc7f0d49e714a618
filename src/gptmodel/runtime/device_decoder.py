"""A fast decoder that also chooses the tokens where the model runs: a chunk of them for one copy to the host.

Model and sampler (`sampler_graph`) run in turn on the same buffers: the sampler writes the token and its place where
the model's next step reads them. On CUDA both are captured as CUDA graphs, so that a step costs two launches. On a CPU
it decodes too, but numpy's `sampling.choose` is as fast there.

Source: https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html (CUDA graphs; the first run with new
buffers runs more than once, hence the rehearsal below).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gptmodel.arrays import Floats, Ints, Mask
from gptmodel.decoding.sampling import Sampling
from gptmodel.runtime import session
from gptmodel.runtime.fast_decoder import Cache, FastDecoder
from gptmodel.runtime.fast_session import Buffer, Buffers
from gptmodel.runtime.session import ChosenDevice

CHUNK = 32  # tokens per copy to the host: text comes in bursts of as many


@dataclass(eq=False)
class _Loop:
    """What the sampler reads and writes beside the model's own buffers, and its binding."""

    buffers: Buffers
    inputs: dict[str, Buffer]
    binding: Any


class DeviceDecoder(FastDecoder):
    """A `decoding.engine.ChunkDecoder`: a `FastDecoder` with the sampler's graph beside it."""

    chunk = CHUNK

    def __init__(
        self, model: Path | bytes, sampler: Path | bytes, device: ChosenDevice = "cpu", threads: int = 1
    ) -> None:
        super().__init__(model, device, threads)
        capture = {"enable_cuda_graph": "1"} if device == "cuda" else {}
        self._sampler = session.open_session(sampler, device, threads, **capture)
        self._loop: _Loop | None = None

    def decode(
        self, ids_B: Ints, cache: Cache, uniform_NB: Floats, sampling: Sampling, allowed_V: Mask, seen_BV: Mask
    ) -> tuple[Ints, Cache]:
        """See `ChunkDecoder`; N is at most `chunk`, the prompt has been read. `ValueError` as `FastDecoder.step`."""
        buffers = self._owned(cache)
        count = len(uniform_NB)
        state: dict[str, Any] = {
            "uniform": np.pad(uniform_NB, ((0, CHUNK - count), (0, 0))),
            "step": 0,
            **vars(sampling),
            "allowed": allowed_V,
            "seen": seen_BV,
        }
        loop = self._loop
        if loop is None or loop.buffers is not buffers:
            loop = self._loop = self._bind(buffers)
            self._run(loop, ids_B, cache, state, 1)  # a rehearsal: the run below writes over all that it leaves
        self._run(loop, ids_B, cache, state, count)
        ids_NB: Ints = loop.inputs["tokens"].read()[:count]
        return ids_NB, self._give(cache.length_B + count)

    def _run(self, loop: _Loop, ids_B: Ints, cache: Cache, state: dict[str, Any], count: int) -> None:
        """Write the state and let model and sampler take `count` steps."""
        self.session.place(loop.buffers, ids_B, cache.length_B)
        for name, value in state.items():
            loop.inputs[name].write(value)
        for _ in range(count):
            self.session.step(loop.buffers)
            self._sampler.run_with_iobinding(loop.binding)

    def _bind(self, buffers: Buffers) -> _Loop:
        fast = self.session
        values = {
            "uniform": np.zeros((CHUNK, buffers.size)),
            "step": np.zeros(1, np.int64),
            **{name: np.zeros(()) for name in ("temperature", "top_p", "repetition_penalty")},
            "top_k": np.zeros((), np.int64),
            "allowed": np.zeros(self.vocab_size, bool),
            "seen": np.zeros((buffers.size, self.vocab_size), bool),
            "tokens": np.zeros((CHUNK, buffers.size), np.int64),
        }
        inputs = {name: Buffer(fast.ort, value, fast.device) for name, value in values.items()}
        model = buffers.inputs
        outputs = {
            "next_ids": model["input_ids"],
            "next_last_place": model["last_place"],
            **{f"next_{name}": inputs[name] for name in ("step", "seen", "tokens")},
        }
        if fast.learned_positions:
            outputs["next_position_ids"] = model["position_ids"]
        binding = self._sampler.io_binding()
        for name, buffer in {**inputs, "logits": buffers.logits, "last_place": model["last_place"]}.items():
            binding.bind_ortvalue_input(name, buffer.tensor)
        for name, buffer in outputs.items():
            binding.bind_ortvalue_output(name, buffer.tensor)
        if not fast.learned_positions:
            binding.bind_output("next_position_ids", fast.device)
        return _Loop(buffers, inputs, binding)
