"""params.yaml as typed, frozen values: an unknown key, a wrong type or an impossible combination is a `UserError`.

params.yaml alone gives the values. The descriptions are the source of docs/parameters.md (`make docs`).
"""

import sys
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from gptmodel.bounds import Count, Location, Name, NotNegative, Part, Positive, Prompts, Seed, Share, Size, Text, Whole
from gptmodel.errors import UserError, one_line_errors
from gptmodel.machine import Threads
from gptmodel.strict import Strict, parse, read_yaml

Level = Literal["char", "word", "bpe"]

HEAD_SIZE_MULTIPLE = 16  # ONNX Runtime's GroupQueryAttention with rotary positions and the fast GPU kernels want it


class Book(Strict):
    """The text, whose path may stand alone (`corpus: PATH`), and its title page, which never retrains."""

    path: Location = Field(description="a name in data/catalog.yaml, or the path of your .txt file or folder")
    title: Text | None = Field(None, min_length=1, description="`null`: the catalog's, or the file's name")
    author: Text | None = Field(None, min_length=1, description="`null`: the catalog's")
    language: str | None = Field(None, pattern="^[a-z]{2,3}$", description="`null`: the catalog's, or as found out")


class CleanRules(Strict):
    """One switch per cleaning rule (see `gptmodel.text.cleaning`); with all of them off the text passes unchanged."""

    characters: bool = Field(description="drop the byte-order mark and soft hyphens; line ends to LF; Unicode NFC")
    gutenberg: bool = Field(description="cut Project Gutenberg's header, licence and credit lines")
    contents: bool = Field(description="cut tables of contents: announced ones anywhere, others at the start")
    unwrap: bool = Field(description="join the lines of a wrapped paragraph; verse and headings stay")
    notes: bool = Field(description="remove `[Note : ...]`, `[Illustration]` and note calls such as `[12]`")
    italics: bool = Field(description="remove the `_` marks around italics")
    dashes: bool = Field(description="`--` becomes an em dash with one space; dialogue lines begin with `— `")
    ellipses: bool = Field(description="`...` becomes `…`")
    apostrophes: bool = Field(description="the typographic apostrophe becomes `'`")
    quotes: bool = Field(description="straight and English double quotes become `« »`")
    spacing: bool = Field(description="one plain space inside `« »` and before `; : ! ?`; no no-break spaces")
    blanks: bool = Field(description="no blank lines, double spaces or spaces at line ends: a line is a paragraph")


class Clean(Strict):
    """How the raw text is cleaned."""

    language: Literal["auto", "fr", "other"] = Field(description="French rules are for `fr`; `auto`: if it is French")
    rules: CleanRules


class Split(Strict):
    """Where the text is cut into train, validation and test: by position, in this order."""

    train: Positive = Field(description="share of the characters that the networks learn from")
    validation: Share = Field(description="share that chooses the best checkpoint")
    test: Share = Field(description="share that only the final figures use; 0 for none")
    boundary: Literal["line", "character"] = Field(description="cut at the next line, or at the very character")

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> Self:
        if abs(self.train + self.validation + self.test - 1) > 1e-9:
            raise ValueError("train + validation + test must be 1")
        if self.validation == 0:
            raise ValueError("validation must be above 0: it chooses the best checkpoint")
        return self


class CharTokenizer(Strict):
    """One token per character of the training split."""

    min_count: Count = Field(description="a character seen fewer times in the training split is unknown")


class WordTokenizer(Strict):
    """French-aware words; a word outside the vocabulary is spelled."""

    vocab_size: Annotated[Size, Field(ge=600)] = Field(description="largest number of tokens, spelling pieces included")
    min_count: Count = Field(description="a word seen fewer times in the training split is spelled")


class BpeTokenizer(Strict):
    """Byte-level byte-pair encoding."""

    vocab_size: Annotated[Size, Field(ge=257)] = Field(description="number of tokens, the 256 bytes included")


class Tokenizers(Strict):
    """The three levels."""

    char: CharTokenizer
    word: WordTokenizer
    bpe: BpeTokenizer


class Baselines(Strict):
    """The counts that every model is compared with."""

    order: Annotated[Count, Field(le=100)] = Field(description="the highest order of Kneser-Ney, from 3 on: characters")


class Training(Strict):
    """How one network is trained."""

    steps: Count = Field(description="optimizer steps")
    batch_size: Size = Field(description="windows per step (of all processes); tokens per step = batch_size x context")
    windows: Literal["shuffled", "random"] = Field(
        description="`shuffled`: every epoch cuts the text anew and shuffles the windows; `random`: random places"
    )
    learning_rate: Positive = Field(description="peak learning rate of AdamW")
    muon_learning_rate: NotNegative = Field(
        description="peak learning rate of Muon, which then trains the blocks' matrices; 0: AdamW trains everything"
    )
    warmup_steps: Whole = Field(description="steps of linear rise to the peak")
    warmdown: Part = Field(description="share of the steps, at the end, in which the learning rates fall")
    schedule: Literal["linear", "cosine"] = Field(description="the shape of that fall")
    final_rate: Share = Field(description="learning rate at the end, as a share of the peak")
    weight_decay: NotNegative = Field(description="decoupled decay of matrices (with Muon: of those that Muon trains)")
    beta2: Share = Field(description="AdamW's second-moment decay; the first is 0.9")
    gradient_clip: Positive = Field(description="largest global gradient norm")
    evaluate_every: Count = Field(description="steps between exact evaluations of the whole validation split")

    @model_validator(mode="after")
    def _warmup_fits(self) -> Self:
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps ({self.warmup_steps}) must be below steps ({self.steps})")
        return self


class BigramNetwork(Strict):
    """The lecture's bigram: one row of logits per token."""

    network: Literal["bigram"]
    context: Size = Field(description="tokens per training window (the bigram itself sees one)")


class GPTNetwork(Strict):
    """A decoder-only transformer, from the 2017-style decoder to the modern one."""

    network: Literal["gpt"]
    context: Annotated[Size, Field(ge=2)] = Field(description="tokens the network can look back on")
    n_layer: Annotated[Size, Field(le=10**4)] = Field(description="transformer blocks")
    n_head: Size = Field(description="attention heads; n_embd / n_head must be a multiple of 16")
    n_embd: Size = Field(description="width of the residual stream")
    n_hidden: Size = Field(description="width inside the MLP (4 x n_embd; 8/3 x n_embd for swiglu)")
    norm: Literal["layernorm", "rmsnorm"] = Field(description="normalisation before each sub-layer")
    positions: Literal["learned", "rotary"] = Field(description="learned table (GPT-2) or rotary (RoPE)")
    mlp: Literal["gelu", "relu", "swiglu"] = Field(description="non-linearity of the MLP")
    qk_norm: bool = Field(description="RMS-normalise queries and keys per head")
    bias: bool = Field(description="biases in the linear layers and LayerNorms")
    tie_embeddings: bool = Field(description="the output layer shares the token embedding")
    init: Literal["gpt2", "zero"] = Field(
        description="first weights: GPT-2's, or zero in the projections into the residual stream and the logits"
    )
    dropout: Share = Field(description="share of residual-stream activations dropped in training")

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd ({self.n_embd}) must be divisible by n_head ({self.n_head})")
        size = self.n_embd // self.n_head
        if size % HEAD_SIZE_MULTIPLE:
            raise ValueError(f"head size n_embd / n_head is {size}; it must be a multiple of {HEAD_SIZE_MULTIPLE}")
        return self


class BigramModel(BigramNetwork, Training):
    """One entry of `models:` that is a bigram."""

    tokenizer: Level = Field(description="char, word or bpe")


class GPTModel(GPTNetwork, Training):
    """One entry of `models:` that is a GPT."""

    tokenizer: Level = Field(description="char, word or bpe")


Network = BigramNetwork | GPTNetwork
Model = BigramModel | GPTModel


class Engine(Strict):
    """How training steps are computed, for every model."""

    precision: Literal["auto", "float32", "bfloat16"] = Field(
        description="of the matrix products; `auto`: bfloat16 where the processor multiplies it in hardware"
    )
    execution: Literal["eager", "compile", "graph"] = Field(
        description="`compile`: torch.compile (a start-up of 10 to 40 s; on a CPU it needs a C++ compiler); "
        "`graph`: each step is one CUDA graph (CUDA only)"
    )
    nonfinite: Literal["stop", "skip"] = Field(description="at a gradient that is not finite: stop, or skip the step")


class Resume(Strict):
    """What is kept of an unfinished training, in .resume/: a stage that was stopped goes on from there."""

    save_every_seconds: NotNegative = Field(description="time between two saves; 0: at every step")
    keep: Count = Field(description="saved states kept: if the newest is damaged, the one before counts")


class Timeline(Strict):
    """The sample at every evaluation during training, so that one can watch the language appear."""

    prompt: Text = Field(description="what the sample continues; `auto`: the commonest beginning of a sentence")
    temperature: NotNegative = Field(description="0 takes the likeliest token")
    max_new_tokens: Size = Field(description="tokens generated per sample")


class Samples(Strict):
    """The text that the evaluate stage generates to look at."""

    prompts: Prompts = Field(description="`auto`: the three commonest; the first one is the report's excerpt")
    temperatures: Annotated[list[NotNegative], Field(min_length=1)] = Field(
        description="each prompt at each; 0 takes the likeliest token; the first one is the report's excerpt"
    )
    max_new_tokens: Size = Field(description="tokens generated per sample")
    top_k: Whole = Field(description="sample among the k likeliest tokens; 0 for all")
    top_p: Part = Field(description="sample among the likeliest tokens of this mass")


class Evaluation(Strict):
    """How the text is scored, beyond the exact figures, which have no choice."""

    dynamic_rate: NotNegative = Field(
        description="step of dynamic evaluation after each window, as a share of each tensor's size; 0: none is taken"
    )


class Inspection(Strict):
    """What the report shows of a model's inside."""

    passage_characters: Annotated[Size, Field(ge=100)] = Field(
        description="length of the held-out passage that is coloured by surprisal"
    )
    attention_tokens: Size = Field(
        description="length of the excerpt in the attention maps and the logit lens (at most the context)"
    )


class Export(Strict):
    """The ONNX bundle."""

    tolerance: Positive = Field(description="largest difference of a logit between torch and the graphs in fp32")
    int8_cost: Positive = Field(description="most that the test text may cost more in 8-bit weights; 0.005: 0.5 %")
    fp16_cost: Positive = Field(description="the same in half precision")


class Benchmark(Strict):
    """What the benchmark stage measures."""

    prompt_tokens: Size = Field(description="length of the prompt for the first-token latency")
    new_tokens: Annotated[Size, Field(ge=2)] = Field(description="tokens generated per run")
    batch_sizes: Annotated[list[Size], Field(min_length=1)] = Field(description="sequences decoded at once")
    repeats: Count = Field(description="runs per figure after one warm-up; the median counts")


class Params(Strict):
    """The whole of params.yaml."""

    seed: Seed = Field(description="fixes batches, dropout, initial weights and samples")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(description="where training runs; auto: the fastest present")
    threads: Threads = Field(description="CPU threads of torch; auto: all cores but one; OMP_NUM_THREADS goes first")
    corpus: Annotated[Book, BeforeValidator(lambda given: {"path": given} if isinstance(given, str) else given)]
    clean: Clean
    split: Split
    tokenizers: Tokenizers
    baselines: Baselines
    models: Annotated[dict[Name, Annotated[Model, Field(discriminator="network")]], Field(min_length=1)]
    engine: Engine
    resume: Resume
    timeline: Timeline
    samples: Samples
    evaluation: Evaluation
    inspection: Inspection
    export: Export
    benchmark: Benchmark

    def model(self, name: str) -> Model:
        """Return the entry `name` of `models:`; `UserError` if there is none."""
        if name not in self.models:
            raise UserError(f"unknown model {name!r}: params.yaml has {', '.join(self.models)} under models:")
        return self.models[name]


def load(path: Path) -> Params:
    """Read and check params.yaml; `UserError` names the first wrong key and the remedy."""
    return parse(Params, read_yaml(path), path)


if __name__ == "__main__":  # python -m gptmodel.params [params.yaml]: check it, as `make repro` does first
    with one_line_errors():
        if len(sys.argv) > 2:
            raise UserError(f"python -m gptmodel.params takes one file, not {' '.join(sys.argv[1:])!r}")
        load(Path([*sys.argv, "params.yaml"][1]))
