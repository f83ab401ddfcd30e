"""Intents of the state -> calls on the ports, each recorded as soon as its answer is known."""
