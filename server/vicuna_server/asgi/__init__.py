"""HTTP code that server and gateway share: errors, bodies, event streams, draining, connections."""
