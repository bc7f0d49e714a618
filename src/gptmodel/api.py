"""A bundle as one Python object: what the command line, MLflow and the notebooks call.

It needs the inference runtime only: numpy, tokenizers, pydantic and ONNX Runtime.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import NamedTuple, TypedDict, Unpack, overload

import numpy as np

from gptmodel.data.tokenizer import naming_nats, spans
from gptmodel.decoding import defaults, generation, prompts, scoring
from gptmodel.decoding.engine import window_start
from gptmodel.decoding.generation import Generation
from gptmodel.decoding.sampling import InvalidSetting, Sampling, given_or_random
from gptmodel.decoding.sequence import Delta, Settings
from gptmodel.errors import UserError
from gptmodel.results.bundle import BundleInfo
from gptmodel.runtime.bundle import Bundle
from gptmodel.runtime.session import Device


class TokenScore(NamedTuple):
    """What one token of a text costs: its characters are text[start:end].

    Tokens that hold some bytes of a character only span all of it, so that neighbours may overlap.
    """

    text: str
    start: int
    end: int
    nats: float


@dataclass(frozen=True)
class Score:
    """How well a model predicts a text: the nats of all its tokens; every character counts."""

    nats: float
    characters: int
    tokens: tuple[TokenScore, ...]

    @property
    def bits_per_char(self) -> float:
        """Mean cost of a character: comparable across levels.

        >>> Score(nats=np.log(2) * 30, characters=10, tokens=()).bits_per_char
        3.0
        """
        return float(self.nats / np.log(2) / self.characters)


class Options(TypedDict, total=False):
    """What `generate` and `stream` may be told, for type checkers; `Model.generate` describes it."""

    max_new_tokens: int
    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float
    seed: int | None
    stop: str | Sequence[str]


class Candidate(NamedTuple):
    r"""A token that may come next, and its probability; bytes that are no whole character are written as `\xc3`."""

    text: str
    probability: float


def load(path: str | PathLike[str], device: Device = "auto", threads: int = 1, graph: str | None = None) -> "Model":
    """Open the bundle in a folder, or in models/NAME; `UserError` says what is wrong with it and what mends it.

    Args:
        path: the folder of a bundle, or the folder of a model, which holds it.
        device: `cpu`, `cuda`, or `auto`: CUDA where there is one.
        threads: CPU threads of the model; 1 is the fastest for small ones.
        graph: `portable`, `fp32`, `int8` or `fp16`; default: the fastest of the bundle for the device.
    """
    return Model(Bundle.load(Path(path), device, threads, graph))


class Model:
    """A loaded model. It does one thing at a time: finish a `stream` before you ask for anything else."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    @property
    def info(self) -> BundleInfo:
        """What the model is, what it was trained on and how good it is: bundle.json."""
        return self.bundle.info

    def __repr__(self) -> str:
        return f"<Model {self.info.model}: {self.bundle.graph} on {self.bundle.device}>"

    @overload
    def generate(self, prompt: str, *, num_samples: None = None, **options: Unpack[Options]) -> str: ...

    @overload
    def generate(self, prompt: str, *, num_samples: int, **options: Unpack[Options]) -> list[str]: ...

    def generate(
        self,
        prompt: str,
        *,
        max_new_tokens: int = defaults.MAX_NEW_TOKENS,
        temperature: float = defaults.TEMPERATURE,
        top_k: int = defaults.TOP_K,
        top_p: float = defaults.TOP_P,
        repetition_penalty: float = defaults.REPETITION_PENALTY,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        num_samples: int | None = None,
    ) -> str | list[str]:
        """Return how the model continues a prompt, without the prompt.

        Args:
            prompt: any text; empty: the model begins a line.
            max_new_tokens: where the text ends, unless a stop string ends it before.
            temperature: 0 takes the likeliest token; above 1 is wilder.
            top_k: draw among the k likeliest tokens; 0: all.
            top_p: draw among the likeliest tokens of this mass; 1: all.
            repetition_penalty: above 1, tokens of the text so far are less likely.
            seed: the same seed gives the same text; None: another one each time.
            stop: the text ends before this string, or the first of these.
            num_samples: None: return one text. A number: return a list of as many, the first as without it.

        Raises:
            InvalidSetting: a value makes no sense; its `field` says which (a `UserError`).
        """
        settings = _settings(max_new_tokens, Sampling(temperature, top_k, top_p, repetition_penalty), seed, stop)
        count = 1 if num_samples is None else num_samples
        texts = [finished.text for finished in self.complete([prompt], settings, count)]
        return texts[0] if num_samples is None else texts

    def stream(
        self,
        prompt: str,
        *,
        max_new_tokens: int = defaults.MAX_NEW_TOKENS,
        temperature: float = defaults.TEMPERATURE,
        top_k: int = defaults.TOP_K,
        top_p: float = defaults.TOP_P,
        repetition_penalty: float = defaults.REPETITION_PENALTY,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
    ) -> Iterator[str]:
        """Yield the text that `generate` returns, piece by piece as it becomes certain; same arguments and errors."""
        settings = _settings(max_new_tokens, Sampling(temperature, top_k, top_p, repetition_penalty), seed, stop)
        return (delta.text for _, delta in self.deltas([prompt], settings) if delta.text)

    def complete(self, prompts: Sequence[str], settings: Settings, num_samples: int = 1) -> Iterator[Generation]:
        """Yield `num_samples` finished texts of each prompt, in the order of the prompts, decoded in batches."""
        return generation.complete(self.bundle.decoder, self.bundle.tokenizer, prompts, settings, num_samples)

    def deltas(self, prompts: Sequence[str], settings: Settings) -> Iterator[tuple[int, Delta]]:
        """Yield what each prompt's text grows by, as it comes, with the number of the prompt; all in one batch."""
        return generation.stream(self.bundle.decoder, self.bundle.tokenizer, prompts, settings)

    def notes(self, texts: Sequence[str]) -> list[str]:
        """Return what a person should know of these prompts, a line each: characters that the model does not know.."""
        return list(prompts.notes(self.bundle.tokenizer, texts, self.info.context))

    def score(self, text: str) -> Score:
        """Return how well the model predicts a text (at least one character), taken as it is.

        As the stage evaluate does: in windows of the training context that follow each other; the first token costs as
        much as a uniform choice, and a character that the tokenizer does not know its name among all of Unicode.
        """
        if not text:
            raise UserError("the text to score is empty: give it at least one character")
        tokenizer = self.bundle.tokenizer
        ids = tokenizer.encode(text)
        nats = scoring.token_nats(self.bundle.decoder, ids, self.info.network.context)
        nats = nats + naming_nats(ids, tokenizer.unknown_id)
        tokens = tuple(
            TokenScore(text[start:end], start, end, cost)
            for (start, end), cost in zip(spans(tokenizer, ids, text).tolist(), nats.tolist(), strict=True)
        )
        return Score(float(nats.sum()), len(text), tokens)

    def next(self, text: str, k: int = 10) -> list[Candidate]:
        """Return the `k` likeliest tokens after a text, of those that `generate` may draw; likeliest first."""
        if k < 1:
            raise InvalidSetting("k", f"must be 1 or above, not {k}")
        tokenizer = self.bundle.tokenizer
        start = prompts.start(tokenizer, text)
        window = start.ids[window_start(len(start.ids), self.bundle.decoder.context) :]
        logits_1V, _ = self.bundle.decoder.prefill([window])
        allowed_V = prompts.begins_with_space(tokenizer) if start.owes_space else np.ones(tokenizer.vocab_size, bool)
        allowed_V[generation.banned_ids(tokenizer)] = False
        scores_V = np.where(allowed_V, logits_1V[0].astype(np.float64), -np.inf)
        weight_V = np.exp(scores_V - scores_V.max())
        share_V = weight_V / weight_V.sum()
        likeliest = np.argsort(-share_V, kind="stable")[: min(k, int(allowed_V.sum()))]
        spelled = (tokenizer.token_bytes[token].decode("utf-8", "backslashreplace") for token in likeliest)
        return [
            Candidate(token.removeprefix(" ") if start.owes_space else token, share)
            for token, share in zip(spelled, share_V[likeliest].tolist(), strict=True)
        ]


def _settings(max_new_tokens: int, sampling: Sampling, seed: int | None, stop: str | Sequence[str]) -> Settings:
    strings = (stop,) if isinstance(stop, str) else tuple(stop)
    return Settings(max_new_tokens, sampling, given_or_random(seed), strings)
