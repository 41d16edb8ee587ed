"""The protocol between communities: signed envelopes, what they carry, and how fast a peer may send them.

Pure, but for `key`, which reads and makes one credential file: no network, no clock, no database. What goes
over Matrix or HTTPS, and what is kept, is decided elsewhere; docs/link-protocol.md is the same in words, with
test vectors.

    canonical   strict JSON, one spelling per value (RFC 8785), hashes
    bodies      what is said: A2A 1.0 objects, a card, a grant
    envelope    who says it to whom, until when, and the signature over it
    opening     whether what arrived is believed, or the one code why not
    chain       who passed it on
    guard       how many events of a peer are taken, and when one is left in silence
    pseudonym   what a peer sees instead of a person and a room
    key         the community's own key
"""
