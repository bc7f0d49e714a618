import math
from pathlib import Path

import pytest
import yaml

from gptmodel import params, strict
from gptmodel.errors import UserError

ROOT = Path(__file__).parent.parent
FILES = [ROOT / "params.yaml", *sorted((ROOT / "recipes").glob("*.yaml"))]


def changed(tmp_path: Path, key: str, value: object) -> Path:
    """Write params.yaml with one (dotted) key changed; None removes it."""
    values = strict.read_yaml(ROOT / "params.yaml")
    values["models"]["gpt-char"].update(n_embd=128, n_head=4)  # which some cases suppose
    *parents, last = key.split(".")
    section = values
    for parent in parents:
        section = section[parent]
    if value is None:
        del section[last]
    else:
        section[last] = value
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    return path


def test_the_projects_own_params_are_valid() -> None:
    loaded = params.load(ROOT / "params.yaml")
    assert list(loaded.models) == ["bigram-char", "classic-char", "gpt-char", "gpt-word", "gpt-bpe"]
    assert loaded.model("gpt-word").network == "gpt"


@pytest.mark.parametrize(
    "path", [ROOT / "params.yaml", *sorted((ROOT / "recipes").glob("*.yaml"))], ids=lambda p: p.stem
)
def test_params_only_checks_and_changes_no_value(path: Path) -> None:
    given = strict.read_yaml(path)
    given["corpus"] = {"path": given["corpus"], "title": None, "author": None, "language": None}  # it was given short
    given["samples"]["prompts"] = [given["samples"]["prompts"]]
    assert params.load(path).model_dump(mode="json") == given


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("models.gpt-char.n_layers", 4, ["models.gpt-char.n_layers", "unknown key", "n_layer"]),
        ("colour", "red", ["colour", "unknown key"]),
        ("models.gpt-char.n_layer", "four", ["models.gpt-char.n_layer", "'four'"]),
        ("models.gpt-char.n_layer", 4.0, ["models.gpt-char.n_layer", "integer"]),
        ("models.gpt-char.n_layer", 0, ["models.gpt-char.n_layer", "0"]),
        ("models.gpt-char.bias", "no", ["models.gpt-char.bias", "'no'"]),
        ("models.gpt-char.dropout", 1.5, ["models.gpt-char.dropout", "1.5"]),
        ("models.gpt-char.n_embd", 130, ["models.gpt-char", "n_embd (130)", "n_head (4)"]),
        ("models.gpt-char.n_head", 16, ["models.gpt-char", "head size", "multiple of 16"]),
        ("models.gpt-char.tokenizer", "syllable", ["models.gpt-char.tokenizer", "'syllable'"]),
        ("models.gpt-char.network", "lstm", ["models.gpt-char.network", "'bigram', 'gpt', not 'lstm'"]),
        ("models.gpt-char.network", None, ["models.gpt-char.network", "missing"]),
        ("models.gpt-char.warmup_steps", 100_000, ["models.gpt-char", "warmup_steps"]),
        ("models.gpt-char.warmdown", 0.0, ["models.gpt-char.warmdown", "0.0"]),
        ("models.gpt-char.final_rate", 1.0, ["models.gpt-char.final_rate", "1.0"]),
        ("models.gpt-char.muon_learning_rate", -0.1, ["models.gpt-char.muon_learning_rate", "-0.1"]),
        ("models.gpt-char.schedule", "step", ["models.gpt-char.schedule", "'step'"]),
        ("models.gpt-char.windows", "sorted", ["models.gpt-char.windows", "'sorted'"]),
        ("models.gpt-char.init", "ones", ["models.gpt-char.init", "'ones'"]),
        ("models.gpt-char.final_learning_rate", 1e-4, ["models.gpt-char.final_learning_rate", "unknown key"]),
        ("engine.precision", "float16", ["engine.precision", "'float16'"]),
        ("engine.execution", "fast", ["engine.execution", "'fast'"]),
        ("engine.nonfinite", "ignore", ["engine.nonfinite", "'ignore'"]),
        ("engine.threads", 2, ["engine.threads", "unknown key"]),
        ("resume.keep", 0, ["resume.keep", "0"]),
        ("resume.save_every_seconds", -1, ["resume.save_every_seconds", "-1"]),
        ("models.gpt-char.n_layer", None, ["models.gpt-char.n_layer", "missing"]),
        ("models.bigram-char.n_layer", 3, ["models.bigram-char.n_layer", "unknown key"]),
        ("models.a/b", {}, ["models.a/b"]),
        ("split.train", 0.5, ["split", "must be 1"]),
        ("samples.prompts", [], ["samples.prompts"]),
        ("seed", -1, ["seed", "-1"]),
        ("device", "tpu", ["device", "'tpu'"]),
        ("threads", 0, ["threads: must be auto or a whole number from 1 to 1024"]),
        ("threads", 1e12, ["threads: must be auto or a whole number from 1 to 1024"]),
        ("threads", "all", ["threads: must be auto or a whole number from 1 to 1024"]),
        ("seed", 2**63, ["seed", "less than 9223372036854775808", "not 9223372036854775808"]),
        ("models.gpt-char.learning_rate", math.inf, ["models.gpt-char.learning_rate", "finite", "inf"]),
        ("models.gpt-char.weight_decay", math.nan, ["models.gpt-char.weight_decay", "finite", "nan"]),
        ("models.gpt-char.gradient_clip", 1e31, ["models.gpt-char.gradient_clip", "1e+31"]),
        ("models.gpt-char.n_layer", 10**8, ["models.gpt-char.n_layer", "10000", "100000000"]),
        ("models.gpt-char.n_embd", 16 * 10**9, ["models.gpt-char.n_embd", "1000000", "16000000000"]),
        ("models.gpt-char.context", 10**12, ["models.gpt-char.context", "1000000"]),
        ("models.gpt-char.batch_size", 10**12, ["models.gpt-char.batch_size", "1000000"]),
        ("models.gpt-char.steps", 10**21, ["models.gpt-char.steps", "1000000000"]),
        ("tokenizers.word.vocab_size", 10**23, ["tokenizers.word.vocab_size", "1000000"]),
        ("tokenizers.bpe.vocab_size", 10**23, ["tokenizers.bpe.vocab_size", "1000000"]),
        ("tokenizers.word.min_count", 10**20, ["tokenizers.word.min_count", "1000000000"]),
        ("baselines.order", 10**6, ["baselines.order", "100", "1000000"]),
        ("samples.temperatures", [math.inf], ["samples.temperatures.0", "finite"]),
        ("samples.max_new_tokens", 10**9, ["samples.max_new_tokens", "1000000"]),
        ("corpus", "a\0b", ["corpus.path", r"'a\x00b'"]),
        ("corpus", 5000 * "a", ["corpus.path", "4096"]),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_key(
    tmp_path: Path, key: str, value: object, words: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        params.load(changed(tmp_path, key, value))
    message = str(caught.value)
    assert "\n" not in message
    for word in ["params.yaml", *words]:
        assert word in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed: 1\nseed: 2\n", ["line 2", "'seed'", "twice"]),
        ("seed: [1\n", ["line 2", "not valid YAML"]),
        ("", ["the file"]),
        ("just words", ["the file"]),
    ],
)
def test_a_file_that_is_no_params_file_is_one_line(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        params.load(path)
    for word in ["params.yaml", *words]:
        assert word in str(caught.value)


def test_missing_and_badly_encoded_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        params.load(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_bytes("corpus: é".encode("latin-1"))
    with pytest.raises(UserError, match="byte 8"):
        params.load(tmp_path / "params.yaml")


def test_numbers_are_read_as_people_write_them(tmp_path: Path) -> None:
    path = tmp_path / "numbers.yaml"
    path.write_text("a: 1e-3\nb: 1.0e-3\nc: 3\nd: -2E4\ne: 1e\n")
    assert strict.read_yaml(path) == {"a": 1e-3, "b": 1e-3, "c": 3, "d": -2e4, "e": "1e"}


def test_a_lone_surrogate_is_no_text(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8").replace("prompt: auto", r'prompt: "Il \ud800"')
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"timeline\.prompt: .*unicode.*not 'Il \\ud800'"):
        params.load(tmp_path / "params.yaml")


def test_a_model_may_have_the_name_of_a_network(tmp_path: Path) -> None:
    values = strict.read_yaml(ROOT / "params.yaml")
    values["models"] = {"gpt": {**values["models"]["gpt-char"], "n_layer": 0}}
    with pytest.raises(UserError, match=r"models\.gpt\.n_layer: "):
        strict.parse(params.Params, values, Path("params.yaml"))


def test_values_cannot_be_changed() -> None:
    loaded = params.load(ROOT / "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        loaded.seed = 3


def test_an_unknown_model_is_named_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"gpt-chra.*gpt-char"):
        params.load(ROOT / "params.yaml").model("gpt-chra")
