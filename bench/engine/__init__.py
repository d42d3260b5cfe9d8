"""Speed of the CPU engine beside OpenVINO GenAI's, and gaps between tokens while prompts arrive."""
