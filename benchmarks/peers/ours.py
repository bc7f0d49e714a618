"""Our ONNX files and their decoders, without torch. Variants: fast-fp32, fast-int8, fast-fp16, portable-fp32.

As in a bundle, fp16 chooses its tokens on the device (`gptmodel.runtime.device_decoder`).
"""

from pathlib import Path

import numpy as np
import workload
from greedy import greedy

from gptmodel.decoding.engine import Decoder
from gptmodel.runtime.device_decoder import DeviceDecoder
from gptmodel.runtime.fast_decoder import FastDecoder
from gptmodel.runtime.graphs import SAMPLER
from gptmodel.runtime.portable_decoder import OnnxDecoder


def convert(folder: Path, model: Path, job: workload.Job) -> None:
    """Export the network, in a process that may import torch."""
    import weights

    from gptmodel.data import windows
    from gptmodel.export import calibration, fast_graph, portable_graph, sampler_graph

    network = weights.load(folder)
    graph, precision = job.mode.split("-")
    if graph == "portable":
        built = portable_graph.build(network)
    else:
        [text] = workload.prompts(job, 1, windows.POSITIONS)
        built = fast_graph.build(network, precision, calibration.cache_ranges(network, np.array(text)))
    model.write_bytes(built.SerializeToString())
    (folder / SAMPLER).write_bytes(sampler_graph.build().SerializeToString())


def load(model: Path, job: workload.Job) -> workload.Loaded:
    """Open the session."""
    decoder: Decoder
    if job.mode == "portable-fp32":
        decoder = OnnxDecoder(model, job.context, job.device, job.threads)
    elif job.mode == "fast-fp16":
        decoder = DeviceDecoder(model, model.parent / SAMPLER, job.device, job.threads)
    else:
        decoder = FastDecoder(model, job.device, job.threads)
    return workload.Loaded(greedy(decoder), model.stat().st_size, ("onnxruntime", "onnxruntime-gpu", "numpy"))


if __name__ == "__main__":
    workload.main(load, convert)
