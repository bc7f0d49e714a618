"""Bytes that atheris makes, guided by the code that they reach, in place of a file that a person may hand us.

    pip install --no-deps --require-hashes -r requirements/fuzz.txt
    python -m tests.fuzz.run params 600      one target for so many seconds: params, tokenizer, bundle or prompts

Any bytes must give an answer or a `UserError`, in bounded time and memory. Other bytes end the run with an exit code
other than 0, and are kept in .fuzz/TARGET-*; `python -m tests.fuzz.run params FILE` tries those again.
"""

import importlib
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from gptmodel.errors import UserError

ROOT = Path(__file__).parents[2]
FINDINGS = Path(".fuzz")
LIMITS = ("-max_len=20000", "-timeout=60", "-rss_limit_mb=4096")  # bytes, seconds and MB of one input
INSTRUMENTED = ["gptmodel", "yaml"]

Target = Callable[[bytes], object]  # may raise a `UserError`, nothing else
Prepared = tuple[Target, Iterable[bytes]]  # with examples to begin from


def params(folder: Path) -> Prepared:
    """The bytes of params.yaml."""
    from gptmodel import params

    file = folder / "params.yaml"
    recipes = [path.read_bytes() for path in (ROOT / "recipes").glob("*.yaml")]
    return lambda data: file.write_bytes(data) and params.load(file), recipes


def tokenizer(folder: Path) -> Prepared:
    """The bytes of tokenizer.json."""
    from gptmodel.data.tokenizer import Tokenizer

    file = folder / "tokenizer.json"
    text = (ROOT / "tests" / "fixtures" / "roman.txt").read_text(encoding="utf-8")[:2000]

    def load(data: bytes) -> None:
        file.write_bytes(data)
        loaded = Tokenizer.load(file)
        loaded.decode(loaded.encode(text))

    return load, [fitted.content().encode() for fitted in _tokenizers()]


def bundle(folder: Path) -> Prepared:
    """The bytes of bundle.json in a bundle whose other files are whole."""
    from gptmodel.runtime.bundle import INFO, Bundle
    from tests.support import bundles

    words = bundles.char_tokenizer()
    written = bundles.write(folder / "bundle", bundles.random_network("modern", words), words)
    described = (written / INFO).read_bytes()
    return lambda data: (written / INFO).write_bytes(data) and Bundle.load(written, "cpu"), [described]


def prompts(folder: Path) -> Prepared:
    """The bytes of a prompt, as the command line hands them over."""
    from gptmodel.decoding import prompts

    fitted = _tokenizers()

    def start(data: bytes) -> None:
        prompt = data.decode(errors="surrogateescape")
        for each in fitted:
            list(prompts.notes(each, [prompt], 64))
            each.decode(prompts.start(each, prompt).ids)

    return start, ["Il était une fois".encode(), "— Où\u00a0? ☃".encode(), b""]


TARGETS: dict[str, Callable[[Path], Prepared]] = {
    "params": params,
    "tokenizer": tokenizer,
    "bundle": bundle,
    "prompts": prompts,
}


def _tokenizers() -> list[Any]:
    from gptmodel.data.fitting import fit
    from gptmodel.params import BpeTokenizer, CharTokenizer, Tokenizers, WordTokenizer

    sections = Tokenizers(
        char=CharTokenizer(min_count=1),
        word=WordTokenizer(vocab_size=700, min_count=2),
        bpe=BpeTokenizer(vocab_size=300),
    )
    text = (ROOT / "tests" / "fixtures" / "roman.txt").read_text(encoding="utf-8")
    return [fit(level, text, sections) for level in ("char", "word", "bpe")]


def tried(target: Target, data: bytes) -> None:
    """Give bytes to a target; a `UserError` is an answer."""
    with suppress(UserError):
        target(data)


def fuzz(name: str, seconds: int, folder: Path) -> None:
    """Try bytes for some seconds; ends the process."""
    atheris = importlib.import_module("atheris")
    corpus = folder / "corpus"
    corpus.mkdir()
    with atheris.instrument_imports(include=INSTRUMENTED):
        target, examples = TARGETS[name](folder)
        for number, example in enumerate(examples):
            (corpus / str(number)).write_bytes(example)
            tried(target, example)  # what is imported when it is needed
    FINDINGS.mkdir(exist_ok=True)
    options = [f"-max_total_time={seconds}", f"-artifact_prefix={FINDINGS}/{name}-", *LIMITS]
    atheris.Setup([name, *options, str(corpus)], lambda data: tried(target, data))
    atheris.Fuzz()


def main() -> None:
    """Fuzz the target named on the command line, or try one file again."""
    if len(sys.argv) != 3 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzz.run {'|'.join(TARGETS)} SECONDS|FILE")
    name, what = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        if what.isdigit():
            fuzz(name, int(what), Path(folder))
        target, _ = TARGETS[name](Path(folder))
        tried(target, Path(what).read_bytes())


if __name__ == "__main__":
    main()
