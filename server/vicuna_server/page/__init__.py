"""The chat page: its files, and the answer to a request for one. No web framework, so that any server can offer it."""

from vicuna_server.page.answer import PageAnswer, page_answer
from vicuna_server.page.files import PAGE_PATHS, page_file

__all__ = ["PAGE_PATHS", "PageAnswer", "page_answer", "page_file"]
