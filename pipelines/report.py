"""Stage report: models/*, data/baselines, data/clean -> reports/ (page, verdict, tables, curves, samples)."""

from gptmodel import layout, params
from gptmodel.errors import one_line_errors
from gptmodel.report import tables, verdict, writer
from gptmodel.report.results import Everything
from gptmodel.tracking import outputs
from pipelines import arguments


@one_line_errors()
def main() -> None:
    """Compare all the models of params.yaml and show them."""
    arguments.none()
    folders = {name: layout.ModelFolder(name) for name in params.load(layout.PARAMS).models}
    everything = Everything.read(folders, layout.CLEAN, layout.BASELINES)
    writer.write(everything, layout.REPORTS)
    print(tables.comparison_markdown(everything))
    for name, model in everything.models.items():
        with outputs.tracked(model.meta, folders[name], "report"):
            pass
    print(verdict.of_run(everything).lead())


if __name__ == "__main__":
    main()
