"""Mastodon behind the port: private and public mentions, on any server that speaks its API.

    feed ---- doorbell (the stream only rings) ---- client, wire, limits ---- Mastodon.py in threads
      |                                                  |
    translate, text (HTML to words)        post, render, audience (words to a chain of posts)
      |                                                  |
    thread (how a question stands, what was said before it), media (files), manners, login

What the code keeps to, each held by a test in `tests/mastodon/test_traps.py`:

- The REST cursor is the truth; a stream may lose, repeat or stop, and costs nothing but time.
- An answer is never seen by more people than its question, and calls nobody but its asker.
- What the asker could not see is no context. Nothing that third parties wrote is stored.
- A post whose fate is unknown is looked for before it is sent again.
- One call is one request, and every one is counted against the server's limits.
"""
