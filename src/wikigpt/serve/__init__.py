"""A chat over HTTP, for any client that speaks OpenAI's protocol."""
