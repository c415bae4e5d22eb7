"""The embedded engine: the files and batches API of the server on this machine, over SQLite.

Nouns:
- a *route* answers a path of the API as the server does (`file_routes`, `batch_routes`, `realtime_routes`, gathered
  by `app`; `web` is what they share, `upload` what is read of a new file);
- the *store* keeps files, batches, requests and their outcomes; the *ledger* in it, what each answer cost (`storage`);
- a *responder* answers requests: the bundled models, or any OpenAI-compatible server; the *worker* has it answer
  those of the batches, through the *proxy* that the realtime routes take too (`models`);
- the *settings* say what an operator decides: limits, prices, the account behind the key, streamed dispatch;
- the *server* is the process around it.

Imports run routes -> models -> storage -> settings.

Promises: a client cannot tell its answers from the server's, as far as `app` lists them; nothing that was
acknowledged is lost, whenever the process is killed; it listens on loopback unless it is told otherwise.
"""
