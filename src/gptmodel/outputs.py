"""Reading what an earlier stage wrote as JSON."""

import json
from pathlib import Path
from typing import Any

from gptmodel.errors import UserError


def read_json(path: Path) -> Any:
    """Return the content of a stage's file; `UserError` where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run `dvc repro`, or `dvc pull`") from None
    except ValueError as error:
        raise UserError(f"{path} cannot be read ({error}): run `dvc repro`, or `dvc pull`") from None
