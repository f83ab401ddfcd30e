"""`k3s-autoscaler token`: creates and rotates the webhook's token."""
