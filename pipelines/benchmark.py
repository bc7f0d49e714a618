"""Stage benchmark@VARIANT: models/VARIANT/bundle -> models/VARIANT/benchmark.json, measured in a fresh process."""

from gptmodel import bundle, files, latency, mirror, params, tracking
from gptmodel.errors import one_line_errors
from pipelines import layout


def main() -> None:
    """Time the bundle of the model named on the command line."""
    with one_line_errors():
        workload = latency.Workload(**params.load(layout.PARAMS).benchmark.model_dump())
        folder = layout.MODELS / layout.variant()
        info = bundle.read_info(folder / "bundle")
        figures = latency.measure(folder / "bundle", workload)
        files.write_json(folder / "benchmark.json", figures)
        with tracking.run(
            fingerprint=info.fingerprint, variant=info.variant, corpus=info.corpus, level=info.level, stage="benchmark"
        ) as run:
            mirror.benchmarked(run, folder)
        for graph, measured in figures["graphs"].items():
            rates = ", ".join(f"{batch} {rate:,.0f}" for batch, rate in measured["tokens_per_second"].items())
            print(f"{info.variant}, {graph}: {rates} tokens/s")


if __name__ == "__main__":
    main()
