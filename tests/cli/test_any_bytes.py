"""Any bytes give an answer or one line: texts, tokenizers, bundles, prompts. A few here, many in `make test-long`."""

import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from gptmodel import api, files, params
from gptmodel.cli.app import app
from gptmodel.data import fitting
from gptmodel.data.tokenizer import Tokenizer
from gptmodel.decoding import prompts
from gptmodel.errors import UserError
from gptmodel.runtime.bundle import INFO, TOKENIZER
from pipelines import clean, encode, fetch
from tests.support.bundles import TEXT, char_tokenizer, random_network, write
from tests.support.closure import ROOT
from tests.support.mutations import changed_bytes, changed_json

NOVEL = (ROOT / "tests" / "fixtures" / "roman.txt").read_bytes()
PARAMS = params.load(ROOT / "params.yaml")
TOKENIZERS = {level: fitting.fit(level, TEXT * 9, PARAMS.tokenizers).content() for level in ("char", "bpe")} | {
    "word": fitting.fit_word(TEXT * 9, 900, 1).content()
}
PROBES = ["", " ", "l'île ", "☃ \U0001f600\0", "z" * 500]

few_and_many = pytest.mark.parametrize(
    "examples", [20, pytest.param(3000, marks=pytest.mark.long)], ids=["few", "many"]
)


def hold(law: Callable[[Any], object], strategy: st.SearchStrategy[Any], examples: int) -> None:
    """Check a law on so many examples, each within 20 seconds; a `UserError` is an answer."""

    def answered(example: Any) -> None:
        with suppress(UserError):
            law(example)

    limits = settings(
        max_examples=examples,
        deadline=timedelta(seconds=20),
        derandomize=examples < 100,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    limits(given(strategy)(answered))()


PIECES = st.one_of(
    st.integers(0, len(NOVEL) - 3000).map(lambda start: NOVEL[start : start + 3000]),
    st.text(min_size=1, max_size=200).map(str.encode),
    st.binary(min_size=1, max_size=50),
    st.sampled_from(
        [b"\0", b"\xed\xa0\x80", b" ", b"\n", b"\r\n", b"-", b"_", b"[", b"e\xcc\x81", b"\xc2\xa0"]
    ).flatmap(lambda piece: st.integers(1, 3000).map(lambda times: piece * times)),
    st.sampled_from([b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"*** START OF THE PROJECT GUTENBERG EBOOK ***\n"]),
)
ENCODINGS = st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-16", "utf-32", "cp1252"])


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """Draw a file of text, or nearly."""
    data = b"".join(draw(st.lists(PIECES, max_size=5)))
    if draw(st.booleans()):
        data = data.decode(errors="ignore").encode()
    recoded = data.decode(errors="surrogateescape").encode(draw(ENCODINGS), errors="replace")
    return draw(st.sampled_from([data, recoded, NOVEL[:6000] + data]))


@few_and_many
def test_texts(tmp_path: Path, examples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stages from fetch to encode."""
    monkeypatch.chdir(tmp_path)
    own = Path("data/own/text.txt")
    own.parent.mkdir(parents=True)
    shutil.copy(ROOT / "data" / "catalog.yaml", "data")
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    Path("params.yaml").write_text(yaml.safe_dump(values | {"corpus": str(own)}, allow_unicode=True), encoding="utf-8")
    stages = [(fetch.main, ""), (clean.main, ""), *((encode.main, level) for level in ("bpe", "char", "word"))]

    def law(data: bytes) -> None:
        own.write_bytes(data)
        for main, arguments in stages:
            monkeypatch.setattr(sys, "argv", ["stage", *arguments.split()])
            code, said = 0, io.StringIO()
            try:
                with redirect_stdout(io.StringIO()), redirect_stderr(said):
                    main()
            except SystemExit as ended:
                code = int(ended.code or 0)
            if code:
                assert code == 2
                assert re.search(r"(^|\n)error: [^\n]+\n$", said.getvalue())
                return

    hold(law, texts(), examples // 2)


@few_and_many
def test_tokenizers(tmp_path: Path, examples: int) -> None:
    """One that loads spells whatever comes: the library ends the whole process where it cannot."""
    path = tmp_path / TOKENIZER

    def law(data: bytes) -> None:
        path.write_bytes(data)
        tokenizer = Tokenizer.load(path)
        for probe in PROBES:
            tokenizer.decode(prompts.start(tokenizer, probe).ids)
        tokenizer.decode(range(tokenizer.vocab_size))

    whole = st.sampled_from(list(TOKENIZERS.values()))
    hold(law, whole.flatmap(changed_json) | whole.flatmap(lambda content: changed_bytes(content.encode())), examples)


@few_and_many
@pytest.mark.parametrize("what", [INFO, "model.onnx", "int8.onnx"])
def test_bundles(tmp_path: Path, what: str, examples: int) -> None:
    """A graph that was changed comes with the hash of what it is now."""
    letters = char_tokenizer()
    folder = write(tmp_path / "bundle", random_network("modern", letters), letters)
    content, info = (folder / what).read_bytes(), json.loads((folder / INFO).read_text(encoding="utf-8"))
    graph = {INFO: None, "model.onnx": "portable", "int8.onnx": "int8"}[what]

    def law(data: bytes) -> None:
        (folder / what).write_bytes(data)
        if what != INFO:
            info["files"][what] = {"bytes": len(data), "sha256": files.sha256(folder / what)}
            (folder / INFO).write_text(json.dumps(info), encoding="utf-8")
        model = api.load(folder, "cpu", graph=graph)
        model.generate("l'île", max_new_tokens=9, seed=1)
        model.score("l'île")

    hold(law, changed_json(content.decode()) if what == INFO else changed_bytes(content), examples)


@few_and_many
def test_prompts(tmp_path: Path, examples: int) -> None:
    """As arguments, on standard input, and in a file."""
    letters = char_tokenizer()
    bundle = str(write(tmp_path / "bundle", random_network("bigram", letters), letters))
    file = tmp_path / "prompts.txt"
    command = ["generate", bundle, "--device", "cpu", "--max-new-tokens", "3", "--seed", "1"]

    def law(example: tuple[bytes, str]) -> None:
        data, way = example
        file.write_bytes(data)
        more = {"file": ["--prompts-file", str(file)], "input": [], "argument": ["--", os.fsdecode(data)]}[way]
        done = CliRunner().invoke(app, [*command, *more], input=data)
        assert isinstance(done.exception, SystemExit | None), done.exception
        assert done.exit_code in (0, 2)
        if done.exit_code:
            assert done.stderr.startswith("error: ")
            assert done.stderr.count("\n") == 1

    anything = st.binary(max_size=60) | st.text(max_size=60).map(str.encode) | st.just(TEXT.encode() * 50)
    hold(law, st.tuples(anything, st.sampled_from(["file", "input", "argument"])), examples)
