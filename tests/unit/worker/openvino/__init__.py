"""Unit tests of the openvino engine; no model is loaded."""
