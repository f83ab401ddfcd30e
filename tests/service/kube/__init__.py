"""A small Kubernetes API server for tests: as much as node-command.sh and the real kubectl ask of one."""
