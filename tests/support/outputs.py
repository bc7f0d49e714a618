"""models/NAME, data/clean and reports as the stages leave them, for tests of what reads them."""

import csv

from gptmodel import layout
from gptmodel.layout import ModelFolder
from gptmodel.results.bundle import BundleInfo, Origin
from gptmodel.results.corpus import CleanCorpus
from gptmodel.results.samples import Samples
from gptmodel.results.training import Meta, Point
from tests.support import bundles, records

NAME = "pairs"  # a bigram of `records.MODELS`


def corpus(name: str) -> CleanCorpus:
    """Return the title page of a corpus, whose splits have different hashes."""
    page = records.clean_corpus()
    splits = {
        split: text.model_copy(update={"sha256": digit * 64})
        for (split, text), digit in zip(page.splits.items(), "abc", strict=True)
    }
    return page.model_copy(update={"name": name, "title": "Un essai", "licence": "MIT", "splits": splits})


def meta(name: str = NAME, fingerprint: str = "f00d") -> Meta:
    """Return what is known of a bigram that was trained on `corpus("essai")`."""
    known = records.meta(NAME)
    text = known.text.model_copy(update={"name": "essai", "splits": corpus("essai").splits})
    return known.model_copy(update={"name": name, "fingerprint": fingerprint, "text": text})


def write_model(name: str, fingerprint: str = "f00d") -> ModelFolder:
    """Write the folders of all stages of a model of `meta`, in the current folder."""
    folder = ModelFolder(name)
    written = Samples(samples=[records.sample("fois\nun roi"), records.sample("y")])
    meta(name, fingerprint).write(folder.checkpoint / "meta.json")
    records.speed().write(folder.training / "speed.json")
    records.timeline().write(folder.training / "timeline.json")
    (folder.training / "timeline.md").write_text(records.timeline().markdown(), encoding="utf-8")
    with (folder.training / "history.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.DictWriter(file, list(Point.model_fields), lineterminator="\n")
        rows.writeheader()
        rows.writerows(point.model_dump() for point in records.history(2.0))
    records.metrics(2.5, validation=2.75).write(folder.metrics)
    records.breakdown().model_copy(update={"fingerprint": fingerprint}).write(folder.details / "breakdown.json")
    records.novelty(written).write(folder.details / "novelty.json")
    written.write(folder.details / "samples.json")
    (folder.details / "samples.md").write_text(written.markdown(), encoding="utf-8")
    records.inspection(NAME).write(folder.inspection / "inspection.json")
    records.benchmark().write(folder.benchmark / "benchmark.json")
    words = bundles.char_tokenizer()
    page = Origin(**corpus("essai").model_dump(include=set(Origin.model_fields)))
    changes = {"model": name, "fingerprint": fingerprint, "corpus": page}
    bundles.write(folder.bundle, bundles.random_network("bigram", words), words, **changes)
    return folder


def bundle_info(folder: ModelFolder) -> BundleInfo:
    """Return what a bundle says of itself."""
    return BundleInfo.read(folder.bundle / "bundle.json")


def write_corpus() -> None:
    """Write the title page of `corpus("essai")`."""
    corpus("essai").write(layout.CLEAN / "corpus.json")


def write_report(name: str) -> None:
    """Write a report that shows one model."""
    layout.REPORTS.mkdir(exist_ok=True)
    (layout.REPORTS / "comparison.csv").write_text(f"model,parameters\n{name},900\n")
    (layout.REPORTS / "comparison.md").write_text(f"| model |\n|---|\n| {name} |\n")
