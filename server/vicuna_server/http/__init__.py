"""The FastAPI application of one model server."""
