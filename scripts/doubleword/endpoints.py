"""The endpoints that requests of a batch go to: OpenAI's API reference, and dwctl files.rs for the list."""

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
RESPONSES = "/v1/responses"
ENDPOINTS = (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES)
# Anthropic's form, which batches take too; no requests of it are made here.
MESSAGES = "/v1/messages"

TOKEN_LIMIT = {CHAT: "max_tokens", COMPLETIONS: "max_tokens", RESPONSES: "max_output_tokens"}
