"""AWS and the cluster behind HTTP, in real time."""
