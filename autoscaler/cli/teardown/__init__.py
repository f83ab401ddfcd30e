"""`k3s-autoscaler teardown`: ends what the service launched, after showing it."""
