"""What one invocation costs, measured on the package as Lambda runs it: in fresh processes of the runtime's Python.

`artifact.py` makes and unpacks the package; `in_child.py` runs within the measured process and imports nothing of ours
that is not in it; `cold.py` and `warm.py` start those processes; `answers.py` is AWS and Prometheus as a calm look sees
them; `memory.py` says what another memory size would cost and bring.
"""
