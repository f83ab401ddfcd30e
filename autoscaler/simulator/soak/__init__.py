"""The deterministic fault simulator: concurrent invocations of the real `reconcile`, every fault, every invariant.

`assumptions` states what is taken for granted; `run` plays one seed; `story` enumerates; `__main__` is `make soak`.
"""
