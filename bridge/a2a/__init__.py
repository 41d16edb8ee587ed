"""Links over HTTPS: the same signed envelopes as in a link room, carried by A2A 1.0 (docs/link-protocol.md).

    wire     what an envelope is as an A2A message, and an ask as an A2A task; pure
    card     the agent card that we show, signed, and what we read of another
    gate     who may speak at all: bearer token, size, rate; in front of everything
    server   asks come in: JSON-RPC by a2a-sdk, answered from the journal
    client   asks go out, and what became of them is fetched
    check    what `hearth check` says of it
    beside   the two of them beside a Matrix account: into the one journal, out of the one outbox

Needs the extra `a2a`; nothing here is imported unless `[a2a]` or `[[a2a_peers]]` is in the settings. Why
a2a-sdk serves the wire and none of its task store, and what of it is not relied on: docs/adr/0008.
"""

import logging

# What these log can quote a request, and with it what people asked; what matters of it is in our own log.
logging.getLogger("a2a").setLevel(logging.CRITICAL + 1)
logging.getLogger("httpx").setLevel(logging.WARNING)
