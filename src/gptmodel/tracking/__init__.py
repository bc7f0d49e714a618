"""MLflow beside the stages: it watches and mirrors, and cannot change or fail a result. mlflow is used here only.

May import: every room. Only pipelines and the command line import it.
Start reading: outputs.py, then runs.py, then sync.py.
"""
