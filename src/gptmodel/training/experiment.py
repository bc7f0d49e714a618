"""One training before it begins: what goes into it, and a fingerprint of all that decides its weights."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptmodel.data.dataset import Dataset
from gptmodel.params import Params
from gptmodel.results.training import Meta

CODE = ("data", "decoding", "model", "training")  # the rooms that make a training: those of its stage in dvc.yaml
FINGERPRINT_DIGITS = 16  # 64 bits: enough to tell trainings apart, short enough to read


@dataclass(frozen=True)
class Experiment:
    """A training before it begins."""

    data: Dataset
    meta: Meta
    identity: dict[str, Any]  # the values that the fingerprint is made of, by name; data files by hash


def describe(name: str, settings: Params, data: Dataset, device: str) -> Experiment:
    """Return the training of model `name` on `data`; its fingerprint holds parameters, data, device and code."""
    model = settings.model(name)
    hashes = data.hashes()
    identity = {
        "name": name,
        "model": model.model_dump(mode="json"),
        "seed": settings.seed,
        "engine": settings.engine.model_dump(mode="json"),
        "device": device,
        "threads": settings.threads,
        "data": hashes,
    }
    meta = Meta(
        name=name,
        model=model,
        engine=settings.engine,
        seed=settings.seed,
        vocab_size=data.tokenizer.vocab_size,
        tokenizer_sha256=hashes["tokenizer.json"],
        text=data.text,
        fingerprint=fingerprint(identity),
        best_step=0,  # nothing is trained yet
        validation_loss_nats=None,
    )
    return Experiment(data, meta, identity)


def fingerprint(values: Mapping[str, Any]) -> str:
    """Return hexadecimal digits that change when any of the JSON-able `values` or the code in `CODE` changes."""
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    library = Path(__file__).resolve().parent.parent
    for room in CODE:
        for path in sorted((library / room).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:FINGERPRINT_DIGITS]
