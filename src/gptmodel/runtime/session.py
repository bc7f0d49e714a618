"""Opening an ONNX Runtime session on a device; needs onnxruntime only.

Devices: `auto` takes CUDA where a driver, a device and the CUDA provider are all there, else the CPU; `cuda` is an
error where one of them is missing (ONNX Runtime by itself would go on silently on the CPU). Products on CUDA are in
full fp32 (no TF32), so that the texts agree with the CPU's.

Source: https://onnxruntime.ai/docs/api/python.
"""

import contextlib
import ctypes
import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from gptmodel.errors import UserError

Device = Literal["auto", "cpu", "cuda"]  # as it is asked for
ChosenDevice = Literal["cpu", "cuda"]  # as it is
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
MOST_THREADS = 1024  # more are started one by one, for minutes, before the first token
FATAL_ONLY = 4  # severity of ONNX Runtime's log on standard error


class CudaNotLoaded(UserError):
    """There is a GPU and a CUDA provider, but a library that it needs is not there."""


def onnxruntime() -> ModuleType:
    """Return the package, which sends nothing to its maker; `UserError` where it is not installed.

    From 1.31 on it reports to Microsoft what it runs on, unless this variable is set before it is imported.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        package = importlib.import_module("onnxruntime")
    except ImportError:
        raise UserError(
            "ONNX Runtime is not installed: pip install 'gptmodel[cpu]', or 'gptmodel[gpu]' for an NVIDIA GPU"
        ) from None
    package.set_default_logger_severity(FATAL_ONLY)  # everything else arrives as an exception or is checked
    return package


def pick(device: Device) -> ChosenDevice:
    """Return what `device` means here: CUDA or the CPU; `UserError` where CUDA is asked for and not there."""
    if device == "cpu":
        return "cpu"
    missing = ""
    if CUDA not in onnxruntime().get_available_providers():
        missing = "this onnxruntime has no CUDA: pip install 'gptmodel[gpu]' in place of [cpu]"
    elif not _gpu_is_here():
        missing = "device cuda: no NVIDIA GPU or driver was found: use device cpu or auto"
    if missing and device == "cuda":
        raise UserError(missing)
    return "cpu" if missing else "cuda"


def open_session(model: Path | bytes, device: ChosenDevice, threads: int, **cuda: str) -> Any:
    """Return a session whose operators run on `threads` CPU threads; `cuda` are options of the CUDA provider.

    Raises:
        UserError: onnxruntime is not installed, the model cannot be read, or (`CudaNotLoaded`) there is no CUDA.
    """
    ort = onnxruntime()
    if not 1 <= threads <= MOST_THREADS:
        raise UserError(f"threads must be between 1 and {MOST_THREADS:,}, not {threads}: one for each core is the most")
    options = ort.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    options.intra_op_num_threads = threads
    # Threads that wait for each other do it awake: faster where each has a core of its own.
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(threads > 1)))
    providers: list[Any] = [CPU]
    if device == "cuda":
        with contextlib.redirect_stdout(sys.stderr):  # where it says which library is missing
            ort.preload_dlls()
        providers = [(CUDA, {"use_tf32": "0", **cuda}), CPU]
    source = model if isinstance(model, bytes) else str(model)
    try:
        # On the CPU there is nothing to fall back to, and it would say so on standard output.
        session = ort.InferenceSession(source, options, providers=providers, enable_fallback=int(device == "cuda"))
    except _load_errors() as error:
        name = "the model" if isinstance(model, bytes) else str(model)
        raise UserError(f"ONNX Runtime {ort.__version__} cannot load {name}: {error}: export it again") from None
    if device == "cuda" and session.get_providers()[0] != CUDA:
        raise CudaNotLoaded(
            "the CUDA or cuDNN libraries cannot be loaded: pip install 'gptmodel[gpu]', or use device cpu"
        )
    return session


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

    of_the_file = (state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NoModel, state.NoSuchFile)
    not_text = UnicodeDecodeError  # of a message that quotes the file
    return (*of_the_file, state.Fail, state.NotImplemented, state.RuntimeException, not_text)
