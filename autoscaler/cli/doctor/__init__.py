"""`k3s-autoscaler doctor`: what is wrong with a deployed cluster's autoscaler, each with its mend."""
