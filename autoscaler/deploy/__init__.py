"""What builds and deploys; no command of the operator's."""
