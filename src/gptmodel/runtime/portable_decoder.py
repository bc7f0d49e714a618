"""The portable graph (`portable_graph`) in ONNX Runtime as a `decoding.engine.Decoder`.

The cache stays where the session runs: IO binding hands the `present` outputs of one step to the `past` inputs of the
next without a copy to Python.

Source: https://onnxruntime.ai/docs/api/python.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gptmodel.arrays import Ints, Logits
from gptmodel.decoding.engine import left_pad
from gptmodel.runtime import session
from gptmodel.runtime.session import ChosenDevice


class Cache(NamedTuple):
    """Left padding of each row, and keys and values per layer as ONNX Runtime values, named as the graph's inputs."""

    pad_B: Ints
    past: dict[str, Any]


class OnnxDecoder:
    """Runs a model written by `portable_graph`; its sizes come from the graph, `context` from the bundle.

    `UserError` as `session.open_session`.
    """

    def __init__(self, model: Path | bytes, context: int, device: ChosenDevice = "cpu", threads: int = 1) -> None:
        self._session = session.open_session(model, device, threads)
        self._ort = session.onnxruntime()
        self._device = device
        self.context = context
        inputs = {value.name: value.shape for value in self._session.get_inputs()}
        self._past_shapes = {name: (shape[1], shape[3]) for name, shape in inputs.items() if name.startswith("past_")}
        self._padded = "pad" in inputs
        self.vocab_size: int = self._session.get_outputs()[0].shape[2]

    def prefill(self, rows: Sequence[Sequence[int]]) -> tuple[Logits, Cache]:
        """Return the logits after each row, (B, V), and the cache of all rows, padded on the left."""
        ids_BT, pad_B = left_pad(rows)
        logits_BTV, cache = self._run(ids_BT, self._empty_cache(pad_B))
        return logits_BTV[:, -1], cache

    def step(self, ids_B: Ints, cache: Cache) -> tuple[Logits, Cache]:
        """Return the logits after one more token per row, (B, V), and the new cache; the old one stays as it was."""
        logits_BTV, after = self._run(ids_B[:, None], cache)
        return logits_BTV[:, -1], after

    def logits(self, rows: Sequence[Sequence[int]]) -> list[Logits]:
        """Return the logits after every token of each row, (T, V) per row."""
        ids_BT, pad_B = left_pad(rows)
        logits_BTV, _ = self._run(ids_BT, self._empty_cache(pad_B))
        return [logits_TV[pad:] for logits_TV, pad in zip(logits_BTV, pad_B.tolist(), strict=True)]

    def _empty_cache(self, pad_B: Ints) -> Cache:
        shapes = {name: (len(pad_B), heads, 0, size) for name, (heads, size) in self._past_shapes.items()}
        value = self._ort.OrtValue.ortvalue_from_numpy
        return Cache(pad_B, {name: value(np.zeros(shape, np.float32)) for name, shape in shapes.items()})

    def _run(self, ids_BT: Ints, cache: Cache) -> tuple[Logits, Cache]:
        """Return logits (B, T, V) and the cache that includes these tokens."""
        binding = self._session.io_binding()
        binding.bind_cpu_input("input_ids", np.ascontiguousarray(ids_BT))
        if self._padded:
            binding.bind_cpu_input("pad", cache.pad_B)
        binding.bind_output("logits", "cpu")
        for name, value in cache.past.items():
            binding.bind_ortvalue_input(name, value)
            binding.bind_output(name.replace("past", "present"), self._device)
        self._session.run_with_iobinding(binding)
        logits, *present = binding.get_outputs()
        return logits.numpy(), Cache(cache.pad_B, dict(zip(cache.past, present, strict=True)))
