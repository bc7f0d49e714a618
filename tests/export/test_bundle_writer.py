from pathlib import Path

import numpy as np
import pytest

from gptmodel import files
from gptmodel.data.dataset import Dataset
from gptmodel.errors import UserError
from gptmodel.export import bundle_writer, model_card
from gptmodel.export.model_card import Results
from gptmodel.params import Export
from gptmodel.results.bundle import BundleInfo, Cost, Parity
from gptmodel.runtime.bundle import Bundle
from gptmodel.runtime.graphs import GRAPHS
from tests.support import cards
from tests.support.bundles import TEXT, char_tokenizer, random_network

WORDS = char_tokenizer()
LIMITS = Export(tolerance=1e-4, int8_cost=0.05, fp16_cost=0.05)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    ids = WORDS.encode(TEXT * 20).astype(np.uint16)
    WORDS.save(tmp_path / "tokens" / "tokenizer.json")
    return Dataset(
        tmp_path / "tokens", WORDS, {"train": ids, "validation": ids[:300], "test": ids[:200]}, cards.meta().text
    )


def described(data: Dataset) -> Results:
    digest = files.sha256(data.folder / "tokenizer.json")
    return cards.results(cards.meta(vocab_size=WORDS.vocab_size, tokenizer_sha256=digest))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["modern", "bigram"])
def test_a_bundle_is_whole_and_says_what_its_records_say(kind: str, data: Dataset, tmp_path: Path) -> None:
    results = described(data)
    info = bundle_writer.write_bundle(tmp_path / "bundle", random_network(kind, WORDS), data, results, LIMITS)
    assert BundleInfo.read(tmp_path / "bundle" / "bundle.json") == info
    assert (info.model, info.corpus.title, info.metrics) == ("petit", cards.CORPUS.title, results.metrics)
    assert info.example_prompt == results.novelty.per_sample[0].prompt
    names = list(GRAPHS) if kind == "modern" else ["portable"]
    assert list(info.graphs) == names
    for name, figures in info.graphs.items():
        assert isinstance(figures, Parity if GRAPHS[name].gate == "parity" else Cost)
    written = content(tmp_path / "bundle")
    assert set(written) == {*info.files, "bundle.json", "README.md"}
    assert set(info.files) == {"tokenizer.json", *(file for name in names for file in GRAPHS[name].files)}
    assert written["README.md"].decode() == model_card.bundle_card(results)
    assert Bundle.load(tmp_path / "bundle", "cpu").info == info


def test_the_same_network_gives_the_same_bundle_byte_for_byte(data: Dataset, tmp_path: Path) -> None:
    for folder in ("here", "there"):
        network = random_network("modern", WORDS)
        bundle_writer.write_bundle(tmp_path / folder, network, data, described(data), LIMITS)
    assert content(tmp_path / "here") == content(tmp_path / "there")


@pytest.mark.parametrize(("limit", "graph"), [("tolerance", "portable"), ("int8_cost", "int8"), ("fp16_cost", "fp16")])
def test_a_graph_that_fails_its_gate_is_named_and_nothing_is_written(
    limit: str, graph: str, data: Dataset, tmp_path: Path
) -> None:
    limits = LIMITS.model_copy(update={limit: -1.0})
    with pytest.raises(UserError, match=f"^graph {graph}: .*nothing was written"):
        bundle_writer.write_bundle(tmp_path / "bundle", random_network("modern", WORDS), data, described(data), limits)
    assert [path.name for path in tmp_path.iterdir()] == ["tokens"]


def test_another_tokenizer_than_that_of_the_training_is_refused(data: Dataset, tmp_path: Path) -> None:
    results = described(data)
    (data.folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="not the one petit was trained with"):
        bundle_writer.write_bundle(tmp_path / "bundle", random_network("modern", WORDS), data, results, LIMITS)
    assert not (tmp_path / "bundle").exists()


def test_packages_that_are_not_installed_have_no_version() -> None:
    assert set(bundle_writer.versions("numpy", "no-such-package-here")) == {"numpy"}
