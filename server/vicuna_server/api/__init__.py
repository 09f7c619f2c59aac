"""The routes of one model server: OpenAI's API around an engine."""
