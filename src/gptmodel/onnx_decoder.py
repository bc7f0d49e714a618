"""An ONNX Runtime session as a `decoding.Decoder`. Needs onnxruntime and numpy only.

The cache stays where the session runs: IO binding hands the `present` outputs of one step to the `past` inputs of the
next without a copy to Python.

Devices: `auto` takes CUDA where a driver, a device and the CUDA provider are all there, else the CPU; `cuda` is an
error where one of them is missing (ONNX Runtime by itself would go on silently on the CPU). Products on CUDA are in
full fp32 (no TF32), so that the texts agree with the CPU's.

Left out on purpose: other providers, CUDA graphs, sampling inside the graph.
Source: https://onnxruntime.ai/docs/api/python and measurements on onnxruntime 1.31.
"""

import contextlib
import ctypes
import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

import numpy as np

from gptmodel.decoding import Ids, Logits
from gptmodel.errors import UserError

Device = Literal["auto", "cpu", "cuda"]
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
FATAL_ONLY = 4  # severity of ONNX Runtime's log on standard error


class Cache(NamedTuple):
    """Left padding of each row, and keys and values per layer as ONNX Runtime values, named as the graph's inputs."""

    pad_B: Ids
    past: dict[str, Any]


class OnnxDecoder:
    """Runs a model written by `onnx_graph`; its sizes come from the graph, `context` from the bundle.

    `threads` run one operator on the CPU. One is the fastest for networks of this project's size: of 1 M and 11 M
    parameters, two threads on 2 cores reached 0.3 to 0.9 times its tokens per second. `UserError` when onnxruntime
    is not installed, the model cannot be read, or `device` is cuda and there is none.
    """

    def __init__(self, model: Path | bytes, context: int, device: Device = "auto", threads: int = 1) -> None:
        ort = _onnxruntime()
        self._session = _open(ort, model, device, threads)
        self._ort = ort
        self.context, self.threads = context, threads
        self.device = "cuda" if self._session.get_providers()[0] == CUDA else "cpu"
        inputs = {value.name: value.shape for value in self._session.get_inputs()}
        self._past_shapes = {name: (shape[1], shape[3]) for name, shape in inputs.items() if name.startswith("past_")}
        self._padded = "pad" in inputs
        self.vocab_size: int = self._session.get_outputs()[0].shape[2]

    def empty_cache(self, pad_B: Ids) -> Cache:
        """Return the cache before the first token."""
        past = {}
        for name, (heads, size) in self._past_shapes.items():
            nothing = np.zeros((len(pad_B), heads, 0, size), dtype=np.float32)
            past[name] = self._ort.OrtValue.ortvalue_from_numpy(nothing)
        return Cache(pad_B, past)

    def __call__(self, ids_BT: Ids, cache: Cache) -> tuple[Logits, Cache]:
        """Return logits (B, T, V) and the new cache."""
        binding = self._session.io_binding()
        binding.bind_cpu_input("input_ids", np.ascontiguousarray(ids_BT))
        if self._padded:
            binding.bind_cpu_input("pad", cache.pad_B)
        binding.bind_output("logits", "cpu")
        for name, value in cache.past.items():
            binding.bind_ortvalue_input(name, value)
            binding.bind_output(name.replace("past", "present"), self.device)
        self._session.run_with_iobinding(binding)
        logits, *present = binding.get_outputs()
        return logits.numpy(), Cache(cache.pad_B, dict(zip(cache.past, present, strict=True)))


def _onnxruntime() -> ModuleType:
    try:
        onnxruntime = importlib.import_module("onnxruntime")
    except ImportError:
        raise UserError(
            "ONNX Runtime is not installed: pip install 'gptmodel[cpu]', or 'gptmodel[gpu]' for an NVIDIA GPU"
        ) from None
    onnxruntime.set_default_logger_severity(FATAL_ONLY)  # everything else arrives as an exception or is checked
    return onnxruntime


def _open(ort: ModuleType, model: Path | bytes, device: Device, threads: int) -> Any:
    if threads < 1:
        raise UserError(f"threads must be 1 or above, not {threads}")
    providers = [CPU] if device == "cpu" else _providers(ort, device == "cuda")
    options = ort.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads leave the cores alone
    source = model if isinstance(model, bytes) else str(model)
    try:
        session = ort.InferenceSession(source, options, providers=providers)
    except _load_errors() as error:
        name = "the model" if isinstance(model, bytes) else str(model)
        raise UserError(f"ONNX Runtime {ort.__version__} cannot load {name}: {error}: export it again") from None
    if device == "cuda" and session.get_providers()[0] != CUDA:
        raise UserError("the CUDA or cuDNN libraries cannot be loaded: pip install 'gptmodel[gpu]', or use device cpu")
    return session


def _providers(ort: ModuleType, cuda_is_a_must: bool) -> list[Any]:
    if CUDA not in ort.get_available_providers():
        if cuda_is_a_must:
            raise UserError("this onnxruntime has no CUDA: pip install 'gptmodel[gpu]' in place of [cpu]")
        return [CPU]
    if not _gpu_is_here():
        if cuda_is_a_must:
            raise UserError("device cuda: no NVIDIA GPU or driver was found: use device cpu or auto")
        return [CPU]
    with contextlib.redirect_stdout(sys.stderr):  # where it says which library is missing
        ort.preload_dlls()
    return [(CUDA, {"use_tf32": "0"}), CPU]


def _gpu_is_here() -> bool:
    """Ask the NVIDIA driver for devices: ONNX Runtime lists the CUDA provider even on a machine without any."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def _load_errors() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NoModel,
        state.NoSuchFile,
        state.NotImplemented,
        state.RuntimeException,
    )
