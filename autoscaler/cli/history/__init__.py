"""`k3s-autoscaler history`: what was decided and done, and by whom."""
