"""The command line: `generate`, `info`, `serve`, `doctor` for whoever runs a model, the others for whoever trains it.

Text goes to standard output, everything about the run to standard error. Exit code 2 for bad input, with one line.
What needs ONNX Runtime is imported when a command needs it, so that `gptmodel --help` is instant; what needs more than
the runtime's packages runs in a process of its own, so that a bundle runs without them.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from enum import StrEnum
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from gptmodel.errors import UserError, one_line_errors
from gptmodel.serving.command import serve

if TYPE_CHECKING:
    from gptmodel.decoding.generation import Generation, Settings
    from gptmodel.runtime.bundle import Bundle

SEPARATOR = "---"  # a line of its own between several texts
MAX_RANDOM_SEED = 1 << 32

app = typer.Typer(
    name="gptmodel",
    help="Continue text with a small language model trained on a book.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


class Device(StrEnum):
    """Where the model runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Split(StrEnum):
    """Texts that no model was trained on."""

    test = "test"
    validation = "validation"


BundleFolder = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of a bundle: models/NAME/bundle")]


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8")  # type: ignore[union-attr]  # French text, whatever the locale
    app()


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gptmodel {version('gptmodel')}")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Continue text with a small language model trained on a book."""


@app.command()
def generate(
    bundle: BundleFolder,
    prompts: Annotated[
        list[str] | None,
        typer.Argument(metavar="PROMPT", help="Texts to continue; - or none: standard input, as one text."),
    ] = None,
    prompts_file: Annotated[
        Path | None, typer.Option(help="A UTF-8 file with one prompt per line; blank lines do not count.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens to generate per text.")] = 200,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token; above 1 is wilder.")] = 0.8,
    top_k: Annotated[int, typer.Option(help="Draw among the k likeliest tokens; 0: all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Draw among the likeliest tokens of this mass; 1: all.")] = 0.95,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same text. [default: random]")] = None,
    num_samples: Annotated[int, typer.Option(help="Texts per prompt.")] = 1,
    stop: Annotated[list[str] | None, typer.Option(help="End the text before this string (repeatable).")] = None,
    repetition_penalty: Annotated[
        float, typer.Option(help="Above 1, tokens of the text so far are less likely.")
    ] = 1.0,
    device: Annotated[Device, typer.Option(help="auto: CUDA where there is one.")] = Device.auto,
    variant: Annotated[
        str | None,
        typer.Option(help="Graph: portable, fp32, int8 or fp16. [default: the fastest of the bundle for the device]"),
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads; 1 is the fastest for small models.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per text and line.")] = False,
) -> None:
    """Continue each PROMPT: the text is written as it comes, or separated by lines of --- if there are several.

    A long prompt is cut: the model sees the last tokens only, at most its context; the same goes for long texts.
    """
    with one_line_errors():
        from gptmodel.decoding.generation import Settings, complete, notes
        from gptmodel.decoding.sampling import Sampling
        from gptmodel.runtime.bundle import Bundle

        chosen_seed = _random_seed() if seed is None else seed
        sampling = Sampling(temperature, top_k, top_p, repetition_penalty)
        settings = Settings(max_new_tokens, sampling, chosen_seed, tuple(_unescape(text) for text in stop or ()))
        texts = _prompts(prompts or [], prompts_file)
        loaded = Bundle.load(bundle, device.value, threads, variant)
        _say(f"{bundle}: {loaded.info.variant}, {loaded.graph} on {loaded.place}, seed {chosen_seed}")
        for line in notes(loaded.tokenizer, texts, loaded.info.context):
            _say(f"note: {line}")
        if as_json or len(texts) * num_samples != 1:
            finished = complete(loaded.decoder, loaded.tokenizer, texts, settings, num_samples)
            _write_all(finished, bundle, settings, as_json)
        else:
            _write_stream(loaded, texts[0], settings)


@app.command()
def info(bundle: BundleFolder) -> None:
    """Check a bundle and say what it is, what it was trained on and how good it is."""
    with one_line_errors():
        from dataclasses import asdict

        from gptmodel.runtime.bundle import check, read_info

        lines = list(_lines(asdict(read_info(bundle))))
        check(bundle)
        width = max(len(name) for name, _ in lines)
        for name, value in lines:
            typer.echo(f"{name:<{width}}  {value}")


@app.command()
def compare(
    models: Annotated[list[str], typer.Argument(metavar="MODEL", help="Two models or more.")],
    split: Annotated[Split, typer.Option(help="The text that they are compared on.")] = Split.test,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, unrounded, for programs.")] = False,
) -> None:
    """Say which model is better on the same text, by how many bits per character and how certainly: best first.

    Run it in the repository's root. A model is one of:

    gpt-char: a name under models/.

    ladder: the best of the counts, in data/ladder.

    path/to/folder: a folder with surprisal.npz.

    HEAD~1:gpt-char, my-experiment:ladder: of a Git revision or a DVC experiment, if DVC still has the file.

    run:RUN_ID: of an MLflow run (from MLFLOW_TRACKING_URI or mlflow.db).

    Intervals hold in 95 % for other text of this kind: blocks of the text are drawn again, the same for all models.
    Below a certainty of 97.5 % there is no real difference. They know nothing of training: another seed moves a model.
    """
    with one_line_errors():
        from rich.console import Console

        from gptmodel.evaluation import comparison as comparison

        costs = comparison.read_all(models)
        rows, pairs = comparison.models(costs, split.value), comparison.pairs(costs, split.value)
        text = comparison.text_of(costs, split.value)
        if as_json:
            _write(json.dumps({**text, "models": rows, "pairs": pairs}, ensure_ascii=False) + "\n")
            return
        _write(f"{text['split']}: {text['characters']:,} characters, sha256 {text['sha256'][:12]}\n\n")
        Console(file=sys.stdout).print(comparison.table(rows))
        _write("\n" + "".join(f"{comparison.sentence(pair)}\n" for pair in pairs))


app.command()(serve)


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False) -> None:
    """Say what is installed here, what would run where, and what stands in the way."""
    from gptmodel.cli import doctor as examination

    examination.doctor(as_json)


@app.command()
def sync(
    models: Annotated[list[str] | None, typer.Argument(metavar="MODEL", help="Names under models/; none: all.")] = None,
) -> None:
    """Rebuild the MLflow runs of models/ from the DVC outputs: what is missing is added, twice adds nothing.

    After `dvc pull`, `dvc exp apply`, stages taken from the cache, or a tracking server that was down.
    """
    _run_module("sync", "mlflow", models or [])


@app.command()
def register(
    models: Annotated[list[str] | None, typer.Argument(metavar="MODEL", help="Names under models/; none: all.")] = None,
) -> None:
    """Put bundles into MLflow's model registry, as gptmodel-CORPUS-LEVEL; the best has the alias champion.

    `mlflow.pyfunc.load_model("models:/gptmodel-CORPUS-LEVEL@champion")` and `mlflow models serve` then write text.
    """
    _run_module("registry", "mlflow", models or [])


def _run_module(name: str, needs: str, arguments: list[str]) -> None:
    """Run a module of the workshop; its exit code is ours."""
    with one_line_errors():
        if find_spec(needs) is None:
            raise UserError(f"{needs} is not installed: pip install 'gptmodel[pipeline]'")
        done = subprocess.run([sys.executable, "-m", f"gptmodel.{name}", *arguments], check=False)
    raise typer.Exit(done.returncode)


def _write_all(finished: "Iterator[Generation]", bundle: Path, settings: "Settings", as_json: bool) -> None:
    for number, one in enumerate(finished):
        if as_json:
            line = vars(one) | {"seed": settings.seed, "bundle": str(bundle)}
            _write(json.dumps(line, ensure_ascii=False) + "\n")
        else:
            before = f"{SEPARATOR}\n" if number else ""
            _write(f"{before}{one.prompt}{one.text}\n")


def _write_stream(loaded: "Bundle", prompt: str, settings: "Settings") -> None:
    from gptmodel.decoding.generation import stream

    _write(prompt)
    for piece in stream(loaded.decoder, loaded.tokenizer, [prompt], settings):
        _write(piece.text)
    _write("\n")


def _prompts(given: list[str], file: Path | None) -> list[str]:
    if given and file:
        raise UserError("give prompts as arguments or with --prompts-file, not both")
    if file:
        lines = [line for line in _decode(_read(file), str(file)).split("\n") if line.strip()]
        if not lines:
            raise UserError(f"{file} holds no prompt: write one per line")
        return lines
    if given in ([], ["-"]):
        return [""] if sys.stdin.isatty() else [_decode(sys.stdin.buffer.read(), "standard input").removesuffix("\n")]
    for number, prompt in enumerate(given, 1):
        if any("\ud800" <= character <= "\udfff" for character in prompt):
            raise UserError(f"prompt {number} is not UTF-8: pass it through a file with --prompts-file")
    return given


def _read(file: Path) -> bytes:
    if str(file) == "-":
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(
            f"{file} cannot be read ({error.strerror}): name a text file with one prompt per line"
        ) from None


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8 (byte {error.start}): save it as UTF-8") from None


def _unescape(text: str) -> str:
    """Let a stop string name line breaks and tabs as \\n and \\t."""
    return text.replace("\\n", "\n").replace("\\t", "\t")


def _random_seed() -> int:
    import secrets

    return secrets.randbelow(MAX_RANDOM_SEED)


def _lines(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Flatten nested values to lines: names joined by dots, large numbers grouped, small ones shortened."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _lines(value, f"{name}.")
        elif isinstance(value, int) and not isinstance(value, bool):
            yield name, f"{value:,}"
        else:
            yield name, f"{value:.4g}" if isinstance(value, float) else str(value)


def _write(text: str, file: TextIO | None = None) -> None:
    (file or sys.stdout).write(text)
    (file or sys.stdout).flush()


def _say(line: str) -> None:
    _write(f"{line}\n", sys.stderr)


if __name__ == "__main__":
    main()
