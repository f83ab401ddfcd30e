"""`k3s-autoscaler backtest`."""
