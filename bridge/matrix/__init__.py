"""Matrix behind the port: matrix-nio for encryption, our own sync loop, rendering and identity.

platform   the port itself: events, perform, find, receipts, typing
sync       the loop: what arrived since a cursor, gaps filled, keys kept fresh
translate  one event as the server sent it -> one `Event`, or nothing; pure
facts      what is known of a room from its state; pure
files      what a message says of its file, and what opens it; pure
media      the media repository: files fetched and put there
render     Markdown -> contents of events, cut to fit; pure
identity   cross-signing keys: who vouches for this device
session    the login: one device id for ever, one process at a time
invites    which rooms are entered, left or followed
poll       a vote as a poll (MSC3381), and the answers to it; pure
votes      polls and state as actions, votes read back from the room
search     whether an action already happened
client     matrix-nio, tamed: requests, decryption, key sharing
errors     every answer of a homeserver -> one of the four families; pure
"""
