"""Saving and loading of weights: model.safetensors beside a meta.json that a person can read (see also `export.hf`).

What was saved is checked on load: format, hash of the weights, names and shapes of the tensors.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor

from gptmodel import files
from gptmodel.data.tokenizer import Tokenizer
from gptmodel.errors import UserError
from gptmodel.model import networks
from gptmodel.model.networks import LanguageModel
from gptmodel.results.training import Meta

WEIGHTS, META = "model.safetensors", "meta.json"


def save(folder: Path, weights: Mapping[str, Tensor], meta: Meta) -> None:
    """Write the checkpoint; an older one in `folder` is replaced only when the new one is complete."""
    with files.whole_folder(folder) as partial:
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        data = serialize(tensors)  # not save_file: its errors do not say that the disk is full
        files.write_bytes(partial / WEIGHTS, data)
        meta.model_copy(update={"weights_sha256": hashlib.sha256(data).hexdigest()}).write(partial / META)


def load(folder: Path, device: torch.device | str = "cpu") -> tuple[LanguageModel, Meta]:
    """Return the network in evaluation mode and its meta; `UserError` for a missing or damaged checkpoint."""
    meta = read_meta(folder)
    weights = folder / WEIGHTS
    if not weights.exists() or files.sha256(weights) != meta.weights_sha256:
        raise UserError(f"{weights} is missing or was altered: run `dvc repro train@{meta.name}` again")
    network = networks.build(networks.architecture(meta.model), meta.vocab_size)
    try:
        networks.load_weights(network, load_file(weights))
    except (SafetensorError, RuntimeError) as error:
        raise UserError(f"{weights} does not fit the network in {META}: {error}") from None
    return network.to(device).eval(), meta


def load_with_tokenizer(
    folder: Path, tokens: Path, device: torch.device | str = "cpu"
) -> tuple[LanguageModel, Tokenizer, Meta]:
    """Return the network in evaluation mode, its tokenizer and its meta; `tokens` holds a folder for each level.

    `UserError` if something is missing, damaged, or not what the network was trained with.
    """
    network, meta = load(folder, device)
    path = tokens / meta.level / "tokenizer.json"
    tokenizer = Tokenizer.load(path)
    if files.sha256(path) != meta.tokenizer_sha256:
        raise UserError(f"{path} is not the one {meta.name} was trained with: run `dvc repro`")
    return network, tokenizer, meta


def read_meta(folder: Path) -> Meta:
    """Return the meta of a checkpoint without loading its weights."""
    return Meta.read(folder / META, "train the model first (dvc repro)")
