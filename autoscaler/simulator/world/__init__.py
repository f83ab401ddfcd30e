"""The simulated cluster itself, in virtual time."""
