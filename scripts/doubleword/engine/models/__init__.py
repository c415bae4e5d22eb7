"""What answers the requests of the embedded engine.

Nouns: a *responder* gives an *answer*, with an HTTP status, or none (`answer`). There are two: the bundled *models*
(`model`, with `openmp` for systems that lack it) and an *upstream*, any OpenAI-compatible server. The *proxy* stands
before both: it asks the account first, translates *responses* to chats and back, and puts *streams* together. The
*worker* takes pending requests out of the queue, has them answered, and writes the outcomes.

Promises: who answers makes no difference to proxy, worker and routes; what a responder cannot do is said with a 400,
never dropped; every wait has an end.
"""
