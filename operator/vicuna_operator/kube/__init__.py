"""The few Kubernetes API calls the operator makes, behind one Protocol."""
