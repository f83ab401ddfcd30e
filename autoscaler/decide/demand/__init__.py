"""What is wanted, one module a signal."""
