"""kopf wiring and the reconcile loop."""
