"""Runs what resources/ renders as local processes: `vicuna-operator up`."""
