"""From a checkpoint to a bundle: each ONNX graph is built, held against torch, and all are written only if all pass."""

from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import onnxruntime

from gptmodel import files
from gptmodel.arrays import Ids
from gptmodel.data.dataset import Dataset
from gptmodel.data.tokenizer import Tokenizer
from gptmodel.errors import UserError
from gptmodel.export import calibration, fast_graph, hf, parity, portable_graph, sampler_graph
from gptmodel.model import networks
from gptmodel.model.checkpoint import Meta
from gptmodel.model.gpt import GPT
from gptmodel.model.loss import total_nats
from gptmodel.model.networks import LanguageModel
from gptmodel.model.torch_decoder import TorchDecoder
from gptmodel.params import Export
from gptmodel.runtime import bundle
from gptmodel.runtime.graphs import GRAPHS, SAMPLER


def write_bundle(
    folder: Path, network: LanguageModel, meta: Meta, data: Dataset, metrics: Mapping[str, Any], limits: Export
) -> dict[str, Any]:
    """Write the bundle of `network` (evaluation mode, CPU) to `folder`; return how close each graph is to torch.

    Raises:
        UserError: the tokenizer is not the one of the training, or a graph differs from torch by more than `limits`
            allows; `folder` is then left as it was.
    """
    tokenizer = data.folder / "tokenizer.json"
    if files.sha256(tokenizer) != meta.tokenizer_sha256:
        raise UserError(f"{tokenizer} is not the one {meta.variant} was trained with: run `dvc repro`")
    with files.whole_folder(folder) as partial:
        (partial / bundle.TOKENIZER).write_bytes(tokenizer.read_bytes())
        write_graphs(partial, network, data.ids["train"])
        proof = {name: _prove(partial, name, network, data, limits) for name in graphs(network)}
        info = bundle.Info(
            variant=meta.variant,
            level=meta.level,
            context=TorchDecoder(network).context,
            vocab_size=meta.vocab_size,
            network=meta.network.model_dump(mode="json"),
            parameters=networks.count_parameters(network),
            corpus=meta.identity()["corpus"],
            metrics=metrics,
            graphs=proof,
            versions=versions("gptmodel", "torch", "onnx") | {"onnxruntime": onnxruntime.__version__},
            best_step=meta.best_step,
            fingerprint=meta.fingerprint,
        )
        bundle.write_info(partial, info)
    return proof


def write_hf(folder: Path, network: LanguageModel, tokenizer: Tokenizer) -> None:
    """Write the folder that Hugging Face transformers loads, or one that says why it cannot."""
    if hf.home(network):
        hf.write(folder, network, tokenizer)
    else:
        with files.whole_folder(folder) as partial:
            (partial / "README.md").write_text("transformers has no counterpart of this network.\n", encoding="utf-8")


def graphs(network: LanguageModel) -> list[str]:
    """Return the names of the graphs that a network has: a bigram, which is one look-up, the portable one only."""
    return list(GRAPHS) if isinstance(network, GPT) else ["portable"]


def write_graphs(folder: Path, network: LanguageModel, ids: Ids) -> None:
    """Write the ONNX files of a network; `ids` is a text that shows how large its keys and values get."""
    (folder / GRAPHS["portable"].file).write_bytes(portable_graph.build(network).SerializeToString())
    if isinstance(network, GPT):
        ranges = calibration.cache_ranges(network, ids)
        precisions: list[fast_graph.Precision] = ["fp32", "int8", "fp16"]
        for precision in precisions:
            file = folder / GRAPHS[precision].file
            file.write_bytes(fast_graph.build(network, precision, ranges).SerializeToString())
        (folder / SAMPLER).write_bytes(sampler_graph.build().SerializeToString())


def _prove(folder: Path, name: str, network: LanguageModel, data: Dataset, limits: Export) -> dict[str, Any]:
    """Return the figures of one graph, run on the CPU; `UserError` names the graph and the figure that fails."""
    reference = TorchDecoder(network)
    candidate = bundle.open_graph(folder, name, reference.context, "cpu", threads=1)
    try:
        if name in ("portable", "fp32"):
            ids = data.ids["validation"]
            return asdict(parity.check(reference, candidate, ids, network.context, limits.tolerance))
        limit = {"int8": limits.int8_cost, "fp16": limits.fp16_cost}[name]
        ids = data.ids["test"] if len(data.ids["test"]) else data.ids["validation"]
        torch_nats = total_nats(network, ids, next(network.parameters()).device)
        return asdict(parity.cost(candidate, ids, network.context, torch_nats, limit))
    except UserError as error:
        raise UserError(f"graph {name}: {error}") from None


def versions(*packages: str) -> dict[str, str]:
    """Return the installed version of each package that is installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
