"""Our network in PyTorch, eager, with its own growing cache: the reference of the greedy tokens."""

from pathlib import Path

import torch
import weights
import workload
from greedy import greedy

from gptmodel.model import networks
from gptmodel.model.torch_decoder import TorchDecoder


def load(folder: Path, job: workload.Job) -> workload.Loaded:
    """Load the weights."""
    torch.set_num_threads(job.threads)
    network = weights.load(folder, job.device)
    return workload.Loaded(greedy(TorchDecoder(network)), 4 * networks.count_parameters(network), ("torch", "numpy"))


if __name__ == "__main__":
    workload.main(load)
