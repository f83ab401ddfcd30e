"""`k3s-autoscaler status`: whether it is alive, what it does, and what that costs."""
