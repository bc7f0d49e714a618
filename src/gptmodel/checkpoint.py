"""Saving and loading of weights: model.safetensors beside a meta.json that a person can read (see also `hf`).

What was saved is checked on load: format, hash of the weights, names and shapes of the tensors.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor

from gptmodel import files, networks
from gptmodel.errors import UserError
from gptmodel.networks import LanguageModel
from gptmodel.params import Level, Network
from gptmodel.strict import Strict, parse

WEIGHTS, META = "model.safetensors", "meta.json"


class Meta(Strict):
    """What one has to know about saved weights; the first field that differs on load is named."""

    format_version: Literal[2] = 2
    variant: str
    level: Level
    network: Network = Field(discriminator="network")
    vocab_size: int
    tokenizer_sha256: str
    corpus: dict[str, Any]
    fingerprint: str
    seed: int
    best_step: int = 0
    validation_loss_nats: float | None = None
    weights_sha256: str = ""

    @property
    def language(self) -> str | None:
        """The text's language; what cleaning took it for where the catalog does not say, None if that is not known."""
        guessed = "fr" if self.corpus["typography"] == "fr" else None
        return self.corpus["language"] or guessed

    def identity(self) -> dict[str, Any]:
        """Return what names this training wherever it is tracked: fingerprint, variant, level and corpus."""
        facts = ("name", "title", "author", "year", "language", "licence")
        corpus = {key: self.corpus[key] for key in facts if self.corpus.get(key) is not None}
        return {"fingerprint": self.fingerprint, "variant": self.variant, "level": self.level, "corpus": corpus}


def save(folder: Path, weights: Mapping[str, Tensor], meta: Meta) -> None:
    """Write the checkpoint; an older one in `folder` is replaced only when the new one is complete."""
    with files.whole_folder(folder) as partial:
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        data = serialize(tensors)  # not save_file: its errors do not say that the disk is full
        (partial / WEIGHTS).write_bytes(data)
        stored = meta.model_copy(update={"weights_sha256": hashlib.sha256(data).hexdigest()})
        files.write_json(partial / META, stored.model_dump(mode="json"))


def load(folder: Path, device: torch.device | str = "cpu") -> tuple[LanguageModel, Meta]:
    """Return the network in evaluation mode and its meta; `UserError` for a missing or damaged checkpoint."""
    meta = read_meta(folder)
    weights = folder / WEIGHTS
    if not weights.exists() or files.sha256(weights) != meta.weights_sha256:
        raise UserError(f"{weights} is missing or was altered: run `dvc repro train@{meta.variant}` again")
    network = networks.build(meta.network, meta.vocab_size)
    try:
        tensors = load_file(weights)
        missing, unexpected = network.load_state_dict(tensors, strict=False)
    except (SafetensorError, RuntimeError) as error:
        raise UserError(f"{weights} does not fit the network in {META}: {error}") from None
    if unexpected or set(missing) - {"head.weight"}:
        raise UserError(f"{weights} does not fit the network in {META}: {[*missing, *unexpected]}")
    return network.to(device).eval(), meta


def read_meta(folder: Path) -> Meta:
    """Return the meta of a checkpoint without loading its weights."""
    path = folder / META
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: train the model first (dvc repro)") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): train the model again (dvc repro)") from None
    return parse(Meta, values, path)
