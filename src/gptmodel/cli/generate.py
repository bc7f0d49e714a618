"""`gptmodel generate`: a bundle continues texts, which go to standard output as they come."""

import json
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gptmodel.cli import prompts as prompt_input
from gptmodel.cli.arguments import BundleFolder, settings_as_options
from gptmodel.decoding import defaults
from gptmodel.errors import one_line_errors
from gptmodel.progress import say
from gptmodel.runtime.session import Device

if TYPE_CHECKING:
    from gptmodel.decoding.generation import Generation
    from gptmodel.decoding.sequence import Settings
    from gptmodel.runtime.bundle import Bundle

SEPARATOR = "---"  # a line of its own between several texts
RANDOM_SEEDS = 1 << 32  # 32 bits: short enough to retype


@one_line_errors()
def generate(
    bundle: BundleFolder,
    prompts: Annotated[
        list[str] | None,
        typer.Argument(metavar="PROMPT", help="Texts to continue; - or none: standard input, as one text."),
    ] = None,
    prompts_file: Annotated[
        Path | None, typer.Option(help="A UTF-8 file with one prompt per line; blank lines do not count.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens to generate per text.")] = defaults.MAX_NEW_TOKENS,
    temperature: Annotated[
        float, typer.Option(help="0 takes the likeliest token; above 1 is wilder.")
    ] = defaults.TEMPERATURE,
    top_k: Annotated[int, typer.Option(help="Draw among the k likeliest tokens; 0: all.")] = defaults.TOP_K,
    top_p: Annotated[
        float, typer.Option(help="Draw among the likeliest tokens of this mass; 1: all.")
    ] = defaults.TOP_P,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same text. [default: random]")] = None,
    num_samples: Annotated[int, typer.Option(help="Texts per prompt.")] = 1,
    stop: Annotated[list[str] | None, typer.Option(help="End the text before this string (repeatable).")] = None,
    repetition_penalty: Annotated[
        float, typer.Option(help="Above 1, tokens of the text so far are less likely.")
    ] = defaults.REPETITION_PENALTY,
    device: Annotated[Device, typer.Option(help="auto: CUDA where there is one.")] = "auto",
    graph: Annotated[
        str | None,
        typer.Option(help="portable, fp32, int8 or fp16. [default: the fastest of the bundle for the device]"),
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads; 1 is the fastest for small models.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per text and line.")] = False,
) -> None:
    """Continue each PROMPT: the text is written as it comes, or separated by lines of --- if there are several.

    A long prompt is cut: the model sees the last tokens only, at most its context; the same goes for long texts.
    """
    from gptmodel.decoding.generation import complete
    from gptmodel.decoding.prompts import notes
    from gptmodel.decoding.sampling import Sampling
    from gptmodel.decoding.sequence import Settings
    from gptmodel.runtime.bundle import Bundle

    chosen_seed = secrets.randbelow(RANDOM_SEEDS) if seed is None else seed
    with settings_as_options():
        sampling = Sampling(temperature, top_k, top_p, repetition_penalty)
        settings = Settings(max_new_tokens, sampling, chosen_seed, tuple(_unescape(text) for text in stop or ()))
    texts = prompt_input.read(prompts or [], prompts_file)
    loaded = Bundle.load(bundle, device, threads, graph)
    say(f"{bundle}: {loaded.info.model}, {loaded.graph} on {loaded.device}, seed {chosen_seed}")
    for line in notes(loaded.tokenizer, texts, loaded.info.context):
        say(f"note: {line}")
    if as_json or len(texts) * num_samples != 1:
        with settings_as_options():
            finished = complete(loaded.decoder, loaded.tokenizer, texts, settings, num_samples)
            _write_all(finished, bundle, settings, as_json)
    else:
        _write_stream(loaded, texts[0], settings)


def _write_all(finished: "Iterator[Generation]", bundle: Path, settings: "Settings", as_json: bool) -> None:
    for number, text in enumerate(finished):
        if as_json:
            line = vars(text) | {"seed": settings.seed, "bundle": str(bundle)}
            _write(json.dumps(line, ensure_ascii=False) + "\n")
        else:
            before = f"{SEPARATOR}\n" if number else ""
            _write(f"{before}{text.prompt}{text.text}\n")


def _write_stream(loaded: "Bundle", prompt: str, settings: "Settings") -> None:
    from gptmodel.decoding.generation import stream

    _write(prompt)
    for _, delta in stream(loaded.decoder, loaded.tokenizer, [prompt], settings):
        _write(delta.text)
    _write("\n")


def _unescape(text: str) -> str:
    """Let a stop string name line breaks and tabs as \\n and \\t."""
    return text.replace("\\n", "\n").replace("\\t", "\t")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
