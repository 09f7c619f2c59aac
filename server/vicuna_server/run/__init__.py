"""What a command that takes long carries: how it is asked to end, how fast it may go, whom it tells."""
