"""From a network to a bundle: each ONNX graph is built and compared with torch; all are written only if all pass."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gptmodel import files
from gptmodel.arrays import Ids
from gptmodel.data.dataset import Dataset
from gptmodel.errors import UserError
from gptmodel.export import calibration, fast_graph, model_card, parity, portable_graph, sampler_graph
from gptmodel.model import networks
from gptmodel.model.gpt import GPT
from gptmodel.model.loss import total_nats
from gptmodel.model.networks import LanguageModel
from gptmodel.model.torch_decoder import TorchDecoder
from gptmodel.params import Export
from gptmodel.results.bundle import BundleInfo, Cost, Origin, Parity
from gptmodel.runtime import bundle, session
from gptmodel.runtime.graphs import GRAPHS, SAMPLER, GraphSpec


def write_bundle(
    folder: Path, network: LanguageModel, data: Dataset, results: model_card.Results, limits: Export
) -> BundleInfo:
    """Write the bundle of `network` (evaluation mode, CPU) to `folder`; return what its bundle.json says.

    The model card is not among the files that bundle.json has hashes of: whoever publishes a model may change it.

    Raises:
        UserError: the tokenizer is not the one of the training, or a graph differs from torch by more than `limits`
            allows; `folder` is then left as it was.
    """
    meta = results.meta
    tokenizer = data.folder / "tokenizer.json"
    if files.sha256(tokenizer) != meta.tokenizer_sha256:
        raise UserError(f"{tokenizer} is not the one {meta.name} was trained with: run `dvc repro`")
    with files.whole_folder(folder) as partial:
        (partial / bundle.TOKENIZER).write_bytes(tokenizer.read_bytes())
        write_graphs(partial, network, data.ids["train"])
        info = BundleInfo(
            model=meta.name,
            level=meta.level,
            context=TorchDecoder(network).context,
            vocab_size=meta.vocab_size,
            network=network.config,
            parameters=networks.count_parameters(network),
            corpus=Origin(**{field: getattr(results.corpus, field) for field in Origin.model_fields}),
            example_prompt=results.example_prompt,
            metrics=results.metrics,
            graphs={spec.name: _prove(partial, spec, network, data, limits) for spec in graphs(network)},
            versions=versions("gptmodel", "torch", "onnx") | {"onnxruntime": session.onnxruntime().__version__},
            best_step=meta.best_step,
            fingerprint=meta.fingerprint,
            files=bundle.list_files(partial),
        )
        info.write(partial / bundle.INFO)
        files.write_text(partial / model_card.CARD, model_card.bundle_card(results))
    return info


def graphs(network: LanguageModel) -> list[GraphSpec]:
    """Return the graphs that a network has: a bigram, which is one look-up, the portable one only."""
    return [spec for spec in GRAPHS.values() if spec.every_network or isinstance(network, GPT)]


def write_graphs(folder: Path, network: LanguageModel, ids: Ids) -> None:
    """Write the ONNX files of a network; `ids` is a text that shows how large its keys and values get."""
    ranges = calibration.cache_ranges(network, ids) if isinstance(network, GPT) else ()
    for spec in graphs(network):
        if isinstance(network, GPT) and not spec.every_network:
            model = fast_graph.build(network, spec.precision, ranges)
        else:
            model = portable_graph.build(network)
        (folder / spec.file).write_bytes(model.SerializeToString())
        if SAMPLER in spec.companions:
            (folder / SAMPLER).write_bytes(sampler_graph.build().SerializeToString())


def versions(*packages: str) -> dict[str, str]:
    """Return the installed version of each package that is installed."""
    found = dict[str, str]()
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _prove(folder: Path, spec: GraphSpec, network: LanguageModel, data: Dataset, limits: Export) -> Parity | Cost:
    """Return how close one graph is to torch, on the CPU; `UserError` names the graph and the figure that fails."""
    reference = TorchDecoder(network)
    candidate = spec.open(folder, reference.context, "cpu", threads=1)
    try:
        if spec.gate == "parity":
            return parity.check(reference, candidate, data.ids["validation"], network.context, limits.tolerance)
        ids = data.ids["test"] if len(data.ids["test"]) else data.ids["validation"]
        limit = {"int8": limits.int8_cost, "fp16": limits.fp16_cost}[spec.precision]
        torch_nats = total_nats(network, ids, next(network.parameters()).device)
        return parity.cost(candidate, ids, network.context, torch_nats, limit)
    except UserError as error:
        raise UserError(f"graph {spec.name}: {error}") from None
