"""`/v1/responses`: the route, the conversation it reads, the events and items it writes, and what it keeps."""
