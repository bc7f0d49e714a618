"""What the stages export and benchmark say about a bundle: bundle.json and benchmark.json."""

from typing import Literal

from pydantic import Field

from gptmodel.params import Level, Network
from gptmodel.results.corpus import Language
from gptmodel.results.evaluation import Metrics
from gptmodel.results.record import Record

FORMAT, FORMAT_VERSION = "gptmodel-bundle", 4


class Origin(Record):
    """The title page of the text that a model was trained on."""

    name: str
    title: str
    author: str | None
    year: int | None
    language: Language | None
    licence: str


class Parity(Record):
    """How close a graph in fp32 is to torch. The differences are the largest of any logit, in nats."""

    tolerance: float = Field(description="that no difference exceeds")
    positions: int
    windows_difference: float
    ragged_difference: float
    stepwise_difference: float
    greedy_tokens: int
    greedy_tokens_equal: int


class Cost(Record):
    """How much more a graph in fewer bits needs for a text that it has not seen, in nats, beside torch in fp32."""

    limit: float = Field(description="that the change does not exceed; 0.005: 0.5 %")
    tokens: int
    torch_nats: float
    nats: float
    change: float = Field(description="relative")


class FileEntry(Record):
    """One file of the bundle."""

    bytes: int
    sha256: str


class BundleInfo(Record):
    """bundle.json: what a bundle is, what it was trained on, how good it is, and the files beside it."""

    format: Literal["gptmodel-bundle"] = "gptmodel-bundle"
    format_version: Literal[4] = 4
    model: str = Field(description="its name under models: in params.yaml")
    level: Level
    context: int = Field(ge=1, description="tokens the model looks back on (1 for a bigram)")
    vocab_size: int
    network: Network = Field(discriminator="network", description="kind and sizes, as in params.yaml")
    parameters: int
    corpus: Origin
    example_prompt: str = Field(default="", description="of the text's kind: what to try first")
    metrics: Metrics | None = Field(description="of the evaluate stage; null for a model that nobody evaluated")
    graphs: dict[str, Parity | Cost] = Field(description="name of a graph: how close it is to torch")
    versions: dict[str, str] = Field(description="of gptmodel, torch, onnx and onnxruntime at export")
    best_step: int
    fingerprint: str
    files: dict[str, FileEntry]


class Sampled(Record):
    """How tokens were drawn while the speed was measured."""

    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float


class Workload(Record):
    """What was measured."""

    prompt_tokens: int
    new_tokens: int
    batch_sizes: list[int]
    repeats: int
    sampling: Sampled


class Machine(Record):
    """Where it was measured."""

    processor: str
    cores: int
    system: str
    python: str
    onnxruntime: str
    numpy: str
    device: str
    threads: int


class GraphSpeed(Record):
    """How fast one graph decodes; rates by batch size, as `batch_8`."""

    load_ms: float
    first_token_latency_ms: float
    tokens_per_second: dict[str, float]
    peak_memory_mb: float
    model_mb: float


class Benchmark(GraphSpeed):
    """benchmark.json: the figures of the graph that is fastest on this machine, and of every one that runs."""

    graph: str
    host_share: dict[str, float] = Field(description="share of the time spent outside the session")
    parameters: int
    workload: Workload
    machine: Machine
    graphs: dict[str, GraphSpeed]
