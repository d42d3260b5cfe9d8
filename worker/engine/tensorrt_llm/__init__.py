"""The GPU engine: TensorRT-LLM's LLM API behind the seam."""
