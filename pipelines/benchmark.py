"""Stage benchmark@MODEL: models/MODEL/bundle -> models/MODEL/benchmark, measured in fresh processes."""

from gptmodel import files, layout, params
from gptmodel.errors import one_line_errors
from gptmodel.runtime import bundle, latency
from gptmodel.tracking import outputs
from pipelines import arguments


@one_line_errors()
def main() -> None:
    """Time the bundle of the model named on the command line."""
    settings, folder = params.load(layout.PARAMS).benchmark, layout.ModelFolder(arguments.model())
    info = bundle.read_info(folder.bundle)
    with outputs.tracked(info, folder, "benchmark"):
        figures = latency.measure(folder.bundle, settings)
        with files.whole_folder(folder.benchmark) as partial:
            figures.write(partial / "benchmark.json")
    for graph, measured in figures.graphs.items():
        rates = ", ".join(f"{batch} {rate:,.0f}" for batch, rate in measured.tokens_per_second.items())
        print(f"{info.model}, {graph}: {rates} tokens/s")


if __name__ == "__main__":
    main()
