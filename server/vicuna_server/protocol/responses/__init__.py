"""`/v1/responses`: requests, responses and the items that both are made of.

Sources: OpenAI's API reference, "Responses", the types of its Python client 3.57, and the specification of
openresponses.org.
"""
