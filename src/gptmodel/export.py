"""From a checkpoint to a bundle: the ONNX graph is built, held against torch, and written only if they agree."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnxruntime

from gptmodel import bundle, files, networks, onnx_graph, parity
from gptmodel.checkpoint import Meta
from gptmodel.dataset import Dataset
from gptmodel.errors import UserError
from gptmodel.networks import LanguageModel
from gptmodel.onnx_decoder import OnnxDecoder
from gptmodel.provenance import versions
from gptmodel.torch_decoder import TorchDecoder


def write_bundle(
    folder: Path, network: LanguageModel, meta: Meta, data: Dataset, metrics: Mapping[str, Any], tolerance: float
) -> dict[str, Any]:
    """Write the bundle of `network` (evaluation mode, CPU) to `folder` and return the parity figures.

    Raises:
        UserError: the tokenizer is not the one of the training, or a logit differs from torch's by more than
            `tolerance`; `folder` is then left as it was.
    """
    tokenizer = data.folder / "tokenizer.json"
    if files.sha256(tokenizer) != meta.tokenizer_sha256:
        raise UserError(f"{tokenizer} is not the one {meta.variant} was trained with: run `dvc repro`")
    model = onnx_graph.build(network).SerializeToString()
    reference = TorchDecoder(network)
    candidate = OnnxDecoder(model, reference.context, "cpu")
    proof = asdict(parity.check(reference, candidate, data.ids["validation"], network.context, tolerance))
    info = bundle.Info(
        variant=meta.variant,
        level=meta.level,
        context=reference.context,
        vocab_size=meta.vocab_size,
        network=meta.network.model_dump(mode="json"),
        parameters=networks.count_parameters(network),
        corpus=meta.identity()["corpus"],
        metrics=metrics,
        parity=proof,
        versions=versions("gptmodel", "torch", "onnx") | {"onnxruntime": onnxruntime.__version__},
        best_step=meta.best_step,
        fingerprint=meta.fingerprint,
    )
    bundle.write(folder, model, tokenizer, info)
    return proof
