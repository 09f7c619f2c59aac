"""`vicuna-server inspect`: what a source is, told to people and programs."""
