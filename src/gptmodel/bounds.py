"""Types of the values in params.yaml: what no machine can do, and what no number is, is refused before anything runs.

The bounds are generous and the same on every machine. What fits into this one is asked before a network is built
(`gptmodel.training.demand`).
"""

from typing import Annotated

from pydantic import BeforeValidator, Field

Count = Annotated[int, Field(ge=1, le=10**9)]
Whole = Annotated[int, Field(ge=0, le=10**9)]
Size = Annotated[int, Field(ge=1, le=10**6)]  # memory grows with it
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # what numpy, torch and MLflow all take
Positive = Annotated[float, Field(gt=0, le=1e30)]  # float32 ends at 3e38
NotNegative = Annotated[float, Field(ge=0, le=1e30)]
Share = Annotated[float, Field(ge=0, lt=1)]
Part = Annotated[float, Field(gt=0, le=1)]
Text = Annotated[str, Field(max_length=10**5)]  # a bound on its length also refuses what is no Unicode
Prompts = Annotated[
    list[Text], BeforeValidator(lambda one: [one] if isinstance(one, str) else one), Field(min_length=1)
]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=100)]
Location = Annotated[str, Field(pattern=r"^[^\x00]+$", max_length=4096)]  # Linux's longest path
