"""`k3s-autoscaler explain`: why it does what it does, and why not something else."""
