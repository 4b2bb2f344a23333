"""Text: documents, tokenizers, the tokenised corpus, and examples of it."""
