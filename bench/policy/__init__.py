"""`make bench-policy`: named workloads under several policies, on the simulator. docs/policy/bench.md reads it."""
