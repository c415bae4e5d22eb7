"""What the service takes: the endpoints that requests of a batch go to, and its limits.

Endpoints: OpenAI's API reference, and dwctl files.rs for the list.
"""

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
RESPONSES = "/v1/responses"
ENDPOINTS = (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES)
# Anthropic's form, which batches take too; such lines are checked and sent, but none are made of tables.
MESSAGES = "/v1/messages"

TOKEN_LIMIT = {CHAT: "max_tokens", COMPLETIONS: "max_tokens", RESPONSES: "max_output_tokens", MESSAGES: "max_tokens"}

# dwctl config.rs, limits.requests.max_body_size: 10 MiB for the body of one line. Held against the whole line.
MAX_LINE_BYTES = 10_485_760
# What the hosted service documents for one file; a self-hosted server may allow less (dwctl limits.rs).
MAX_REQUESTS = 50_000
MAX_BYTES = 200_000_000
