"""`kubectl vicuna`: what a person asks about a model and tells it to do. Speaks to the cluster through kubectl."""
