"""The engine that asks a vLLM server in another process, by HTTP. Knows neither torch nor transformers."""
