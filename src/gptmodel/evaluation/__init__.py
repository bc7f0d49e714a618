"""What a model is worth: baselines that count, scores, their uncertainty, novelty, a look inside (stages baselines,
evaluate, inspect).

May import: the ground, results, data, decoding, model.
Start reading: scores.py, then baselines.py, then inspection.py.
"""
