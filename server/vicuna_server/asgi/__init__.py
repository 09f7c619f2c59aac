"""What the HTTP of server and gateway has in common: errors, bodies, event streams, draining, connections."""
