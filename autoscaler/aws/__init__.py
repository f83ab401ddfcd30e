"""The ports on AWS, and Prometheus over HTTP: one module a port."""
