"""The graphs of a bundle: what each is called, where it runs, how it is judged, and what decodes with it.

portable  model.onnx  standard operators, fp32, growing cache: any ONNX runtime
fp32      fp32.onnx   ONNX Runtime's fused operators over a cache of fixed size
int8      int8.onnx   the same with weights, keys and values in 8 bits
fp16      fp16.onnx   the same in half precision; tokens are chosen on the device (sampler.onnx)
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gptmodel.decoding.engine import Decoder
from gptmodel.errors import UserError
from gptmodel.runtime.device_decoder import DeviceDecoder
from gptmodel.runtime.fast_decoder import FastDecoder
from gptmodel.runtime.portable_decoder import OnnxDecoder
from gptmodel.runtime.session import ChosenDevice, Device, pick

SAMPLER = "sampler.onnx"

Precision = Literal["fp32", "int8", "fp16"]


@dataclass(frozen=True)
class GraphSpec:
    """One graph of a bundle."""

    name: str
    file: str
    devices: tuple[ChosenDevice, ...]  # where it runs best, or at all
    precision: Precision
    gate: Literal["parity", "cost"]  # how export judges it: by its logits, or by what it costs a text
    companions: tuple[str, ...] = ()  # files that it needs beside its own
    every_network: bool = False  # or only a GPT

    @property
    def files(self) -> tuple[str, ...]:
        """All files that it needs."""
        return (self.file, *self.companions)

    def open(self, folder: Path, context: int, device: ChosenDevice, threads: int) -> Decoder:
        """Return its decoder; `UserError` as `session.open_session`, and for a graph of another kind."""
        try:
            if self.every_network:
                return OnnxDecoder(folder / self.file, context, device, threads)
            if self.companions:
                return DeviceDecoder(folder / self.file, folder / SAMPLER, device, threads)
            return FastDecoder(folder / self.file, device, threads)
        except (LookupError, UnicodeDecodeError) as error:  # it has other inputs or outputs
            raise UserError(f"{folder / self.file} is no graph of the kind {self.name}: export it again") from error


_SLOWEST_FIRST = (
    GraphSpec("portable", "model.onnx", ("cpu", "cuda"), "fp32", "parity", every_network=True),
    GraphSpec("fp32", "fp32.onnx", ("cpu",), "fp32", "parity"),
    GraphSpec("int8", "int8.onnx", ("cpu",), "int8", "cost"),
    GraphSpec("fp16", "fp16.onnx", ("cuda",), "fp16", "cost", (SAMPLER,)),
)
GRAPHS = {spec.name: spec for spec in _SLOWEST_FIRST}


def choose(
    device: Device, present: Collection[str], asked: str | None = None, exact: bool = False
) -> tuple[GraphSpec, ChosenDevice]:
    """Return the graph to run and where: the one `asked` for, or the fastest of those `present`.

    With `exact`, the fastest of those with torch's logits. `UserError` where the bundle does not have it, or it does
    not run on the device.
    """
    if asked is None:
        chosen = pick(device)
        able = [spec for spec in _SLOWEST_FIRST if spec.name in present and chosen in spec.devices]
        return [spec for spec in able if spec.gate == "parity" or not exact][-1], chosen
    if asked not in present:
        raise UserError(f"graph {asked}: this bundle has {', '.join(present)}")
    devices = GRAPHS[asked].devices
    chosen = pick(devices[0] if device == "auto" and len(devices) == 1 else device)
    if chosen not in devices:
        raise UserError(f"graph {asked} does not run on device {chosen}: leave out --device or --graph")
    return GRAPHS[asked], chosen
