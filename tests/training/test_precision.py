"""How a machine computes is chosen by what it can do, and what it lacks is said."""

import json
import shutil
import time
from typing import Any

import pytest
import torch

from gptmodel.errors import UserError
from gptmodel.params import Engine
from gptmodel.training import precision as choice
from gptmodel.training.precision import Numerics, bfloat16_hardware, choose, matrix_rate
from tests.support.training import EAGER, MUON, SPLITS, trainer

CPU = torch.device("cpu")
AMX = {"amx_bf16": True, "avx512_bf16": True, "avx2": True}
AVX512 = {"amx_bf16": False, "avx512_bf16": True, "avx2": True}
ARM = {"neon": True, "bf16": True}
PLAIN = {"amx_bf16": False, "avx512_bf16": False, "avx2": True}


def processor(capabilities: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch see another processor."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)


def chosen(monkeypatch: pytest.MonkeyPatch, **engine: Any) -> tuple[Numerics, list[str]]:
    monkeypatch.setattr(
        choice, "matrix_rate", lambda device, dtype, size: {torch.float32: 1e9, torch.bfloat16: 2e9}[dtype]
    )
    said: list[str] = []
    values = {"precision": "auto", "execution": "eager", "nonfinite": "stop", **engine}
    found, rate = choose(Engine(**values), CPU, said.append)
    assert rate == {"float32": 1e9, "bfloat16": 2e9}[found.precision]
    return found, said


@pytest.mark.parametrize(
    ("capabilities", "precision", "described"),
    [
        (AMX, "bfloat16", "bfloat16 (amx_bf16)"),
        (AVX512, "bfloat16", "bfloat16 (avx512_bf16)"),
        (ARM, "bfloat16", "bfloat16 (bf16)"),
        (PLAIN, "float32", "float32"),
        ({}, "float32", "float32"),
    ],
)
def test_auto_takes_bfloat16_where_the_processor_multiplies_it(
    capabilities: dict[str, bool], precision: str, described: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor(capabilities, monkeypatch)
    found, said = chosen(monkeypatch)
    assert (found.precision, found.device, found.execution) == (precision, "cpu", "eager")
    assert found.describe() == described
    assert said == []


@pytest.mark.parametrize(("capability", "hardware"), [((7, 5), None), ((8, 0), "compute capability 8.0")])
def test_on_cuda_the_compute_capability_decides(
    capability: tuple[int, int], hardware: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    processor(AMX, monkeypatch)  # the host's does not count
    assert bfloat16_hardware(torch.device("cuda")) == hardware


def test_on_mps_and_before_torch_2_13_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    processor(AMX, monkeypatch)
    assert bfloat16_hardware(torch.device("mps")) is None
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert bfloat16_hardware(CPU) is None


def test_torch_knows_the_instructions_by_these_names() -> None:
    """Those of this machine's architecture; a name that torch has not would never be found."""
    found = torch.cpu.get_capabilities()
    names = {"x86_64": ["amx_bf16", "avx512_bf16"], "aarch64": ["bf16"], "arm64": ["bf16"]}
    assert [name for name in choice.BFLOAT16_INSTRUCTIONS if name in found] == names.get(found["architecture"], [])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("capabilities", [AMX, PLAIN])
def test_what_the_parameters_say_counts_whatever_the_machine_is_good_at(
    precision: str, capabilities: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    processor(capabilities, monkeypatch)
    assert chosen(monkeypatch, precision=precision)[0].precision == precision


def test_bfloat16_that_was_asked_for_without_hardware_is_described_without() -> None:
    assert Numerics("mps", "bfloat16", "eager", threads=1).describe() == "bfloat16"


def test_a_cuda_graph_needs_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"engine.execution: graph needs a CUDA device: set eager or compile"):
        chosen(monkeypatch, execution="graph")


def test_compile_without_a_compiler_is_said_and_goes_on_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found, (line,) = chosen(monkeypatch, execution="compile")
    assert found.execution == "eager"
    assert "C++ compiler" in line
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    found, said = chosen(monkeypatch, execution="compile")
    assert (found.execution, said) == ("compile", [])


def test_what_was_chosen_survives_json() -> None:
    found = Numerics("cpu", "bfloat16", "eager", threads=3)
    assert Numerics(**json.loads(json.dumps(found.as_dict()))) == found


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_matrix_products_are_computed_in_the_chosen_precision(precision: Any, dtype: torch.dtype) -> None:
    a = torch.ones(2, 2)
    found = Numerics("cpu", precision, "eager", threads=1)
    with found.autocast():
        assert (a @ a).dtype == found.dtype == dtype


def test_the_rate_is_that_of_a_product_of_two_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1e6 < matrix_rate(CPU, torch.float32, 64) < 1e15
    seconds = iter([0, 100, 0, 2, 0, 4, 0, 2, 0, 9, 0, 1])  # a slow first product and five others, median 2
    monkeypatch.setattr(time, "perf_counter", lambda: next(seconds))
    assert matrix_rate(CPU, torch.float32, 10) == 2 * 10**3 / 2


@pytest.mark.parametrize("muon", [0.0, MUON])
def test_a_bfloat16_training_lands_near_the_float32_one(muon: float) -> None:
    values: dict[str, Any] = {"learning_rate": 1e-2, "dropout": 0.0, "muon_learning_rate": muon}
    plain = list(trainer(**values).run())
    short = trainer(**values, numerics=Numerics("cpu", "bfloat16", "eager", threads=1))
    found = list(short.run())
    assert all(parameter.dtype == torch.float32 for parameter in short.network.parameters())
    tokens = len(SPLITS["validation"])
    assert found[-1].validation_nats / tokens == pytest.approx(plain[-1].validation_nats / tokens, abs=0.05)
    assert found[-1].validation_nats != plain[-1].validation_nats
    assert EAGER.precision == "float32"
