"""The whole service on one machine: emulated AWS, simulated cluster, real Prometheus, Alertmanager and handlers."""
