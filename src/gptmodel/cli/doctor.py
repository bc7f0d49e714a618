"""`gptmodel doctor`: what this machine and folder can do, and what stands in the way; it mends nothing."""

import json
import sys
from typing import Annotated

from typer import Exit, Option


def doctor(as_json: Annotated[bool, Option("--json", help="One JSON object, for programs.")] = False) -> None:
    """Say what is installed here, what would run where, and what stands in the way.

    Packages, processor, memory, disk and GPU; the graph that `generate` takes; device and precision of training; the
    MLflow store and the DVC repository of the current folder. Nothing is changed. Exit code 1 if a problem stops work.
    """
    from gptmodel.cli import checks

    found = [checks.examine(check) for check in checks.ALL]
    shown = checks.as_dict(found)
    sys.stdout.write(json.dumps(shown, ensure_ascii=False, indent=2) + "\n" if as_json else checks.report(found))
    raise Exit(int(any(problem.stops for section in found for problem in section.problems)))
