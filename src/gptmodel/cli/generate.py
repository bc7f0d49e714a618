"""`gptmodel generate`: a bundle continues texts, which go to standard output as they come."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

from typer import Argument, Option

from gptmodel.cli.arguments import BundleFolder
from gptmodel.decoding import defaults
from gptmodel.errors import UserError, one_line_errors
from gptmodel.progress import say
from gptmodel.runtime.session import Device

if TYPE_CHECKING:
    from gptmodel.decoding.generation import Generation
    from gptmodel.decoding.sequence import Settings

SEPARATOR = "---"  # a line of its own between several texts
MOST_BYTES = 1 << 26  # of all prompts


@one_line_errors()
def generate(
    bundle: BundleFolder,
    prompts: Annotated[
        list[str] | None, Argument(metavar="PROMPT", help="Texts to continue; - or none: standard input, as one text.")
    ] = None,
    prompts_file: Annotated[
        Path | None, Option(help="A UTF-8 file with one prompt per line; blank lines do not count.")
    ] = None,
    max_new_tokens: Annotated[int, Option(help="Tokens to generate per text.")] = defaults.MAX_NEW_TOKENS,
    temperature: Annotated[
        float, Option(help="0 takes the likeliest token; above 1 is wilder.")
    ] = defaults.TEMPERATURE,
    top_k: Annotated[int, Option(help="Draw among the k likeliest tokens; 0: all.")] = defaults.TOP_K,
    top_p: Annotated[float, Option(help="Draw among the likeliest tokens of this mass; 1: all.")] = defaults.TOP_P,
    seed: Annotated[int | None, Option(help="The same seed gives the same text. [default: random]")] = None,
    num_samples: Annotated[int, Option(help="Texts per prompt.")] = 1,
    stop: Annotated[list[str] | None, Option(help="End the text before this string (repeatable).")] = None,
    repetition_penalty: Annotated[
        float, Option(help="Above 1, tokens of the text so far are less likely.")
    ] = defaults.REPETITION_PENALTY,
    device: Annotated[Device, Option(help="auto: CUDA where there is one.")] = "auto",
    graph: Annotated[
        str | None, Option(help="portable, fp32, int8 or fp16. [default: the fastest of the bundle for the device]")
    ] = None,
    threads: Annotated[int, Option(help="CPU threads; 1 is the fastest for small models.")] = 1,
    as_json: Annotated[bool, Option("--json", help="One JSON object per text and line.")] = False,
) -> None:
    """Continue each PROMPT: the text is written as it comes, or separated by lines of --- if there are several.

    A long prompt is cut: the model sees the last tokens only, at most its context; the same goes for long texts.
    """
    from gptmodel import api
    from gptmodel.decoding.sampling import InvalidSetting, Sampling, given_or_random
    from gptmodel.decoding.sequence import Settings

    try:
        sampling = Sampling(temperature, top_k, top_p, repetition_penalty)
        settings = Settings(max_new_tokens, sampling, given_or_random(seed), tuple(map(_unescape, stop or ())))
        if num_samples < 1:
            raise InvalidSetting("num_samples", f"must be 1 or above, not {num_samples}")
    except InvalidSetting as error:
        raise UserError(f"--{error.field.replace('_', '-')} {error.reason}") from None
    texts = _prompts(prompts or [], prompts_file)
    model = api.load(bundle, device, threads, graph)
    say(f"{bundle}: {model.info.model}, {model.bundle.graph} on {model.bundle.device}, seed {settings.seed}")
    for line in model.notes(texts):
        say(f"note: {line}")
    if as_json or len(texts) * num_samples != 1:
        _write_all(model.complete(texts, settings, num_samples), bundle, settings, as_json)
    else:
        _write(texts[0])
        for _, delta in model.deltas(texts, settings):
            _write(delta.text)
        _write("\n")


def _write_all(finished: "Iterator[Generation]", bundle: Path, settings: "Settings", as_json: bool) -> None:
    for number, text in enumerate(finished):
        if as_json:
            line = vars(text) | {"seed": settings.seed, "bundle": str(bundle)}
            _write(json.dumps(line, ensure_ascii=False) + "\n")
        else:
            before = f"{SEPARATOR}\n" if number else ""
            _write(f"{before}{text.prompt}{text.text}\n")


def _prompts(given: list[str], file: Path | None) -> list[str]:
    """Return the prompts; `UserError` where there are none, or they are not UTF-8."""
    if given and file:
        raise UserError("give prompts as arguments or with --prompts-file, not both")
    if file:
        lines = [line for line in _decode(_bytes(file), str(file)).split("\n") if line.strip()]
        if not lines:
            raise UserError(f"{file} holds no prompt: write one per line")
        return lines
    if given in ([], ["-"]):
        return [""] if sys.stdin.isatty() else [_decode(_read(sys.stdin.buffer), "standard input").removesuffix("\n")]
    for number, prompt in enumerate(given, 1):
        if any("\ud800" <= character <= "\udfff" for character in prompt):
            raise UserError(f"prompt {number} is not UTF-8: pass it through a file with --prompts-file")
    return given


def _bytes(file: Path) -> bytes:
    if str(file) == "-":
        return _read(sys.stdin.buffer)
    try:
        with file.open("rb") as opened:
            return _read(opened)
    except OSError as error:
        raise UserError(
            f"{file} cannot be read ({error.strerror}): name a text file with one prompt per line"
        ) from None


def _read(opened: BinaryIO) -> bytes:
    data = opened.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise UserError(f"the prompts have more than {MOST_BYTES:,} bytes: cut them into several files")
    return data


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8 (byte {error.start}): save it as UTF-8") from None


def _unescape(text: str) -> str:
    """Let a stop string name line breaks and tabs as \\n and \\t."""
    return text.replace("\\n", "\n").replace("\\t", "\t")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
