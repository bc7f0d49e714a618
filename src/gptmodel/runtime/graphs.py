"""The graphs of a bundle: what each is called, where it runs, and which is the best for a device.

portable  model.onnx  standard operators, fp32, growing cache: any ONNX runtime
fp32      fp32.onnx   ONNX Runtime's fused operators over a cache of fixed size
int8      int8.onnx   the same with weights, keys and values in 8 bits
fp16      fp16.onnx   the same in half precision; tokens are chosen on the device (sampler.onnx)
"""

from collections.abc import Collection
from dataclasses import dataclass

from gptmodel.errors import UserError
from gptmodel.runtime.session import Device, Place, pick

SAMPLER = "sampler.onnx"


@dataclass(frozen=True)
class Graph:
    """One ONNX file of a bundle."""

    file: str
    places: tuple[Place, ...]


GRAPHS = {
    "portable": Graph("model.onnx", ("cpu", "cuda")),
    "fp32": Graph("fp32.onnx", ("cpu",)),
    "int8": Graph("int8.onnx", ("cpu",)),
    "fp16": Graph("fp16.onnx", ("cuda",)),
}
FASTEST_FIRST: dict[Place, tuple[str, ...]] = {"cpu": ("int8", "fp32", "portable"), "cuda": ("fp16", "portable")}


def files(name: str) -> list[str]:
    """Return the ONNX files that a graph needs."""
    return [GRAPHS[name].file, *([SAMPLER] if name == "fp16" else [])]


def choose(device: Device, present: Collection[str], asked: str | None = None) -> tuple[str, Place]:
    """Return the name of the graph to run and where: the one `asked` for, or the fastest of those `present`.

    `UserError` where the bundle does not have it, or it does not run on the device.
    """
    if asked is None:
        place = pick(device)
        return next(name for name in FASTEST_FIRST[place] if name in present), place
    if asked not in present:
        raise UserError(f"graph {asked}: this bundle has {', '.join(present)}")
    places = GRAPHS[asked].places
    if device == "auto" and len(places) == 1:
        return asked, pick(places[0])
    place = pick(device)
    if place not in places:
        raise UserError(f"graph {asked} does not run on device {place}: leave out --device or --graph")
    return asked, place
