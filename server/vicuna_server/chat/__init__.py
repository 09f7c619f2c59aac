"""The command `vicuna-server chat`."""
