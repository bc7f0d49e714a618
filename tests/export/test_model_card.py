import re
import shlex
from typing import Any

import pytest
from huggingface_hub import ModelCard

from gptmodel import files, params
from gptmodel.export import model_card
from gptmodel.export.model_card import Results, card
from gptmodel.model.checkpoint import Meta
from gptmodel.params import GPTNetwork, GPTModel, Training

NETWORK: dict[str, Any] = {"network": "gpt", "context": 77, "n_layer": 1, "n_head": 1, "n_embd": 16, "n_hidden": 64}
NETWORK |= {"norm": "layernorm", "positions": "learned", "mlp": "gelu", "qk_norm": False, "bias": True}
NETWORK |= {"tie_embeddings": True, "init": "gpt2", "dropout": 0.25}
TRAINING: dict[str, Any] = {"steps": 90, "batch_size": 3, "windows": "random", "learning_rate": 0.0125}
TRAINING |= {"muon_learning_rate": 0.0, "warmup_steps": 7, "warmdown": 0.625, "schedule": "cosine", "final_rate": 0.05}
TRAINING |= {"weight_decay": 0.1, "beta2": 0.99, "gradient_clip": 1.0, "evaluate_every": 30}
SETTINGS = GPTModel(**NETWORK, **TRAINING, tokenizer="word")
CORPUS: dict[str, Any] = {
    "name": "conte",
    "title": 'Le Conte "bleu" : suite',
    "author": "Une Autrice",
    "year": 1871,
    "language": "fr",
    "licence": "public domain",
    "source": "a shelf",
    "typography": "fr",
    "files": [{"name": "conte.txt", "bytes": 9, "sha256": "ab" * 32}],
    "splits": {"train": {"characters": 12345}, "validation": {"characters": 678}, "test": {"characters": 901}},
}
MEASURED = {"bits_per_char": 2.1234, "bits_per_char_low": 2.0456, "bits_per_char_high": 2.2341, "bits_per_byte": 2.0111}
MEASURED |= {"sliding_bits_per_char": 2.1017, "dynamic_bits_per_char": 2.0999}
MEASURED |= {"unigram_bits_per_char": 4.5018, "bigram_bits_per_char": 3.3019}
COUNTS = [{"name": "uniform", "bits_per_char": 6.5021}, {"name": "kneser-ney-3", "bits_per_char": 2.3022}]
FRESH = {"words_known": 0.971, "distinct_words": 0.705, "repetition": 0.012, "copied_8_word_sequences": 0.034}
FRESH |= {"longest_copy_characters": 41, "longest_copy_text": "un | deux\n`trois`"}


def meta(**changes: Any) -> Meta:
    values = {"variant": "petit", "level": "word", "network": GPTNetwork(**NETWORK), "vocab_size": 321, "seed": 5}
    values |= {"tokenizer_sha256": "c" * 64, "corpus": CORPUS, "fingerprint": "f00d", "best_step": 60}
    return Meta(**{**values, "weights_sha256": "d" * 64, **changes})


def results(
    splits: tuple[str, ...] = ("validation", "test"), warnings: tuple[str, ...] = (), prompt: str = "Il "
) -> Results:
    sample = {"prompt": prompt}
    classes = [{"class": "letters", "share": 0.721, "bits_per_char": 2.08, "share_of_bits": 0.756}]
    ran = {"seconds": 61.0, "tokens_per_second": 7654, "device": "cpu", "precision": "float32", "execution": "eager"}
    return Results(
        metrics={"parameters": 4096, **{split: MEASURED | {"tokens": 9} for split in splits}},
        training=ran,
        novelty={"samples": FRESH, "held_out": FRESH, "per_sample": [sample], "warnings": list(warnings)},
        breakdown={"split": splits[-1], "by_class": classes},
        ladder={"best": "kneser-ney-3", "splits": dict.fromkeys(splits, COUNTS)},
    )


def test_the_hub_reads_the_metadata():
    read = ModelCard(card(meta(), SETTINGS, results(), "hf", "GPT2LMHeadModel")).data
    assert (read.language, read.license, read.library_name) == ("fr", "other", "transformers")
    assert read.model_name == "petit"
    (chars, per_byte) = read.eval_results
    assert (chars.dataset_name, chars.dataset_split) == (CORPUS["title"], "test")
    assert (chars.metric_type, chars.metric_value) == ("bits_per_char", 2.1234)
    assert (per_byte.metric_type, per_byte.metric_value) == ("bits_per_byte", 2.0111)
    assert ModelCard(card(meta(), SETTINGS, results(), "bundle", "")).data.library_name == "onnx"


def test_every_figure_of_the_results_is_there():
    text = card(meta(), SETTINGS, results(), "bundle", "")
    for figure in ("2.123", "2.046 to 2.234", "2.011", "2.102", "2.100", "4.502", "3.302", "6.502", "2.302"):
        assert re.search(rf"\| {figure} \| {figure} \|", text), figure
    for shown in ("4,096 parameters", "over words", "12,345", "678", "901", "321 tokens", "Seed 5", "step 60", "61 s"):
        assert shown in text, shown
    for share in ("97.1%", "70.5%", "1.2%", "3.4%", "72.1%", "75.6%", "| 41 | 41 |"):
        assert share in text, share
    assert "last 77 tokens" in text
    for key in {*GPTNetwork.model_fields, *Training.model_fields}:
        assert f"| `{key}` |" in text, key
    assert '| `schedule` | `"cosine"` |' in text
    assert "| `bias` | `true` |" in text


def test_tables_are_whole_whatever_the_text_holds():
    text = card(meta(corpus=CORPUS | {"author": "A | B"}), SETTINGS, results(), "bundle", "")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(rows) > 40
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table
    assert "`un | deux ⏎  trois `" in text


def test_your_own_text_without_a_test_split():
    own = CORPUS | {"licence": "your own text", "author": None, "year": None, "language": None, "typography": "other"}
    text = card(meta(corpus=own), SETTINGS, results(("validation",)), "bundle", "")
    read = ModelCard(text).data
    assert (read.license, read.language) == ("unknown", None)
    assert read.eval_results[0].dataset_split == "validation"
    assert "for the validation text" in text
    assert not re.search(r"\bNone\b|\bnull\b", text)


def test_own_text_has_the_licence_that_the_catalog_gives_it(tmp_path):
    from gptmodel.text import catalog

    (tmp_path / "mine.txt").write_text("Une phrase.\n" * 400, encoding="utf-8")
    fetched = catalog.fetch(catalog.resolve(str(tmp_path / "mine.txt"), {}), tmp_path / "raw")
    assert fetched.licence == model_card.OWN_TEXT


@pytest.mark.parametrize("prompt", ['Il "dit" : $HOME `ls` \\ ', "l'île\n— Où ?"])
def test_the_commands_take_any_prompt(prompt):
    bundled = card(meta(), SETTINGS, results(prompt=prompt), "bundle", "")
    command = bundled[bundled.index("    gptmodel generate") : bundled.index("    gptmodel info")]
    assert shlex.split(command)[3] == prompt
    code = card(meta(), SETTINGS, results(prompt=prompt), "hf", "GPT2LMHeadModel").split("```")[1]
    asked: list[str] = []
    line = next(line for line in code.splitlines() if line.startswith("inputs = "))
    exec(line, {"tokenizer": lambda text, return_tensors: asked.append(text)})
    assert asked == [prompt]
    assert "`GPT2LMHeadModel`" in card(meta(), SETTINGS, results(), "hf", "GPT2LMHeadModel")


def test_warnings_stand_word_for_word():
    said = "A sample copies 99 characters verbatim."
    assert f"- {said}\n" in card(meta(), SETTINGS, results(warnings=(said,)), "hf", "X")
    assert "- No warning: " in card(meta(), SETTINGS, results(), "hf", "X")


def test_a_bigram_sees_one_token():
    network = params.BigramNetwork(network="bigram", context=64)
    settings = params.BigramModel(network="bigram", context=64, tokenizer="char", **TRAINING)
    text = card(meta(network=network, level="char"), settings, results(), "bundle", "")
    assert "last 1 token only" in text


def test_the_cards_lie_where_they_are_looked_for(tmp_path):
    given = results()
    folder, ladder = tmp_path / "petit", tmp_path / "ladder"
    for name in ("metrics", "training", "novelty", "breakdown"):
        files.write_json(folder / f"{name}.json", getattr(given, name))
    files.write_json(ladder / "ladder.json", given.ladder)
    model_card.write(folder, ladder, meta(), SETTINGS, None)
    assert (folder / "bundle" / "README.md").read_text(encoding="utf-8") == card(meta(), SETTINGS, given, "bundle", "")
    assert not (folder / "hf").exists()
    model_card.write(folder, ladder, meta(), SETTINGS, "Qwen3ForCausalLM")
    assert "`Qwen3ForCausalLM`" in (folder / "hf" / "README.md").read_text(encoding="utf-8")
