"""One module a trigger: authenticate, parse, dedupe, reconcile, respond."""
