"""What is under way, and what a look proves of it."""
