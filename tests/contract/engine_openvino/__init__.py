"""The openvino engine with the real model."""
