"""Which peers there are, with the versions that are measured, and the environment that each one runs in."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from gptmodel import files

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parent / ".peers"  # ignores itself
INSTALL_SECONDS = 600
NUMPY, TORCH, TRANSFORMERS = "numpy==2.4.6", "torch==2.13.0", "transformers==5.23.0"
# GCC 12's amxtileintrin.h declares only 8 of the 64 bytes that ldtilecfg reads: the stores of the others would be
# dropped as dead, and llama.cpp would crash on 8-bit weights where the CPU has AMX.
LLAMA_BUILD = "-DLLAVA_BUILD=OFF -DCMAKE_CXX_FLAGS='-fno-tree-dse -fno-dse'"


def both(*requirements: str) -> dict[str, tuple[str, ...]]:
    """Return the same requirements on a CPU and on CUDA."""
    return {"cpu": requirements, "cuda": requirements}


@dataclass(frozen=True)
class Peer:
    """A script beside this file; by device, the modes that it measures and what pip installs for it.

    Without requirements it runs in the project's environment. `cmake` are arguments for what pip has to compile.
    """

    title: str
    modes: Mapping[str, tuple[str, ...]]
    requirements: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    cmake: Mapping[str, str] = field(default_factory=dict)


PEERS = {
    "ours": Peer("ours", {"cpu": ("fast-fp32", "fast-int8", "portable-fp32"), "cuda": ("fast-fp16", "portable-fp32")}),
    "torch_eager": Peer("PyTorch eager", {"cpu": ("fp32",), "cuda": ("fp32",)}),
    "torch_compiled": Peer("PyTorch compiled", {"cpu": ("fp32",), "cuda": ("fp32", "fp16")}),
    "transformers_generate": Peer(
        "transformers", {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "fp16")}, both(TRANSFORMERS, TORCH, NUMPY)
    ),
    "ort_genai": Peer(
        "onnxruntime-genai",
        {"cpu": ("fp32", "int8", "int4"), "cuda": ("fp16",)},
        {
            "cpu": ("onnxruntime-genai==0.18.0", "onnxruntime==1.32.0", "onnx-ir==1.1.0", TRANSFORMERS, TORCH, NUMPY),
            "cuda": ("onnxruntime-genai-cuda==0.18.0", "onnx-ir==1.1.0", TRANSFORMERS, TORCH, NUMPY),
        },
    ),
    "ct2": Peer(
        "CTranslate2",
        {"cpu": ("fp32", "int8"), "cuda": ("fp32", "fp16")},
        both("ctranslate2==4.8.5", TRANSFORMERS, TORCH, NUMPY),
    ),
    "llamacpp": Peer(
        "llama.cpp",
        {"cpu": ("fp32", "fp16", "q8_0"), "cuda": ("fp16",)},
        both("llama-cpp-python==0.3.36", "gguf==0.19.0", "safetensors==0.8.0", NUMPY),
        {"cpu": LLAMA_BUILD, "cuda": f"{LLAMA_BUILD} -DGGML_CUDA=ON"},
    ),
}


class Missing(Exception):
    """A peer cannot be installed or cannot run; the message is the reason, one line."""


@cache
def interpreter(name: str, device: str) -> Path | Missing:
    """Return the Python of a peer, or why there is none; its environment is made where it is not there as pinned."""
    peer = PEERS[name]
    if device not in peer.requirements:
        return Path(sys.executable)
    try:
        return install(name, peer, device)
    except Missing as reason:
        return reason


def install(name: str, peer: Peer, device: str) -> Path:
    """Return the Python of an environment with exactly what is pinned; `Missing` if pip fails."""
    cmake = peer.cmake.get(device, "")
    folder, wanted = ENVIRONMENTS / f"{name}-{device}", "\n".join((*peer.requirements[device], cmake))
    done, python = folder / "installed.txt", folder / "bin" / "python"
    if done.exists() and done.read_text(encoding="utf-8") == wanted:
        return python
    print(f"{name}: installing {', '.join(peer.requirements[device])}", flush=True)
    files.write_text(ENVIRONMENTS / ".gitignore", "*\n")
    shutil.rmtree(folder, ignore_errors=True)
    run([sys.executable, "-m", "venv", str(folder)], INSTALL_SECONDS)
    pip = [str(python), "-m", "pip", "install", "--quiet", *peer.requirements[device]]
    if cmake:  # a wheel in pip's cache may have been compiled with other arguments
        run([*pip, "--no-cache-dir"], INSTALL_SECONDS, CMAKE_ARGS=cmake)
    else:
        run(pip, INSTALL_SECONDS)
    files.write_text(done, wanted)
    return python


def run(command: list[str], seconds: int, **variables: str) -> str:
    """Run a command and return what it printed; `Missing` where it fails or takes more than `seconds`."""
    told = os.environ | variables
    try:
        done = subprocess.run(command, env=told, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise Missing(f"it took more than {seconds} s") from None
    if done.returncode < 0:
        raise Missing(f"it was ended by signal {-done.returncode}")
    if done.returncode:
        raise Missing(last_line(done.stderr))
    return done.stdout


def last_line(text: str) -> str:
    """Return the line that says why: pip's last ERROR, else the last line, which of a traceback is the exception.

    >>> last_line("Traceback ...\\n\\nValueError: no such model\\n")
    'ValueError: no such model'
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["it said nothing"])[-1]
