"""Scales the EC2 workers of a K3s cluster: observe, decide, act."""
