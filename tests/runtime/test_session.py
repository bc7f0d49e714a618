import subprocess
import sys

import onnxruntime
import pytest
import torch

from gptmodel.errors import UserError
from gptmodel.runtime import session
from gptmodel.runtime.session import CPU, CUDA, pick


def test_a_missing_onnxruntime_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"pip install 'gptmodel\[cpu\]'"):
        pick("auto")


def test_cuda_without_its_provider_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    with pytest.raises(UserError, match=r"gptmodel\[gpu\]"):
        pick("cuda")
    assert pick("auto") == "cpu"


def test_with_a_provider_and_a_gpu_auto_is_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(session, "_gpu_is_here", lambda: True)
    assert (pick("auto"), pick("cuda"), pick("cpu")) == ("cuda", "cuda", "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_one_line() -> None:
    if CUDA not in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime without the CUDA provider")
    code = (
        "import sys; from gptmodel.errors import one_line_errors; from gptmodel.runtime.session import pick\n"
        "with one_line_errors(): print(pick(sys.argv[1]))"
    )
    outcomes = {}
    for device in ("auto", "cuda"):
        command = [sys.executable, "-c", code, device]
        outcomes[device] = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (outcomes["auto"].stdout, outcomes["auto"].stderr) == ("cpu\n", "")
    assert outcomes["cuda"].returncode == 2
    assert outcomes["cuda"].stderr == "error: device cuda: no NVIDIA GPU or driver was found: use device cpu or auto\n"
