"""`k3s-autoscaler verify-aws`: asks an account what no emulator shows."""
