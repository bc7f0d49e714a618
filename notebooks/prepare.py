"""What every notebook begins with: where the repository is, the values of the default recipe, and the text.

A notebook runs in this folder, so that `from prepare import ...` works there.
"""

import os
from pathlib import Path

import torch

from gptmodel import layout, params
from gptmodel.data import corpus, encoding, fitting
from gptmodel.data.dataset import Dataset
from gptmodel.decoding import samples
from gptmodel.decoding.sampling import Sampling
from gptmodel.evaluation import baselines, novelty, scores
from gptmodel.layout import ModelFolder
from gptmodel.model import checkpoint, networks
from gptmodel.model.networks import LanguageModel
from gptmodel.model.torch_decoder import TorchDecoder
from gptmodel.results.corpus import FetchedCorpus, SplitName
from gptmodel.results.training import Meta
from gptmodel.text.openings import openings
from gptmodel.text.splits import split
from gptmodel.training.precision import Numerics
from gptmodel.training.trainer import Trainer

FAST = "GPTMODEL_NOTEBOOK_FAST" in os.environ  # the tests set it: less text, fewer steps
ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / layout.MODELS
TOKENS = ROOT / layout.TOKENS
PAGES = FetchedCorpus(
    name="a-few-pages", title="", author=None, year=None, language="fr", licence="", source="", files=[]
)


def default_run() -> tuple[params.Params, dict[SplitName, str]]:
    """Return the default recipe and its text: that of `make repro` where it has been made, else a few pages."""
    settings = params.load(ROOT / "recipes" / "hugo.yaml")
    if (ROOT / layout.TEXT).exists() and not FAST:
        return settings, corpus.read_splits(ROOT / layout.TEXT)
    pages = (ROOT / "tests" / "fixtures" / "roman.txt").read_text(encoding="utf-8")
    return settings, split(pages, settings.split).named()


def is_evaluated(name: str) -> bool:
    """Tell whether `make repro` has trained and evaluated a model."""
    folder = ModelFolder(name, MODELS)
    return all(path.exists() for path in (folder.checkpoint, folder.details, ROOT / layout.BASELINES))


def train_a_little(name: str, root: Path) -> None:
    """Train a character-level GPT of the recipe for a few steps and evaluate it.

    `root` then has the folders that the stages from clean to evaluate leave.
    """
    settings, texts = default_run()
    small = {"context": 64, "n_layer": 2, "steps": 30, "evaluate_every": 30}
    config = settings.model(name).model_copy(update=small)
    data = _encode(settings, texts, root, config.tokenizer)

    torch.manual_seed(settings.seed)
    network = networks.build(networks.architecture(config), data.tokenizer.vocab_size)
    plain = Numerics("cpu", "float32", "eager", torch.get_num_threads())
    *_, last = Trainer(network, data.ids, config, settings.seed, plain).run()
    meta = Meta(
        name=name,
        model=config,
        engine=settings.engine,
        seed=settings.seed,
        vocab_size=data.tokenizer.vocab_size,
        tokenizer_sha256=data.hashes()["tokenizer.json"],
        text=data.text,
        fingerprint="0" * 16,
        best_step=last.step,
        validation_loss_nats=last.validation_nats / len(data.ids["validation"]),
    )
    folder = ModelFolder(name, root / layout.MODELS)
    checkpoint.save(folder.checkpoint, networks.weights(network), meta)
    baselines.count(data, texts, settings.baselines.order).write(root / layout.BASELINES)
    _evaluate(network.eval(), data, texts, settings, meta, folder)


def _encode(settings: params.Params, texts: dict[SplitName, str], root: Path, level: params.Level) -> Dataset:
    tokenizer = fitting.fit(level, texts["train"], settings.tokenizers)
    corpus.write_clean(root / layout.CLEAN, PAGES, "fr", texts, openings(texts["train"]))
    encoding.encode_splits(tokenizer, texts, corpus.read_facts(root / layout.TEXT), root / layout.TOKENS / level)
    return Dataset.read(root / layout.TOKENS / level)


def _evaluate(
    network: LanguageModel,
    data: Dataset,
    texts: dict[SplitName, str],
    settings: params.Params,
    meta: Meta,
    folder: ModelFolder,
) -> None:
    rate = settings.evaluation.dynamic_rate
    scores.score(network, data, texts, torch.device("cpu"), rate, meta).write(folder.evaluation)
    written = samples.write_all(
        TorchDecoder(network), data.tokenizer, ["Il était "], [Sampling(0.7)], 100, settings.seed
    )
    figures = novelty.assess(written, texts["train"], texts["test"], meta.text.language)
    figures.write(folder.details / "novelty.json")
