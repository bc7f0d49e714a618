"""The text: from the catalog, or the user's own files, to one clean text cut into splits (stages fetch and clean).

May import: the ground, results, data. No torch, no pandas.
Start reading: catalog.py, then cleaning.py with its table of rules, then splits.py.
"""
