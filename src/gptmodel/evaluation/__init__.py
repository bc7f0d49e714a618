"""How good a model is and what it does: baselines that count, scores, intervals, novelty, comparison, inspection.

May import: the ground, results, data, decoding, model.
Start reading: scores.py, then baselines.py.
"""
