"""The portable graph (`onnx_graph`) in ONNX Runtime as a `decoding.Decoder`. Needs onnxruntime and numpy only.

The cache stays where the session runs: IO binding hands the `present` outputs of one step to the `past` inputs of the
next without a copy to Python.

Left out on purpose: buffers of fixed size and everything that builds on them (see `fast_decoder`).
Source: https://onnxruntime.ai/docs/api/python.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gptmodel.arrays import Ints, Logits
from gptmodel.runtime import session
from gptmodel.runtime.session import Place


class Cache(NamedTuple):
    """Left padding of each row, and keys and values per layer as ONNX Runtime values, named as the graph's inputs."""

    pad_B: Ints
    past: dict[str, Any]


class OnnxDecoder:
    """Runs a model written by `onnx_graph`; its sizes come from the graph, `context` from the bundle.

    `UserError` as `onnx_session.open_session`.
    """

    def __init__(self, model: Path | bytes, context: int, place: Place = "cpu", threads: int = 1) -> None:
        self._session = session.open_session(model, place, threads)
        self._ort = session.onnxruntime()
        self.context, self.place, self.threads = context, place, threads
        inputs = {value.name: value.shape for value in self._session.get_inputs()}
        self._past_shapes = {name: (shape[1], shape[3]) for name, shape in inputs.items() if name.startswith("past_")}
        self._padded = "pad" in inputs
        self.vocab_size: int = self._session.get_outputs()[0].shape[2]

    def empty_cache(self, pad_B: Ints) -> Cache:
        """Return the cache before the first token."""
        past = {}
        for name, (heads, size) in self._past_shapes.items():
            nothing = np.zeros((len(pad_B), heads, 0, size), dtype=np.float32)
            past[name] = self._ort.OrtValue.ortvalue_from_numpy(nothing)
        return Cache(pad_B, past)

    def __call__(self, ids_BT: Ints, cache: Cache, last: bool = False) -> tuple[Logits, Cache]:
        """Return logits (B, T, V), or (B, 1, V) of the last place, and the new cache."""
        binding = self._session.io_binding()
        binding.bind_cpu_input("input_ids", np.ascontiguousarray(ids_BT))
        if self._padded:
            binding.bind_cpu_input("pad", cache.pad_B)
        binding.bind_output("logits", "cpu")
        for name, value in cache.past.items():
            binding.bind_ortvalue_input(name, value)
            binding.bind_output(name.replace("past", "present"), self.place)
        self._session.run_with_iobinding(binding)
        logits, *present = binding.get_outputs()
        logits_BTV = logits.numpy()
        return logits_BTV[:, -1:] if last else logits_BTV, Cache(
            cache.pad_B, dict(zip(cache.past, present, strict=True))
        )
