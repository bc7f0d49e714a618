"""How good a model is, beside counting, and what it does inside: scores, uncertainty, novelty, comparison, inspection.

May import: the ground, results, data, decoding, model. Stages: baselines, evaluate, inspect. Start reading: scores.py.
"""
