"""Kubernetes objects, as the API server writes them in JSON, in the words of `model.rules`."""
