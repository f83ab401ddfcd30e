"""What the scheduler allows."""
