"""The policy as people write it: YAML in layers, with units, and everything that is wrong with it told at once.

text.py reads YAML, layers.py lays files over one another, reading.py makes typed values of it, numbers.py and units.py
those that are numbers; places.py finds the line of what is wrong.
What the fields are and mean stands in autoscaler/policy.py.
"""
