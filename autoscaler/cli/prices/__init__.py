"""`k3s-autoscaler prices`: asks AWS what instance types cost."""
