"""`k3s-autoscaler simulate`: what would be if."""
