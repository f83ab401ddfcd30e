"""Tests of `k3s-autoscaler doctor`."""
