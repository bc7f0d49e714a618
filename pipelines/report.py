"""Stage report: models/* and the baselines -> reports/ (page, comparison, curves, gallery) and metrics.json."""

from gptmodel import layout, params
from gptmodel.errors import one_line_errors
from gptmodel.report import tables, writer
from gptmodel.report.results import Everything
from gptmodel.tracking import outputs


@one_line_errors()
def main() -> None:
    """Compare all the models of params.yaml and show them."""
    everything = Everything.read(list(params.load(layout.PARAMS).models))
    writer.write(everything, layout.REPORTS, layout.SUMMARY)
    print(tables.comparison_markdown(everything))
    for name, model in everything.models.items():
        with outputs.tracked(model.meta, layout.ModelFolder(name), "report"):
            pass


if __name__ == "__main__":
    main()
