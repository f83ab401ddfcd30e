"""What operators ask the service: answered by the same core as a look, and nothing is changed."""
