"""What every engine shares with its callers: the Protocol, its requests and its outputs.

Import them from `vicuna_server.engine`. None of it needs torch, so that the HTTP side and the scripted engine run
without it.
"""
