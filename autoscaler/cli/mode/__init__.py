"""`k3s-autoscaler pause`, `observe` and `resume`: who may act, and until when."""
