"""MLflow: a run for each trained model, filled by the stages or from their outputs, and the registry of bundles.

May import every room; only the pipelines and the command line import it. MLflow and DVC are imported nowhere else.
Start reading: outputs.py (the door of the stages), then runs.py.
"""
