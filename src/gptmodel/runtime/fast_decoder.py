"""The fast graph (`fast_graph`) in ONNX Runtime as a `decoding.Decoder`. Needs onnxruntime and numpy only.

Everything that a step reads and writes lies in buffers of fixed size, allocated once per batch and bound once by IO
binding: the host writes the new ids and lengths into them, runs, and reads the logits. Keys and values never move.

Prompts of different lengths, which come padded on the left, are turned so that each row begins at place 0 of its
buffer (the graph wants the padding on the right); a row's own tokens then have the positions that they have alone.

Left out on purpose: several new tokens after a cache (the generation loop never feeds them).
Source: https://onnxruntime.ai/docs/api/python; past and present in one buffer: GroupQueryAttention in
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md.
"""

import contextlib
import math
import mmap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gptmodel.arrays import Ints, Logits
from gptmodel.runtime import session
from gptmodel.runtime.session import Place

NUMBERS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int8)": np.int8}  # of keys and values
CHUNK = 128  # tokens of a prompt that are read at a time


class Buffer:
    """A tensor at a fixed address of the device, written from numpy and read into it."""

    def __init__(self, ort: Any, value: npt.NDArray[Any], place: Place) -> None:
        self._array = np.ascontiguousarray(value)  # on the CPU ONNX Runtime works on this memory itself
        self._here = place == "cpu"
        self.tensor = ort.OrtValue.ortvalue_from_numpy(self._array, place, 0)

    def write(self, value: npt.ArrayLike) -> None:
        """Replace the contents."""
        self._array[...] = value
        if not self._here:
            self.tensor.update_inplace(self._array)

    def read(self) -> npt.NDArray[Any]:
        """Return a copy of the contents."""
        return self._array.copy() if self._here else self.tensor.numpy()


@dataclass(eq=False)
class Buffers:
    """All that one batch needs, named as the graph's inputs, and the binding of a decoding step to it."""

    size: int  # rows
    past: dict[str, Buffer]
    inputs: dict[str, Buffer]
    logits: Buffer
    step: Any
    owner: "Cache | None" = None


@dataclass(eq=False)
class Cache:
    """What a batch holds: `length_B` tokens per row (0 before the prompt), in buffers that one cache at a time owns."""

    pad_B: Ints
    length_B: Ints
    buffers: Buffers = field(repr=False)


class FastDecoder:
    """Runs a model written by `fast_graph`; its sizes come from the graph.

    One generation at a time: a new cache of the same batch size takes the buffers of the one before.
    `UserError` as `onnx_session.open_session`.
    """

    def __init__(self, model: Path | bytes, place: Place = "cpu", threads: int = 1) -> None:
        self._ort = session.onnxruntime()
        capture = {"enable_cuda_graph": "1"} if place == "cuda" else {}
        self._session = session.open_session(model, place, threads, **capture)
        self._prompt_options = self._ort.RunOptions()
        self._prompt_options.add_run_config_entry("gpu_graph_id", "-1")  # prompts differ in length: not captured
        self.place, self.threads = place, threads
        inputs = {value.name: value for value in self._session.get_inputs()}
        self._past = {
            name: (tuple(value.shape[1:]), NUMBERS[value.type])
            for name, value in inputs.items()
            if name.startswith("past_")
        }
        self._learned_positions = "position_ids" in inputs
        self.context: int = inputs["past_key.0"].shape[2]
        self.vocab_size: int = self._session.get_outputs()[0].shape[1]
        self._latest: Buffers | None = None

    def empty_cache(self, pad_B: Ints) -> Cache:
        """Return the cache before the first token; an earlier one of as many rows must not be used again."""
        buffers = self._latest
        if buffers is None or buffers.size != len(pad_B):
            buffers = self._latest = self._allocate(len(pad_B))
        return self._give(buffers, pad_B, np.zeros_like(pad_B))

    def __call__(self, ids_BT: Ints, cache: Cache, last: bool = False) -> tuple[Logits, Cache]:
        """Return logits (B, T, V), or (B, 1, V) of the last place, and the new cache.

        `ids_BT` is the whole prompt for an empty cache, one token per row after that (`ValueError` otherwise, and for
        a cache whose buffers have gone to a later one).
        """
        buffers = self._owned(cache)
        if not cache.length_B.any():
            logits_BTV = self._prompt(ids_BT, cache.pad_B, buffers, last)
            return logits_BTV, self._give(buffers, cache.pad_B, ids_BT.shape[1] - cache.pad_B)
        if ids_BT.shape[1] != 1:
            raise ValueError(f"one token per row at a time after the prompt, not {ids_BT.shape[1]}")
        self._place(buffers, ids_BT, cache.length_B)
        self._session.run_with_iobinding(buffers.step)
        logits_B1V: Logits = buffers.logits.read()[:, None]
        return logits_B1V, self._give(buffers, cache.pad_B, cache.length_B + 1)

    def _owned(self, cache: Cache) -> Buffers:
        if cache.buffers.owner is not cache:
            raise ValueError("this cache was given up: a later one has its buffers")
        return cache.buffers

    def _give(self, buffers: Buffers, pad_B: Ints, length_B: Ints) -> Cache:
        buffers.owner = Cache(pad_B, length_B, buffers)
        return buffers.owner

    def _prompt(self, ids_BT: Ints, pad_B: Ints, buffers: Buffers, last: bool) -> Logits:
        """Read whole prompts, each turned to the left by its padding.

        A single row on the CPU is read chunk by chunk, which gives the same logits: a chunk is not compared with what
        comes after it (512 tokens of 10M parameters: a sixth to a quarter less time). ONNX Runtime before 1.32 has
        that for one row only.
        """
        size, length = ids_BT.shape
        place_BT = (np.arange(length) - pad_B[:, None]) % length  # where each of the padded places goes
        turned_BT = np.empty_like(ids_BT)
        np.put_along_axis(turned_BT, place_BT, ids_BT, axis=1)
        chunk = CHUNK if size == 1 and self.place == "cpu" and not pad_B.any() else length
        logits = []
        for first in range(0, length, chunk):
            end = min(first + chunk, length)
            rows_BT = place_BT[:, first:end] - first + (end - first) * np.arange(size)[:, None]
            inputs = {
                "input_ids": turned_BT[:, first:end].copy(),
                "last_place": (np.minimum(end, length - pad_B) - 1).astype(np.int32),
                "total_length": np.array(end, dtype=np.int32),
                "rows": (rows_BT[:, -1] if last else rows_BT.ravel()).copy(),
            }
            if self._learned_positions:
                inputs["position_ids"] = np.tile(np.arange(first, end), (size, 1))
            logits.append(self._read(inputs, buffers).reshape(size, -1, self.vocab_size))
        return logits[-1] if last else np.concatenate(logits, axis=1)

    def _read(self, inputs: dict[str, npt.NDArray[Any]], buffers: Buffers) -> Logits:
        """Run the graph on tokens of prompts; return the logits that `rows` asks for."""
        binding = self._session.io_binding()
        for name, value in inputs.items():
            binding.bind_cpu_input(name, value)
        binding.bind_output("logits", "cpu")
        bind_past(binding, buffers.past)
        self._session.run_with_iobinding(binding, self._prompt_options)
        logits: Logits = binding.get_outputs()[0].numpy()
        return logits

    def _place(self, buffers: Buffers, ids_B1: Ints, place_B: Ints) -> None:
        """Write what the next step reads: the new tokens and where they go."""
        buffers.inputs["input_ids"].write(ids_B1)
        buffers.inputs["last_place"].write(place_B)
        if self._learned_positions:
            buffers.inputs["position_ids"].write(place_B[:, None])

    def _allocate(self, size: int) -> Buffers:
        values: dict[str, npt.NDArray[Any]] = {
            "input_ids": np.zeros((size, 1), np.int64),
            "last_place": np.zeros(size, np.int32),
            "rows": np.arange(size),
        }
        if self._learned_positions:
            values["position_ids"] = np.zeros((size, 1), np.int64)
        inputs = {name: Buffer(self._ort, value, self.place) for name, value in values.items()}
        # In CPU memory, and the same in every step, as a captured graph wants it: the most that a row can hold.
        inputs["total_length"] = Buffer(self._ort, np.array(self.context, np.int32), "cpu")
        past = {
            name: Buffer(self._ort, untouched((size, *shape), dtype), self.place)
            for name, (shape, dtype) in self._past.items()
        }
        logits = Buffer(self._ort, np.zeros((size, self.vocab_size), np.float32), self.place)
        step = self._session.io_binding()
        for name, buffer in inputs.items():
            step.bind_ortvalue_input(name, buffer.tensor)
        step.bind_ortvalue_output("logits", logits.tensor)
        bind_past(step, past)
        return Buffers(size, past, inputs, logits, step)


def untouched(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return zeros that take memory page by page, when they are written.

    numpy's zeros come in pages of 2 MB on Linux, and the first tokens of every row and head lie in all of them.
    """
    memory = mmap.mmap(-1, math.prod(shape) * np.dtype(dtype).itemsize)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without large pages
            memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.ndarray(shape, dtype, memory)


def bind_past(binding: Any, past: dict[str, Buffer]) -> None:
    """Let every present be written where its past lies."""
    for name, buffer in past.items():
        binding.bind_ortvalue_input(name, buffer.tensor)
        binding.bind_ortvalue_output(name.replace("past", "present"), buffer.tensor)
