"""Tables, figures and the page that compare all models (stage report).

May import: the ground, results, data, and the rooms that measure. matplotlib is used here only.
Start reading: writer.py, then tables.py, then page.py.
"""
