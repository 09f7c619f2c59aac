"""What a source holds: tensors and where they lie, tokenizer, adapters; read without running anything of it.

tensors     one tensor: name, type, shape, place; `torch_tensors` as torch sees it, `samples` a few blocks of it
formats/    files of weights: which tensors, where
checkpoint  a folder of them as one model
tokenizers/ tokenizer and prompt format
adapters/   LoRA adapters
remote      what a source elsewhere can do; `small_files` what of it is fetched whole before the preflight
hub/        a repository on a Hugging Face hub, as such a source
"""
