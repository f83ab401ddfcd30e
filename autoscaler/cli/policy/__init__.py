"""`k3s-autoscaler policy`: changes the policy while a cluster runs, and takes changes back."""
