"""What a decision asks is answered: by Prometheus, EC2, the kept rules, and a server that knows the scheduler's."""
