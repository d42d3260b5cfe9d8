"""What the tokenizer service costs: decoding a token, encoding a long text, the loop's lag."""
