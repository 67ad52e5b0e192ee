"""OpenAI's API: chat completions, completions and embeddings, with vLLM's and llama-server's
fields where these say more."""
