"""What the simulated cluster shows: expositions, and Prometheus' answers."""
