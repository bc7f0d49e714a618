"""A fast graph (`fast_graph`) in one ONNX Runtime session, and the buffers that its steps read and write.

Everything that a step reads and writes lies in buffers of fixed size, allocated once per batch and bound once by IO
binding: the host writes the new ids and lengths into them, runs, and reads the logits. Keys and values never move.
Whoever decodes (`FastDecoder`, `DeviceDecoder`, the server's slots) shares the session and has buffers of its own.

Source: https://onnxruntime.ai/docs/api/python; past and present in one buffer: GroupQueryAttention in
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md.

Shape suffixes: B rows, T places, N all tokens of all rows, V vocabulary.
"""

import contextlib
import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gptmodel.arrays import Ints, Logits
from gptmodel.runtime import session
from gptmodel.runtime.session import ChosenDevice

NUMBERS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int8)": np.int8}  # of keys and values
CHUNK = 128  # tokens of a prompt that are read at a time


class Buffer:
    """A tensor at a fixed address of the device, written from numpy and read into it."""

    def __init__(self, ort: Any, value: npt.NDArray[Any], device: ChosenDevice) -> None:
        self._array = np.ascontiguousarray(value)  # on the CPU ONNX Runtime works on this memory itself
        self._on_cpu = device == "cpu"
        self.tensor = ort.OrtValue.ortvalue_from_numpy(self._array, device, 0)

    def write(self, value: npt.ArrayLike) -> None:
        """Replace the contents."""
        self._array[...] = value
        if not self._on_cpu:
            self.tensor.update_inplace(self._array)

    def read(self) -> npt.NDArray[Any]:
        """Return a copy of the contents."""
        return self._array.copy() if self._on_cpu else self.tensor.numpy()


@dataclass(eq=False)
class Buffers:
    """All that one batch needs, named as the graph's inputs, and the binding of a decoding step to it."""

    size: int  # rows
    past: dict[str, Buffer]
    inputs: dict[str, Buffer]
    logits: Buffer
    binding: Any


class FastSession:
    """Runs a model written by `fast_graph`; its sizes come from the graph. `UserError` as `session.open_session`."""

    def __init__(self, model: Path | bytes, device: ChosenDevice = "cpu", threads: int = 1) -> None:
        self.ort = session.onnxruntime()
        self.device = device
        capture = {"enable_cuda_graph": "1"} if device == "cuda" else {}
        self._session = session.open_session(model, device, threads, **capture)
        self._prompt_options = self.ort.RunOptions()
        self._prompt_options.add_run_config_entry("gpu_graph_id", "-1")  # prompts differ in length: not captured
        inputs = {value.name: value for value in self._session.get_inputs()}
        self.past_shapes = {
            name: (tuple(value.shape[1:]), NUMBERS[value.type])
            for name, value in inputs.items()
            if name.startswith("past_")
        }
        self.learned_positions = "position_ids" in inputs
        self.context: int = inputs["past_key.0"].shape[2]
        self.vocab_size: int = self._session.get_outputs()[0].shape[1]

    def allocate(self, size: int, past: dict[str, Buffer] | None = None) -> Buffers:
        """Return buffers for `size` rows; their keys and values are new, or lie in `past`."""
        values: dict[str, npt.NDArray[Any]] = {
            "input_ids": np.zeros((size, 1), np.int64),
            "last_place": np.zeros(size, np.int32),
            "rows": np.arange(size),
        }
        if self.learned_positions:
            values["position_ids"] = np.zeros((size, 1), np.int64)
        inputs = {name: Buffer(self.ort, value, self.device) for name, value in values.items()}
        # In CPU memory, and the same in every step, as a captured graph wants it: the most that a row can hold.
        inputs["total_length"] = Buffer(self.ort, np.array(self.context, np.int32), "cpu")
        if past is None:
            past = {
                name: Buffer(self.ort, untouched((size, *shape), dtype), self.device)
                for name, (shape, dtype) in self.past_shapes.items()
            }
        logits = Buffer(self.ort, np.zeros((size, self.vocab_size), np.float32), self.device)
        binding = self._session.io_binding()
        for name, buffer in inputs.items():
            binding.bind_ortvalue_input(name, buffer.tensor)
        binding.bind_ortvalue_output("logits", logits.tensor)
        _bind_past(binding, past)
        return Buffers(size, past, inputs, logits, binding)

    def read(self, rows: Sequence[Sequence[int]], past: dict[str, Buffer], everywhere: bool = False) -> Logits:
        """Read rows from their beginning into `past`; return the logits after each, (B, V).

        With `everywhere`, those after every token, row after row: (N, V). A single row on the CPU is read chunk by
        chunk, which takes less time and gives the same logits: a chunk is not compared with what comes after it. ONNX
        Runtime before 1.32 has that for one row only.
        """
        length_B = np.array([len(row) for row in rows], dtype=np.int64)
        length = int(length_B.max())
        ids_BT = np.zeros((len(rows), length), dtype=np.int64)
        for ids_T, row in zip(ids_BT, rows, strict=True):
            ids_T[: len(row)] = row
        chunk = CHUNK if len(rows) == 1 and self.device == "cpu" else length
        logits: list[Logits] = []
        for first in range(0, length, chunk):
            end = min(first + chunk, length)
            last_B = np.minimum(length_B, end) - 1
            wanted_BT = np.arange(first, end) < length_B[:, None]
            last_rows_B = last_B - first + (end - first) * np.arange(len(rows))
            inputs: dict[str, npt.NDArray[Any]] = {
                "input_ids": ids_BT[:, first:end].copy(),
                "last_place": last_B.astype(np.int32),
                "total_length": np.array(end, dtype=np.int32),
                "rows": np.flatnonzero(wanted_BT) if everywhere else last_rows_B,
            }
            if self.learned_positions:
                inputs["position_ids"] = np.tile(np.arange(first, end), (len(rows), 1))
            binding = self._session.io_binding()
            for name, value in inputs.items():
                binding.bind_cpu_input(name, value)
            binding.bind_output("logits", "cpu")
            _bind_past(binding, past)
            self._session.run_with_iobinding(binding, self._prompt_options)
            logits.append(binding.get_outputs()[0].numpy())
        return np.concatenate(logits) if everywhere else logits[-1]

    def place(self, buffers: Buffers, ids_B: Ints, place_B: Ints) -> None:
        """Write what the next step reads: the new tokens and where they go."""
        buffers.inputs["input_ids"].write(ids_B[:, None])
        buffers.inputs["last_place"].write(place_B)
        if self.learned_positions:
            buffers.inputs["position_ids"].write(place_B[:, None])

    def step(self, buffers: Buffers) -> None:
        """Feed the tokens that were placed; the logits are then in the buffers."""
        self._session.run_with_iobinding(buffers.binding)


def untouched(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return zeros that take memory page by page, when they are written.

    numpy's zeros come in pages of 2 MB on Linux, and the first tokens of every row and head lie in all of them.
    """
    memory = mmap.mmap(-1, math.prod(shape) * np.dtype(dtype).itemsize)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without large pages
            memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.ndarray(shape, dtype, memory)


def _bind_past(binding: Any, past: dict[str, Buffer]) -> None:
    """Let every present be written where its past lies."""
    for name, buffer in past.items():
        binding.bind_ortvalue_input(name, buffer.tensor)
        binding.bind_ortvalue_output(name.replace("past", "present"), buffer.tensor)
